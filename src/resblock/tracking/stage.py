"""One stage as one MLflow run, logged as it happens. Tracking that fails warns once and never stops a stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from resblock.signals import ARRIVED, uninterrupted
from resblock.tracking.patience import in_brief
from resblock.tracking.result import NOTE_TAG, PROCESS_TAG, STAGE_TAG, Result


class StageRun:
    """A run in the store, or the silent stand-in for it where the store fails."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._client: Any = None
        self._lost: Any = None  # the client, once it has failed
        self._experiment_id = ""
        self._run_id = ""
        self._logged_steps = 0
        self._result: Result | None = None
        self._monitor: Any = None
        self._opening: threading.Thread | None = None  # until the run is open
        self._begun = False  # whether that thread was started
        self._ending = ""  # how the stage ends, once it does

    @property
    def run_id(self) -> str | None:
        """The run's id, or None where there is no store to write into."""
        self._wait()
        return self._run_id if self._client is not None else None

    @property
    def client(self) -> Any:
        """MLflow's client, or None where there is no store to write into."""
        self._wait()
        return self._client

    def start_later(self, opening: Result, about: str, *, watch_machine: bool = False) -> None:
        """Do what `start` does when `open` is called, or when something is to be written."""
        self._opening = threading.Thread(
            target=self.start, args=(opening, about), kwargs={"watch_machine": watch_machine}, name="opens MLflow"
        )

    def open(self) -> None:
        """Begin to open a run that waits for it, beside what goes on; what is written next waits until it is open."""
        if self._opening is None or self._begun:
            return
        with uninterrupted():  # a start cut short leaves a thread that nobody waits for
            opening, self._opening, self._begun = self._opening, None, True
            with self._catching():
                opening.start()
                self._opening = opening

    def start(self, opening: Result, about: str, *, watch_machine: bool = False) -> None:
        """Open the run, or the one that a killed process of the same key left, and log what is known already."""
        with self._catching():
            from resblock.tracking.patience import PatientClient
            from resblock.tracking.reconcile import add_figures, find_lack
            from resblock.tracking.runs import create_run, reopen_run
            from resblock.tracking.store import ensure_experiment, open_store, tracking_uri

            client: Any = PatientClient(open_store())
            self._experiment_id = str(ensure_experiment(client, opening.dataset, about).experiment_id)
            run = reopen_run(client, self._experiment_id, opening)
            if run is None:
                run = create_run(client, self._experiment_id, opening, live=True)
            else:
                history = client.get_metric_history(run.info.run_id, "loss")
                self._logged_steps = 1 + max((metric.step for metric in history), default=-1)
            self._run_id, self._client = str(run.info.run_id), client
            add_figures(client, self._run_id, find_lack(client, run, opening, artifacts=False))
            if watch_machine:
                from resblock.tracking.system import start_monitor

                self._monitor = start_monitor(self._run_id, tracking_uri())

    def adopt(self, run_id: str, opening: Result) -> bool:
        """Write into the run that another program opened and will close.

        Refuse, with False, one of another experiment than the data set's: MLflow nests no runs across experiments.
        """
        with self.guard():
            from mlflow.entities import Param, RunTag

            from resblock.tracking.patience import PatientClient
            from resblock.tracking.process import this_process
            from resblock.tracking.store import find_experiment, open_store

            client: Any = PatientClient(open_store())
            self._experiment_id = str(client.get_run(run_id).info.experiment_id)
            home = find_experiment(client, opening.dataset)
            if home is None or str(home.experiment_id) != self._experiment_id:
                return False
            self._run_id, self._client = run_id, client
            tags = {STAGE_TAG: opening.stage, PROCESS_TAG: this_process()}
            client.log_batch(
                run_id,
                params=[Param(name, value) for name, value in opening.shown_params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
        return True

    def announce(self, run_id: str, name: str) -> None:
        """Link this run, under `name`, from the run that another program opened in another experiment."""
        with self.guard():
            if self._client is None:
                return
            link = f"[{name}](#/experiments/{self._experiment_id}/runs/{self._run_id})"
            self._client.set_tag(run_id, NOTE_TAG, f"What it did is in the run {link}.")

    def epoch(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch's numbers, unless a killed process of the same training has logged them already."""
        with self.guard():
            if self._client is None or step < self._logged_steps:
                return
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            self._client.log_batch(
                self._run_id, metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()]
            )

    def complete(self, describe: Callable[[], Result]) -> None:
        """Bring the run to the result that `describe` reads; its artifacts follow when the stage has ended well.

        Reading happens here, so that a file which cannot be described stops no stage either.
        """
        with self.guard():
            if self._client is None:
                return
            result = describe()
            from resblock.tracking.reconcile import add_figures, find_lack
            from resblock.tracking.runs import create_run

            self._stop_monitor()
            run = self._client.get_run(self._run_id)
            lack = find_lack(self._client, run, result, artifacts=False)
            if lack.conflict:  # an earlier process, on another machine, gave other numbers
                self._client.set_terminated(self._run_id, "KILLED")
                run = create_run(self._client, self._experiment_id, result, live=True)
                self._run_id = str(run.info.run_id)
                lack = find_lack(self._client, run, result, artifacts=False)
            add_figures(self._client, self._run_id, lack)
            self._result = result

    def show(self, describe: Callable[[], Result]) -> str | None:
        """Add to another stage's run what is known of its result by now, and return its id.

        A run that is not there, or is being written, is left to sync: None.
        """
        with self.guard():
            if self._client is None:
                return None
            result = describe()
            assert result.key is not None
            from resblock.tracking.reconcile import add_figures, find_lack
            from resblock.tracking.runs import find_run, is_being_written

            run = find_run(self._client, self._experiment_id, result.key)
            if run is None or is_being_written(run):
                return None
            lack = find_lack(self._client, run, result, artifacts=False)
            if not lack.conflict:
                add_figures(self._client, str(run.info.run_id), lack)
            return str(run.info.run_id)
        return None

    def live_runs(self) -> tuple[str, list[tuple[str, str, str]]]:
        """See `resblock.tracking.links.live_runs`; empty where the store fails."""
        with self.guard():
            if self._client is not None:
                from resblock.tracking.links import live_runs

                return live_runs(self._client, self._experiment_id)
        return "", []

    def leave(self, note: str, name: str, document: Mapping[str, Any]) -> None:
        """Describe the run by a Markdown note, and keep `document` among its artifacts as the JSON file `name`."""
        with self.guard():
            if self._client is None:
                return
            self._client.set_tag(self._run_id, NOTE_TAG, note)
            self._client.log_dict(self._run_id, dict(document), name)

    def end(self, status: str) -> None:
        """Close the run with MLflow's FINISHED, FAILED or KILLED; finished, it gets its artifacts and is live alone.

        One that was killed before it began to open leaves nothing there.
        """
        if status == "KILLED" and self._opening is not None and not self._begun:
            return
        self._ending = status
        self._wait()
        self._stop_monitor()
        if self._lost is not None:
            with suppress(Exception):  # of which a warning has told already
                self._lost.set_terminated(self._run_id, status)
        with self.guard():
            if self._client is None:
                return
            from resblock.tracking.reconcile import add_artifacts, find_lack
            from resblock.tracking.runs import supersede_others

            self._client.set_terminated(self._run_id, status)
            if status == "FINISHED" and self._result:
                supersede_others(self._client, self._experiment_id, self._result, self._run_id)
                run = self._client.get_run(self._run_id)
                add_artifacts(self._client, run, find_lack(self._client, run, self._result))

    @contextmanager
    def guard(self) -> Generator[None]:
        """Turn the first failure into a warning, and write nothing from then on but how the run ended."""
        self._wait()
        with self._catching():
            yield

    def _wait(self) -> None:
        """Return when the run is open, or cannot be opened."""
        self.open()
        if self._opening is not None:
            with uninterrupted():  # a join that was cut short takes the thread for ended
                self._opening.join()
            self._opening = None

    @contextmanager
    def _catching(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            self._lost, self._client = self._client or self._lost, None
            self._stop_monitor()
            if self._ending in ("KILLED", "FAILED"):
                self._warn(f"MLflow cannot be written, and does not show that this ended: {in_brief(error)}")
                return
            self._warn(
                f"MLflow cannot be written, this stage goes on without it: {in_brief(error)}. "
                "Its results are files as ever; once MLflow answers, `resblock sync` shows them there"
            )

    def _stop_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            from resblock.tracking.system import stop_monitor

            stop_monitor(monitor)


@contextmanager
def track(
    opening: Result,
    *,
    about: str,
    warn: Callable[[str], None],
    watch_machine: bool = False,
    later: bool = False,
    adopted: str | None = None,
) -> Generator[StageRun]:
    """Open a run for the block and close it truthfully: FINISHED, FAILED, or KILLED when a signal ended it.

    With `later`, the block says when by `StageRun.open`: importing MLflow and opening its store takes seconds.
    A run `adopted` by its id is written into, and closed by the program that opened it. Where it stands in another
    experiment than the data set's, it gets a link to the run that is opened here.
    """
    run = StageRun(warn)
    if adopted and run.adopt(adopted, opening):
        yield run
        return
    (run.start_later if later else run.start)(opening, about, watch_machine=watch_machine)
    if adopted:
        run.announce(adopted, opening.name)
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        run.end("KILLED")
        raise
    except BaseException:  # TensorFlow, cut short, may make an error of its own of it
        run.end("KILLED" if ARRIVED else "FAILED")
        raise
    run.end("FINISHED")
