"""MLflow's UI, started so that it shows the study."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser

from resblock.errors import UserError
from resblock.tracking.store import experiment_name, open_store, tracking_uri
from resblock.tracking.view import view_fragment

STARTING = 120  # seconds that a server may take to answer first


def serve(dataset: str | None, host: str, port: int, *, browse: bool) -> None:
    """Run the UI until it is interrupted; print where to look, once it answers.

    Raises UserError where no run has been logged yet or the port is taken.
    """
    if tracking_uri().startswith(("http:", "https:")):
        print(f"the runs are on a server: {tracking_uri().rstrip('/')}/{_fragment(dataset)}")
        return
    fragment = _fragment(dataset)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    address = f"http://{host}:{port}/{fragment}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri()]
    print("starting MLflow, this takes some seconds ...", flush=True)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    threading.Thread(target=_announce, args=(server, address, browse), daemon=True).start()
    try:
        code = server.wait()
    except BaseException:
        server.terminate()
        server.wait(timeout=10)
        raise
    raise UserError(f"the MLflow server ended with code {code}")


def _announce(server: subprocess.Popen[bytes], address: str, browse: bool) -> None:
    deadline = time.monotonic() + STARTING
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address.partition("#")[0] + "health", timeout=2):  # noqa: S310  (http, ours)
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    print(f"training runs with charts:\n  {address}\nCtrl-C ends it.", flush=True)
    if browse:
        webbrowser.open(address)


def _fragment(dataset: str | None) -> str:
    """Return the address's part that shows the training runs of `dataset`, or of the experiment used last."""
    client = open_store()
    if dataset is not None:
        experiment = client.get_experiment_by_name(experiment_name(dataset))
        if experiment is None:
            raise UserError(f"nothing has been logged for {dataset} yet; run `resblock run {dataset}` first")
        return view_fragment(experiment.experiment_id)
    experiments = client.search_experiments(
        filter_string="name LIKE 'resblock-%'", order_by=["last_update_time DESC"], max_results=1
    )
    if not experiments:
        raise UserError("nothing has been logged yet; run `make demo` first")
    return view_fragment(experiments[0].experiment_id)
