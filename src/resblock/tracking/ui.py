"""MLflow's UI, started so that it shows the study."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from resblock.core.errors import UserError
from resblock.tracking.links import LOCAL_PORT
from resblock.tracking.patience import in_brief
from resblock.tracking.result import EXPERIMENT_TAG, LIVE, NAME_TAG, STUDY_TAG
from resblock.tracking.store import EXPERIMENTS, all_runs, database_file, experiment_name, open_store, tracking_uri
from resblock.tracking.view import save_view, view_fragment

Naming = Callable[[str], Collection[str] | None]  # a data set to the trainings on it that the study names

STARTING = 120  # seconds that a server may take to answer first
PORTS = 20  # how many are tried where none was asked for


def serve(
    dataset: str | None,
    host: str,
    port: int | None,
    *,
    allowed_hosts: Sequence[str],
    browse: bool,
    named: Naming,
    here: Collection[str] = (),
) -> None:
    """Run the UI until it is interrupted; print where to look, once it answers.

    Besides this machine's own, it answers to `allowed_hosts`, names by which browsers may ask for it; beyond loopback
    it must have some. Without a `port` it takes the first free one from 5000. Raises UserError where names are missing,
    no run has been logged yet, or the port is taken. Of each data set `named` tells the trainings that the study names;
    the view shows those. `here` are the data sets that have results, logged or not.
    """
    if tracking_uri().startswith(("http:", "https:")):
        print(f"the runs are on a server: {tracking_uri().rstrip('/')}/{_fragment(dataset, here)}")
        return
    if not _is_loopback(host):
        _say_what_it_means(host, allowed_hosts)
    fragment = _fragment(dataset, here, named)
    port = free_port(host, port)
    address = f"http://{allowed_hosts[0] if allowed_hosts else _in_address(host)}:{port}/{fragment}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri(), *_answering_to(allowed_hosts, port)]
    print("starting MLflow, this takes some seconds ...", flush=True)
    # MLflow would start eight more processes for jobs that judge language models.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    health = f"http://{_in_address(host)}:{port}/health"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=told)  # noqa: S603
        threading.Thread(target=_announce, args=(server, health, address, browse), daemon=True).start()
        try:
            code = server.wait()
        except BaseException:
            server.terminate()
            server.wait(timeout=10)
            raise
        told.seek(0)
        last = [line.strip() for line in told if line.strip()][-1:]
    raise UserError("; ".join([f"the MLflow server ended with code {code}", *last]))


def free_port(host: str, wanted: int | None) -> int:
    """Return the port to listen on: `wanted`, or the first free one from 5000 where none is asked for.

    Raises UserError where `wanted` is taken, or `host` cannot be listened on at all.
    """
    ports = [wanted] if wanted else range(LOCAL_PORT, LOCAL_PORT + PORTS)
    for port in ports:
        reason = _obstacle(host, port)
        if reason is None:
            if port != ports[0]:
                print(f"port {ports[0]} is taken by another program, so this takes {port}", flush=True)
            return port
        if reason.errno != errno.EADDRINUSE or wanted:
            raise UserError(f"cannot listen on {host}:{port} ({reason.strerror}); choose another with --port")
    raise UserError(f"ports {ports[0]} to {ports[-1]} of {host} are taken; choose another with --port")


def _obstacle(host: str, port: int) -> OSError | None:
    """Return what keeps a server from listening there; None where nothing does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    # On a Mac one can bind what another program (AirPlay, at 5000) has for all addresses; then both would answer.
    with socket.socket(family) as probe:
        probe.settimeout(1)
        taken = probe.connect_ex((host, port)) == 0
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) if taken else None


def _in_address(host: str) -> str:
    """Return `host` as it stands in an address: a number of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


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
    while not answers(health):
        if server.poll() is not None or time.monotonic() > deadline:
            return  # whoever waits for the server says how it ended
        time.sleep(0.3)
    print(f"training runs with charts:\n  {address}\nCtrl-C ends it.", flush=True)
    if browse:
        webbrowser.open(address)


def answers(address: str) -> bool:
    """Return whether a server of this machine answers at `address`. A proxy in the environment cannot reach it."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=2):
            return True
    except urllib.error.HTTPError:  # it refuses, but it is there
        return True
    except OSError:
        return False


def _fragment(dataset: str | None, here: Collection[str], named: Naming | None = None) -> str:
    """Return the address's part that shows the training runs of `dataset`, or of the one that was run last.

    With `named` the view is brought up to date first, with what it is to show.
    """
    file = database_file()
    if file and not file.exists():  # a look must not make a store
        raise UserError(_nothing_logged(dataset, here))
    try:
        client = open_store()
        experiment = _experiment(client, dataset, here)
        if named:
            with suppress(MlflowException, SQLAlchemyError):  # a store that may only be read is shown as it is
                save_view(client, experiment)
                _tell_apart(client, experiment, named)
        return view_fragment(str(experiment.experiment_id))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"MLflow at {tracking_uri()} cannot be read: {in_brief(error)}") from None


def _tell_apart(client: MlflowClient, experiment: Experiment, named: Naming) -> None:
    """Say on each training whether the study names it by now, as `resblock sync` does; experiments of DVC's stay."""
    names = named(str(experiment.name).removeprefix(EXPERIMENTS))
    for run in all_runs(client, str(experiment.experiment_id), LIVE) if names is not None else []:
        word = "true" if run.data.tags.get(NAME_TAG) in (names or ()) else "false"
        if EXPERIMENT_TAG not in run.data.tags and run.data.tags.get(STUDY_TAG) != word:
            client.set_tag(run.info.run_id, STUDY_TAG, word)


def _experiment(client: MlflowClient, dataset: str | None, here: Collection[str]) -> Experiment:
    if dataset is not None:
        experiment = client.get_experiment_by_name(experiment_name(dataset))
        if experiment is None:
            raise UserError(_nothing_logged(dataset, here))
        return experiment
    experiments = {
        str(each.experiment_id): each for each in client.search_experiments(filter_string=f"name LIKE '{EXPERIMENTS}%'")
    }
    if not experiments:
        raise UserError(_nothing_logged(dataset, here))
    last = client.search_runs(list(experiments), order_by=["attributes.start_time DESC"], max_results=1)
    return experiments[str(last[0].info.experiment_id)] if last else next(iter(experiments.values()))


def _nothing_logged(dataset: str | None, here: Collection[str]) -> str:
    if here if dataset is None else dataset in here:
        words = f"for {dataset} yet" if dataset else "yet"
        return f"nothing has been logged {words}, but results are here; `resblock sync` shows them"
    if dataset is None:
        return "nothing has been logged yet; run `resblock run digits` first"
    return f"nothing has been logged for {dataset} yet; run `resblock run {dataset}` first"
