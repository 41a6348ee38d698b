"""Where MLflow's UI listens, and how it is known that it does; tests/pipeline/test_ui.py looks at it in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resblock.core.errors import UserError
from resblock.tracking import ui
from resblock.tracking.store import ensure_experiment, open_store
from tests.conftest import free_port

LOOPBACK = "127.0.0.1"


@contextmanager
def listening(port: int, host: str = LOOPBACK) -> Generator[None]:
    """Another program at `port`."""
    with socket.create_server((host, port)):
        yield


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port that the UI tries first."""
    port = free_port()
    monkeypatch.setattr(ui, "LOCAL_PORT", port)
    return port


def test_the_data_set_that_was_run_last_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written last: a sync changes experiments, too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = open_store()
    places = {name: str(ensure_experiment(client, name, "text").experiment_id) for name in ("digits", "cifar10")}
    client.create_run(places["digits"], start_time=2_000)
    client.create_run(places["cifar10"], start_time=1_000)
    client.set_experiment_tag(places["cifar10"], "note", "written last")
    assert f"experiments/{places['digits']}/" in ui._fragment(None, ())  # pyright: ignore[reportPrivateUsage]


def test_without_a_port_the_usual_one_is_taken(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.free_port(LOOPBACK, None) == first
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("host", [LOOPBACK, "0.0.0.0"])
def test_a_taken_port_gives_way_to_the_next_one_and_that_is_said(
    host: str, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(first, host):
        port = ui.free_port(LOOPBACK, None)
    assert first < port < first + ui.PORTS
    assert capsys.readouterr().out == f"port {first} is taken by another program, so this takes {port}\n"


def test_a_port_that_can_be_bound_but_answers_already_is_taken(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is on a Mac, where AirPlay listens on all addresses."""
    with listening(first):
        monkeypatch.setattr(socket.socket, "bind", lambda *_: None)
        assert ui.free_port(LOOPBACK, None) > first


def test_a_port_that_was_asked_for_is_not_exchanged(first: int) -> None:
    with listening(first), pytest.raises(UserError, match=f"{LOOPBACK}:{first} .* --port"):
        ui.free_port(LOOPBACK, first)


def test_where_all_are_taken_a_person_is_asked(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "PORTS", 1)
    with listening(first), pytest.raises(UserError, match=f"{first} to {first} .* --port"):
        ui.free_port(LOOPBACK, None)


def test_an_address_of_another_machine_is_no_matter_of_ports(first: int) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1"):
        ui.free_port("192.0.2.1", None)


def test_an_address_of_ipv6_can_be_listened_on(first: int) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 here")
    assert ui.free_port("::1", None) == first
    with socket.create_server(("::1", first), family=socket.AF_INET6):
        assert ui.free_port("::1", None) > first


def test_a_server_that_ended_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as server:
        server.wait()
        ui._announce(server, f"http://{LOOPBACK}:9/health", "address", False)  # pyright: ignore[reportPrivateUsage]
    assert capsys.readouterr().out == ""


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    ensure_experiment(open_store(), "digits", "text")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho first >&2; echo no room for a server >&2; exit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(UserError, match="ended with code 3; no room for a server"):
        ui.serve("digits", LOOPBACK, None, allowed_hosts=(), browse=False, named=lambda _: None)


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object, **__: object) -> None:
        """Say nothing."""


def test_a_proxy_does_not_hide_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer((LOOPBACK, 0), Refusing))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{LOOPBACK}:{server.server_address[1]}/health"
        assert ui.answers(address)
        server.shutdown()
    assert not ui.answers(address)
