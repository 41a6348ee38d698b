"""MLflow's UI, started so that it shows the study."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from resblock.core.errors import UserError, one_line
from resblock.tracking.store import experiment_name, open_store, tracking_uri
from resblock.tracking.view import view_fragment

STARTING = 120  # seconds that a server may take to answer first


def serve(dataset: str | None, host: str, port: int, *, allowed_hosts: Sequence[str], browse: bool) -> None:
    """Run the UI until it is interrupted; print where to look, once it answers.

    Besides this machine's own, it answers to `allowed_hosts`, names by which browsers may ask for it; beyond loopback
    it must have some. Raises UserError where they are missing, no run has been logged yet, or the port is taken.
    """
    if tracking_uri().startswith(("http:", "https:")):
        print(f"the runs are on a server: {tracking_uri().rstrip('/')}/{_fragment(dataset)}")
        return
    if not _is_loopback(host):
        _say_what_it_means(host, allowed_hosts)
    fragment = _fragment(dataset)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    address = f"http://{allowed_hosts[0] if allowed_hosts else host}:{port}/{fragment}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri(), *_answering_to(allowed_hosts, port)]
    print("starting MLflow, this takes some seconds ...", flush=True)
    # MLflow would start eight more processes for jobs that judge language models.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    health = f"http://{host}:{port}/health"
    threading.Thread(target=_announce, args=(server, health, address, browse), daemon=True).start()
    try:
        code = server.wait()
    except BaseException:
        server.terminate()
        server.wait(timeout=10)
        raise
    raise UserError(f"the MLflow server ended with code {code}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say_what_it_means(host: str, allowed_hosts: Sequence[str]) -> None:
    """Say what listening beyond loopback means; refuse it where nobody said by which name."""
    danger = (
        f"with --host {host}, whoever reaches this machine can read, change and delete every run, without a password"
    )
    if not allowed_hosts:
        raise UserError(
            f"{danger}. If that is meant, say by which name browsers ask for it, for instance --allowed-hosts "
            f"{socket.gethostname()}; docs/team-server.md sets up a server with passwords"
        )
    print(f"warning: {danger} (docs/team-server.md sets up a server with passwords)", file=sys.stderr, flush=True)


def _answering_to(allowed_hosts: Sequence[str], port: int) -> list[str]:
    """Return the server's options for names other than its defaults, which a list of names replaces."""
    if not allowed_hosts:
        return []
    names = [*allowed_hosts, "localhost", "127.0.0.1"]
    hosts = ",".join(f"{name},{name}:*" for name in names)  # a Host header names the port, unless it is 80
    origins = ",".join(f"http://{name}:{port}" for name in names)
    return ["--allowed-hosts", hosts, "--cors-allowed-origins", origins]


def _announce(server: subprocess.Popen[bytes], health: str, address: str, browse: bool) -> None:
    deadline = time.monotonic() + STARTING
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=2):  # noqa: S310  (http, ours)
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    print(f"training runs with charts:\n  {address}\nCtrl-C ends it.", flush=True)
    if browse:
        webbrowser.open(address)


def _fragment(dataset: str | None) -> str:
    """Return the address's part that shows the training runs of `dataset`, or of the experiment used last."""
    try:
        return view_fragment(_experiment(open_store(), dataset))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"MLflow at {tracking_uri()} cannot be read: {one_line(error)}") from None


def _experiment(client: MlflowClient, dataset: str | None) -> str:
    if dataset is not None:
        experiment = client.get_experiment_by_name(experiment_name(dataset))
        if experiment is None:
            raise UserError(f"nothing has been logged for {dataset} yet; run `resblock run {dataset}` first")
        return str(experiment.experiment_id)
    experiments = client.search_experiments(
        filter_string="name LIKE 'resblock-%'", order_by=["last_update_time DESC"], max_results=1
    )
    if not experiments:
        raise UserError("nothing has been logged yet; run `make demo` first")
    return str(experiments[0].experiment_id)
