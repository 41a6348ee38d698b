"""How long stages took on this machine, as their live runs say."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from resblock.tracking.process import on_this_machine
from resblock.tracking.result import NAME_TAG, PROCESS_TAG, SOURCE_TAG
from resblock.tracking.store import all_runs, database_file, find_experiment, open_store


def last_durations(datasets: Iterable[str]) -> dict[str, float]:
    """Return the seconds of each stage's newest finished run that was logged on this machine as it ran.

    Nothing where there is no store, or it does not answer: whoever asks can do without.
    """
    file = database_file()
    if file and not file.exists():  # a look must not make a store
        return {}
    found: dict[str, float] = {}
    try:
        client = open_store()
        for dataset in datasets:
            experiment = find_experiment(client, dataset)
            runs = all_runs(client, experiment.experiment_id, "attributes.status = 'FINISHED'") if experiment else []
            for run in runs:
                tags = run.data.tags
                if tags.get(SOURCE_TAG) == "live" and on_this_machine(tags.get(PROCESS_TAG)) and run.info.end_time:
                    found.setdefault(tags.get(NAME_TAG, ""), (run.info.end_time - run.info.start_time) / 1000)
    except (MlflowException, SQLAlchemyError, OSError):
        return found
    return found
