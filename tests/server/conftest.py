"""A team's server for the tests: PostgreSQL, S3 and MLflow, one of each for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.server.services import ADMINISTRATOR, MEMBERS, S3, MlflowServer, Postgres, postgres, postgres_programs, s3


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres(programs) as server:
        yield server


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def team_server(
    database_server: Postgres, bucket: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """The server as the guide sets it up, with an account for each member of the team."""
    server = MlflowServer(
        tmp_path_factory.mktemp("mlflow"),
        database_server.database("mlflow"),
        bucket,
        accounts=database_server.database("mlflow_auth"),
    )
    with server.running():
        for member in MEMBERS:
            answer = requests.post(
                f"{server.address}/api/2.0/mlflow/users/create",
                auth=(ADMINISTRATOR.name, ADMINISTRATOR.password),
                json={"username": member.name, "password": member.password},
                timeout=30,
            )
            answer.raise_for_status()
        yield server
