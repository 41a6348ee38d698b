"""Where a browser finds the runs of a store."""

from __future__ import annotations

from typing import Any

from resblock.tracking.result import KEY_TAG, NAME_TAG, SUPERSEDED_TAG
from resblock.tracking.store import all_runs, tracking_uri

LOCAL_PORT = 5000  # of `resblock ui`, where nothing else is said


def live_runs(client: Any, experiment_id: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Return where the UI answers, and the name, key and page of each result's live run in an experiment, by name."""
    uri = tracking_uri()
    home = uri.rstrip("/") if uri.startswith(("http:", "https:")) else f"http://127.0.0.1:{LOCAL_PORT}"
    runs = all_runs(client, experiment_id, f"tags.`{SUPERSEDED_TAG}` = 'false' and tags.`{KEY_TAG}` LIKE '%'")
    start = f"{home}/#/experiments/{experiment_id}/runs"
    return home, sorted((r.data.tags[NAME_TAG], r.data.tags[KEY_TAG], f"{start}/{r.info.run_id}") for r in runs)
