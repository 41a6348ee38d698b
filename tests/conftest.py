"""Fixtures that several tests share: the real parameters, the smallest recipe, real images, one backend."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from resblock import paths
from resblock.core.backends import PINNED, start
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.data.download import fetch
from resblock.data.splits import write_splits
from resblock.data.table import find_dataset, prepare
from resblock.params import Params, Preparation, read_params
from resblock.paths import PARAMS

ROOT = Path(__file__).resolve().parent.parent

for name, value in PINNED["tensorflow"].items():  # before any file of tests imports Keras
    os.environ.setdefault(name, value)

# The same examples everywhere, and no clock: a busy machine must not fail a test.
settings.register_profile("resblock", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("resblock")


def pytest_configure() -> None:
    """Let the processes that tests start be interrupted: in `make test &` they would inherit that SIGINT is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Start Keras where tests have imported it, and let the garbage collector pass over all modules from now on.

    A test that computes without asking for `backend` would start it on all cores, and those that ask could not follow.
    """
    if "keras" in sys.modules:
        start(threads=1)
    gc.freeze()


# Begun first, in this order: the first makes the study that most files of tests/pipeline wait for, these others do not.
BEGUN_FIRST = ("test_interruption", "test_cifar10", "test_network_on_jax", "test_sync", "test_cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let processes that work side by side wait for each other as little as can be."""
    ranks = {name: rank for rank, name in enumerate(BEGUN_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def made_once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, name: str, make: Callable[[Path], object]
) -> Path:
    """Return the folder `name` that `make` fills, once for all of pytest-xdist's processes; they leave it as it is."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine if worker_id == "master" else mine.parent  # each process has a folder in one
    root, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(root, ignore_errors=True)  # of a process that failed
            root.mkdir()
            make(root)
            done.touch()
    return root


@pytest.fixture(scope="session")
def jax_compiles_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, str]:
    """Variables for processes on JAX, which compile for longer than they compute here: what one has, others take."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(made_once(tmp_path_factory, worker_id, "compiled", lambda _: None)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def run_at_once(write: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Call `write` with each number, each in a process of its own, at the same time; fail where one does.

    A process that has imported MLflow is copied, so that none is late. They start with today's environment and folder.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resblock.tracking.stage", "mlflow.store.tracking.sqlalchemy_store", "pytest"])
    started = [context.Process(target=_as_here, args=(dict(os.environ), Path.cwd(), write, n)) for n in numbers]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(started)


def _as_here(environment: dict[str, str], folder: Path, write: Callable[[int], None], number: int) -> None:
    """Call `write` in a process that may have been made under other circumstances."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    write(number)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Put back what a command, run in this process, sets for as long as its process lives."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _stores_are_copied(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """Begin MLflow's SQLite files in this process as copies of one: its migrations from the first version take 4 s."""
    if "mlflow" not in sys.modules:  # no file of tests that was collected needs a store
        yield
        return
    from mlflow.store.db import utils
    from sqlalchemy import Engine, create_engine

    make = utils._initialize_tables  # pyright: ignore[reportPrivateUsage]

    def make_first(folder: Path) -> None:
        engine = create_engine(f"sqlite:///{folder / 'mlflow.db'}")
        make(engine)
        engine.dispose()

    def copy(engine: Engine) -> None:
        if engine.dialect.name != "sqlite":
            make(engine)
            return
        first = made_once(tmp_path_factory, worker_id, "first-store", make_first) / "mlflow.db"
        with closing(sqlite3.connect(first)) as source, closing(engine.raw_connection()) as target:
            assert target.driver_connection is not None
            source.backup(target.driver_connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copy)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def params() -> Params:
    """What the repository's own params.yaml says."""
    return read_params(ROOT / PARAMS)


@pytest.fixture(scope="session")
def backend() -> int:
    """Keras, brought up once for all tests; the number of threads it computes on."""
    return start(threads=1)


@pytest.fixture(scope="session")
def make_recipe(params: Params) -> Callable[..., Recipe]:
    """Make recipes that train in seconds; what a test is about it names itself."""
    smallest = {
        **params.train["digits"].tree(),
        "epochs": 2,
        "batch_size": 64,
        "learning_rate": 0.001,
        "schedule": "constant",
        "reestimate_images": 128,
    }

    def make(**choices: Any) -> Recipe:
        return Recipe.from_tree({**smallest, **choices})

    return make


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw digits, as the download stage leaves them."""
    folder = tmp_path_factory.mktemp("data") / "raw" / "digits"
    fetch(find_dataset("digits").source, folder, say=lambda _: None)
    return folder


@pytest.fixture(scope="session")
def digits(digits_folder: Path) -> dict[SplitName, Split]:
    """All real digits, cut in three."""
    preparation = Preparation(test_fraction=0.2, validation_fraction=0.1, split_seed=0)
    return prepare(find_dataset("digits"), digits_folder, preparation)


def write_digits(root: Path, splits: dict[SplitName, Split]) -> None:
    """Put `splits` of the digits where stage preprocess of the project in `root` leaves them."""
    classes = find_dataset("digits").classes
    write_splits(root / paths.splits("digits"), splits, name="digits", classes=classes, source="scikit-learn")


@pytest.fixture(scope="session")
def few_digits(digits: dict[SplitName, Split]) -> dict[SplitName, Split]:
    """Real digits for the shortest trainings: 250 to train on, so that the last of four batches of 64 is smaller."""
    sizes: dict[SplitName, int] = {"train": 250, "validation": 100, "test": 100}
    return {name: Split(split.images[: sizes[name]], split.labels[: sizes[name]]) for name, split in digits.items()}


@pytest.fixture(scope="session")
def small_study(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, digits: dict[SplitName, Split], backend: int
) -> Path:
    """A project whose study, three networks after one epoch on real digits, went through the stages.

    Its MLflow store holds their runs, their models and the champion. Tests read it and leave it as it is.
    """

    def make(root: Path) -> None:
        from resblock.stages import evaluate, report, train
        from resblock.stages.workplace import Workplace

        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(root):
            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
                patch.delenv(name, raising=False)
            text = (ROOT / PARAMS).read_text()
            text = re.sub(r"variants: .*", "variants: [cnn-4, residual-8]", re.sub(r"seeds: .*", "seeds: [0, 1]", text))
            PARAMS.write_text(re.sub(r"epochs: 20  .*", "epochs: 1", text))
            write_digits(root, digits)
            workplace = Workplace()
            for variant, seed in (("cnn-4", 0), ("cnn-4", 1), ("residual-8", 0)):
                key = RunKey("digits", ModelSpec.parse(variant), seed)
                train.run(key, workplace.workshop)
                evaluate.run(key, workplace)
            report.run("digits")

    return made_once(tmp_path_factory, worker_id, "small-study", make)
