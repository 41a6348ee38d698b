"""The real services of a team's server, started for a test: on loopback, on free ports, in temporary folders."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg2

from tests.conftest import free_port

LOOPBACK = "127.0.0.1"
BUCKET = "resblock-mlflow"
HOST = "mlflow.example.org"  # what the team calls its server
STARTING = 120.0  # seconds; a busy machine takes its time
BINARIES = Path(sys.executable).parent


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs (Debian keeps them off the path), or None without it."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, with nothing in it about tracking or S3 but `variables`."""
    ours = ("MLFLOW_", "AWS_", "RESBLOCK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{BINARIES}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **variables}


@dataclass(frozen=True)
class Account:
    """A name and a password on a server."""

    name: str
    password: str

    @property
    def variables(self) -> dict[str, str]:
        """What a member of the team sets on their machine."""
        return {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}


ADMINISTRATOR = Account("keeper", "long enough: twelve")
MEMBERS = (Account("ada", "the first password"), Account("kurt", "the second password"))


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server that lives as long as the test session."""

    port: int

    def database(self, name: str) -> str:
        """Make an empty data base with an owner of its own, as docs/team-server.md does; return its address."""
        administrator = psycopg2.connect(f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres")
        administrator.autocommit = True  # a data base is not made within a transaction
        with administrator.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
            cursor.execute(f"CREATE DATABASE {name} OWNER {name}")
        administrator.close()
        # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3.
        return f"postgresql+psycopg2://{name}:secret@{LOOPBACK}:{self.port}/{name}"


@dataclass(frozen=True)
class S3:
    """An S3 server with one empty bucket."""

    address: str

    @property
    def variables(self) -> dict[str, str]:
        """What the MLflow server must know; its clients need none of it."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stored(self) -> set[str]:
        """Return the name of every object in the bucket."""
        pages = _s3_client(self.address).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@contextmanager
def postgres(programs: Path) -> Generator[Postgres]:
    """Run PostgreSQL. It refuses to run as root: there, the user `postgres` of Debian's package runs it."""
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="resblock-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data, port = folder / "data", free_port()
        subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--no-sync"],
            check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        settings = {"listen_addresses": LOOPBACK, "unix_socket_directories": name, "fsync": "off"}
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        command += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        server = Postgres(port)

        def answers() -> bool:
            try:
                psycopg2.connect(f"postgresql://postgres@{LOOPBACK}:{port}/postgres").close()
            except psycopg2.OperationalError:
                return False
            return True

        with _running(command, folder / "log", answers, user=user, end=signal.SIGINT):
            yield server


@contextmanager
def s3(folder: Path) -> Generator[S3]:
    """Run an S3 server with an empty bucket in it."""
    server = S3(f"http://{LOOPBACK}:{(port := free_port())}")
    command = [str(BINARIES / "moto_server"), "--host", LOOPBACK, "--port", str(port)]
    with _running(command, folder / "s3.log", lambda: responds(f"{server.address}/moto-api/")):
        _s3_client(server.address).create_bucket(Bucket=BUCKET)
        yield server


@dataclass(frozen=True)
class MlflowServer:
    """`mlflow server` on PostgreSQL and S3, as docs/team-server.md starts it.

    It may be ended and started again, at the same address. With `accounts`, the address of a data base, it asks for a
    name and a password and answers to the name HOST only.
    """

    folder: Path
    store: str
    bucket: S3
    accounts: str = ""
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    @contextmanager
    def running(self) -> Generator[None]:
        """Start the server, wait until it answers, and end it after the block."""
        command = [str(BINARIES / "mlflow"), "server", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", f"s3://{BUCKET}", "--host", LOOPBACK, "--port", str(self.port)]
        command += ["--workers", "2"]
        variables = {**self.bucket.variables, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self.accounts:
            settings = self.folder / "accounts.ini"
            settings.write_text(
                f"[mlflow]\ndatabase_uri = {self.accounts}\nadmin_username = {ADMINISTRATOR.name}\n"
                "default_permission = EDIT\n"
            )
            command += ["--app-name", "basic-auth", "--allowed-hosts", f"{HOST}:*,{LOOPBACK}:*"]
            command += ["--cors-allowed-origins", f"http://{HOST}:{self.port}"]
            variables["MLFLOW_AUTH_CONFIG_PATH"] = str(settings)
            variables["MLFLOW_AUTH_ADMIN_PASSWORD"] = ADMINISTRATOR.password
            variables["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "any text that every worker shares"
        with _running(
            command, self.folder / "mlflow.log", lambda: responds(f"{self.address}/health"), variables=variables
        ):
            yield


@contextmanager
def _running(
    command: list[str],
    log: Path,
    answers: Callable[[], bool],
    *,
    user: str | None = None,
    variables: Mapping[str, str] | None = None,
    end: signal.Signals = signal.SIGTERM,
) -> Generator[None]:
    """Run a server for the block, in a process group of its own that is gone afterwards."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment(**(variables or {})), cwd=log.parent, user=user,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + STARTING
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(end)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
        process.wait()


def responds(address: str) -> bool:
    """Return whether a server answers there, whatever it says."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _s3_client(address: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
