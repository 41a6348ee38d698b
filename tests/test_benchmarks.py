"""The benchmarks compare the same networks, count right, and the page says what they measured."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from benchmarks import document, large, lineup, side_by_side, speed, tables, workers
from benchmarks.__main__ import main
from benchmarks.peers.batches import batch_indices, epoch_batches
from benchmarks.peers.protocol import Epoch, Parts, Task, Turns
from benchmarks.results import read_results, save_section
from benchmarks.side_by_side import SideBySide, compare_side_by_side
from benchmarks.speed import Measurement, compare, from_trees, to_trees
from benchmarks.workers import ROOT, Peer, Worker
from click.testing import CliRunner

from resblock.core.files import write_json
from resblock.core.splits import Split, read_split

TASK = Task(
    network="residual-20",
    precision="float32",
    batch_size=4,
    steps=2,
    threads=1,
    data="",
    seed=0,
    learning_rate=0.001,
    momentum=0.99,
    epsilon=0.001,
)
EPOCH = Epoch(training=18, validation=9, reestimation=7, sample=7)

NOISY_PEER = """
import os, sys
from benchmarks.peers.protocol import Parts, Task, Turns
turns, task = Turns(), Task.from_json(sys.argv[1])
print("greetings of a library")
os.system("echo greetings of a program")
if task.network == "none-1":
    sys.exit("there is no such network")
if task.network == "none-2":
    turns.ready(parameters=7, versions={})
    os._exit(3)
turns.ready(parameters=int(os.environ["PARAMETERS"]), versions={"peer": "1.0"}, multiply_adds=10)
while True:
    turns.begin()
    print("more noise")
    turns.end(Parts({"train": 2.0, "checkpoint": 0.25}) if task.epoch else None)
"""


@pytest.fixture
def make_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    """Make processes that keep to the protocol, print besides, and train nothing."""
    (tmp_path / "noisy_peer.py").write_text(NOISY_PEER)
    for modules in (workers.MODULES, workers.EPOCH_MODULES):
        monkeypatch.setitem(modules, "noisy", "noisy_peer")
    for room in (speed, side_by_side):
        monkeypatch.setattr(room, "PAUSE", 0.0)
    search = os.pathsep.join((str(tmp_path), str(ROOT)))

    def make(precision: str = "float32", *, parameters: int = 7, **choices: Any) -> Peer:
        task = replace(TASK, precision=precision, **choices)
        return Peer("noisy", task, environment={"PYTHONPATH": search, "PARAMETERS": str(parameters)})

    return make


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder of a few made-up images, as the peers read them."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 20), ("validation", 10)):
        np.save(tmp_path / f"{split}_images.npy", draws.integers(0, 256, (count, 32, 32, 3), np.uint8))
        np.save(tmp_path / f"{split}_labels.npy", draws.integers(0, 10, count, np.int32))
    return str(tmp_path)


class TwoTurns(Turns):
    """Gives a peer two turns and keeps what it says."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.ended: list[dict[str, float]] = []

    def report(self, document: Any) -> None:
        self.said = dict(document)

    def begin(self) -> None:
        if len(self.ended) == 2:
            raise SystemExit

    def end(self, parts: Parts | None = None) -> None:
        self.ended.append(dict(parts.seconds) if parts else {})


def measured(implementation: str, *seconds: float, **others: Any) -> Measurement:
    values: dict[str, Any] = {
        "network": "residual-20",
        "implementation": implementation,
        "precision": "float32",
        "configuration": "",
        "batch_size": 128,
        "images": 1280,
        "seconds": seconds,
        "peak_bytes": 2**30,
        "parameters": 269_722,
        "multiply_adds": 40_000_000,
        "adam": "",
        "card": "",
        "versions": {implementation: "1.2"},
        **others,
    }
    return Measurement(**values)


def results_of(*measurements: Measurement) -> dict[str, Any]:
    machine = {"name": "A Processor, Linux", "cores": 2, "memory_bytes": 8 * 2**30, "python": "3.11.9"}
    section = {"measured": "2026-01-02", "threads": 2, "measurements": to_trees(measurements)}
    costs = [
        {"what": "`resblock --help`", "measured": 0.25, "limit": 0.3, "unit": "s"},
        {"what": "memory", "measured": 2.75, "limit": 2.5, "unit": "GB"},
    ]
    looks = [
        {
            "network": "residual-20",
            "precision": precision,
            "images": 14_000,
            "after_seconds": after,
            "forward_seconds": [4.0, 5.0, 8.0],
        }
        for precision, after in (("float32", [4.4, 6.0, 8.8]), ("mixed_bfloat16", [5.0, 6.0, 10.0]))
    ]
    epoch = measured("resblock", 30.0, 50.0, 40.0, images=9_000, parts={"train": (20.0, 40.0, 30.0)})
    dated = {"measured": "2026-01-03"}
    return {
        "machine": machine,
        "speed": section,
        "epoch": {**dated, "threads": 2, "measurements": to_trees([epoch])},
        "side-by-side": {**dated, "measurements": side_by_side.to_trees([TOGETHER])},
        "looks": {**dated, "threads": 2, "measurements": looks},
        "fixed": {**dated, "costs": costs},
    }


# Alone 100, 100 and 50 images a second; together 150, 160 and 100: 1.5, 1.6 and 2 times as many.
TOGETHER = SideBySide(
    network="residual-20",
    implementation="pytorch",
    precision="float32",
    configuration="channels-last",
    batch_size=128,
    images=2400,
    trainings=2,
    alone_seconds=(24.0, 24.0, 48.0),
    together_seconds=(32.0, 30.0, 48.0),
    versions={"torch": "2.0"},
)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("network", sorted(lineup.NETWORKS))
def test_stock_keras_trains_the_same_network(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers.ours import make_trainer
    from benchmarks.peers.stock_keras import make_model

    monkeypatch.chdir(ROOT)
    task = replace(TASK, network=network)
    train = Split(np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int32))
    ours, stock = make_trainer(task, train).network.model, make_model(task)
    assert [weight.shape for weight in stock.weights] == [weight.shape for weight in ours.weights]
    draws = np.random.default_rng(0)
    stock.set_weights([draws.uniform(0.05, 0.15, weight.shape) for weight in ours.weights])
    ours.set_weights(stock.get_weights())
    images = draws.integers(0, 256, (2, 32, 32, 3), np.uint8)
    given, expected = (np.asarray(model(images, training=False)) for model in (ours, stock))
    np.testing.assert_allclose(given, expected, rtol=1e-3)


def test_peers_of_one_seed_see_the_same_images_each_once_an_epoch() -> None:
    first, again = (list(itertools.islice(batch_indices(TASK, 19), 8)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert all(len(set(np.concatenate(first[start : start + 4]))) == 16 for start in (0, 4))
    other = next(batch_indices(replace(TASK, seed=1), 19))
    assert other.tolist() != first[0].tolist()


def test_an_epoch_shows_every_image_once_in_the_same_order_to_every_peer() -> None:
    first, again, second = (epoch_batches(TASK, 18, number) for number in (1, 1, 2))
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 2]
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(18))
    assert np.concatenate(first).tolist() == np.concatenate(again).tolist() != np.concatenate(second).tolist()


def test_a_task_reads_back_as_it_was_written() -> None:
    for task in (TASK, replace(TASK, epoch=EPOCH, layout="channels-last", compiled=True)):
        assert Task.from_json(task.to_json()) == task
    assert (TASK.images, replace(TASK, epoch=EPOCH).images) == (8, 18)


def test_a_shorter_epoch_keeps_its_proportions() -> None:
    assert lineup.scaled_epoch(45_000) == lineup.WHOLE_EPOCH
    assert lineup.scaled_epoch(9_000) == Epoch(training=9_000, validation=1_000, reestimation=400, sample=400)


@pytest.mark.usefixtures("backend")
def test_our_peer_trains_by_steps_and_by_epochs(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers.ours import train_epochs, train_steps

    monkeypatch.chdir(ROOT)
    task = replace(TASK, network="cnn-4", data=data)
    steps, epochs = TwoTurns(), TwoTurns()
    with pytest.raises(SystemExit):
        train_steps(task, steps)
    with pytest.raises(SystemExit):
        train_epochs(replace(task, epoch=EPOCH), EPOCH, epochs)
    assert steps.said == epochs.said
    assert steps.said["parameters"] == 113_738  # 896 + 18,496 + 73,856 of convolutions, 20,490 of the logits
    assert steps.ended == [{}, {}]
    assert [list(parts) for parts in epochs.ended] == [["train", "looks", "checkpoint"]] * 2
    assert all(seconds > 0 for parts in epochs.ended for seconds in parts.values())


@pytest.mark.usefixtures("backend")
def test_what_follows_an_epochs_steps_is_timed_in_turns_with_passes_forward(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.looks import Forward, measure

    monkeypatch.chdir(ROOT)
    shapes: list[list[int]] = []
    passes = Forward.seconds

    def seconds(forward: Any) -> float:
        shapes.append([part.shape[:2].as_list() for part in getattr(forward, "_calls")])  # noqa: B009
        return passes(forward)

    monkeypatch.setattr(Forward, "seconds", seconds)
    found: Any = measure(replace(TASK, network="cnn-4", data=data, epoch=EPOCH), EPOCH, 2)
    assert found["images"] == 9 + 9 + 7 + 7
    assert shapes == [[[8, 4]]] * 3  # the first round compiles, and does not count
    assert len(found["after_seconds"]) == len(found["forward_seconds"]) == 2
    assert min(*found["after_seconds"], *found["forward_seconds"]) > 0


def test_made_up_images_are_a_split_that_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "WRITTEN_AT_ONCE", 4)
    large.write_images(tmp_path, 10)
    train = read_split(tmp_path, "train")
    assert (train.images.shape, train.images.dtype, train.labels.shape) == ((10, 64, 64, 3), np.uint8, (10,))
    assert isinstance(train.images, np.memmap)
    assert len({image.tobytes() for image in train.images}) == 10  # none was left as zeros
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**8))  # pyright: ignore
    with pytest.raises(click.ClickException, match=r"0\.1 GB free, made-up images want 2\.5 GB"):
        large.write_images(tmp_path)


def test_peers_take_turns_whatever_else_they_print(make_peer: Callable[..., Peer]) -> None:
    measurements = compare([make_peer("float32"), make_peer("mixed_bfloat16")], 3, lambda _: None)
    assert [each.precision for each in measurements] == ["float32", "mixed_bfloat16"]
    for each in measurements:
        assert len(each.seconds) == 3
        assert (each.images, each.parameters, each.multiply_adds) == (8, 7, 10)
        assert each.peak_bytes > 2**20
    assert from_trees(to_trees(measurements)) == measurements


def test_epochs_say_what_their_parts_took(make_peer: Callable[..., Peer]) -> None:
    (measurement,) = measurements = compare([make_peer(epoch=EPOCH)], 2, lambda _: None)
    assert measurement.images == 18
    assert measurement.parts == {"train": (2.0, 2.0), "checkpoint": (0.25, 0.25)}
    assert from_trees(to_trees(measurements)) == measurements


def test_trainings_on_one_thread_each_take_turns_with_one_on_all(make_peer: Callable[..., Peer]) -> None:
    said: list[str] = []
    measurement = compare_side_by_side(make_peer(), 2, 3, said.append)
    assert [words.rpartition(" ")[2] for words in said if "warming up" in words] == ["2", "1", "1"]
    assert (measurement.trainings, measurement.images) == (2, 8)
    assert len(measurement.alone_seconds) == len(measurement.together_seconds) == 3
    assert side_by_side.from_trees(side_by_side.to_trees([measurement])) == [measurement]


def test_peers_that_differ_in_parameters_are_not_compared(make_peer: Callable[..., Peer]) -> None:
    with pytest.raises(click.ClickException, match=r"peers differ in parameters.*: 7.*: 8"):
        compare([make_peer("float32"), make_peer("mixed_bfloat16", parameters=8)], 1, lambda _: None)


def test_a_peer_that_fails_is_named_with_its_last_words(make_peer: Callable[..., Peer]) -> None:
    with pytest.raises(click.ClickException, match=r"noisy float32 ended with exit code 1:\n[^$]*no such network"):
        Worker(make_peer(network="none-1"))
    with Worker(make_peer(network="none-2")) as worker, pytest.raises(click.ClickException, match="exit code 3"):
        worker.turn()


def test_missing_images_and_a_missing_pytorch_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.ClickException, match=r"python: no such interpreter; make bench installs"):
        lineup.make_peer("pytorch", TASK, tmp_path / "python")
    monkeypatch.setattr(lineup, "ROOT", tmp_path)
    with pytest.raises(click.ClickException, match="dvc repro preprocess@cifar10"):
        lineup.make_task("residual-20", "float32")


def test_ratios_are_taken_within_rounds_against_the_faster_pytorch() -> None:
    ours = measured("resblock", 1, 2, 1)
    slow, fast = measured("pytorch", 4, 4, 4), measured("pytorch", 2, 2, 4, configuration="channels-last")
    other = measured("keras", 1, 1, 1, precision="mixed_bfloat16")  # of another precision: compared with nothing
    rows = tables.ratios([ours, slow, fast, other]).to_dict("records")
    # Round by round 2/1, 2/2, 4/1; their quartiles lie halfway to the median.
    assert rows == [
        {
            "network": "`residual-20`",
            "precision": "float32",
            "batch": "128",
            "against": "pytorch channels-last",
            "ratio": "2.00",
            "quartiles": "1.50 – 3.00",
            "to reach": "1.0",
            "held": "yes",
        }
    ]


def test_compiled_pytorch_has_a_ratio_of_its_own() -> None:
    peers = [measured("pytorch", 3), measured("pytorch", 0.5, configuration="channels-last, compiled")]
    rows = tables.ratios([measured("resblock", 1), *peers])
    assert list(rows["against"]) == ["pytorch", "pytorch channels-last, compiled"]
    assert list(rows["ratio"]) == ["3.00", "0.50"]
    assert list(rows["held"]) == ["yes", "no"]


def test_speed_counts_backward_as_twice_forward() -> None:
    (row,) = tables.speeds([measured("resblock", 1, 2, 4)]).to_dict("records")
    assert (row["images/s"], row["lowest – highest"]) == ("640", "320 – 1,280")
    assert row["multiply-adds/s"] == "77 G"  # 3 x 40 M x 640
    assert row["peak memory"] == "1.00 GiB"


def test_an_epochs_row_has_its_parts_in_median_seconds() -> None:
    parts = {"validate": (1.0, 1.0, 1.0), "reestimate": (0.5, 2.0, 0.75), "log": (0.25, 0.25, 0.25)}
    ours = measured("pytorch", 30, 50, 40, compile_seconds=61.2, parts={"train": (20.0, 40.0, 30.0), **parts})
    (row,) = tables.epochs([ours]).to_dict("records")
    assert list(row.values())[3:] == ["40.0", "30.0 – 50.0", "30.00", "1.75", "0.25", "61 s", "1.00 GiB"]


def test_side_by_side_counts_all_images_of_all_trainings() -> None:
    (row,) = tables.side_by_side([TOGETHER]).to_dict("records")
    assert row["implementation"] == "pytorch channels-last"
    assert list(row.values())[3:] == ["2", "100", "150", "1.60", "1.55 – 1.80"]


@pytest.mark.usefixtures("backend")
def test_a_profile_counts_operations_of_the_graph_alone(tmp_path: Path) -> None:
    from benchmarks.profile import read_operations
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    space = XSpace()
    for plane_name, milliseconds in (("/host:CPU", 2), ("/device:GPU:0", 50)):
        plane = space.planes.add(name=plane_name)
        events = plane.lines.add().events
        for number, name in enumerate(("a/stem/convolution:Conv2D", "b/x:Conv2D", "ThreadPool::Run", "a/y:Relu", "z")):
            plane.event_metadata[number].name = name
            events.add(metadata_id=number, duration_ps=milliseconds * 10**9)
    (tmp_path / "host.xplane.pb").write_bytes(space.SerializeToString())
    assert read_operations(tmp_path) == {"Conv2D": (2, 4.0), "Relu": (1, 2.0)}


def test_operations_beyond_those_shown_are_one_row() -> None:
    spent = {"Conv2D": 6.0, "ReluGrad": 1.0, "AddV2": 2.0, "Mul": 1.0}
    profile = {"operations": [{"operation": name, "count": 2, "milliseconds": ms} for name, ms in spent.items()]}
    rows = tables.operations(profile, shown=2).to_dict("records")
    assert [tuple(row.values()) for row in rows] == [
        ("`Conv2D`", "2", "6.0", "60.0%"),
        ("`AddV2`", "2", "2.0", "20.0%"),
        ("2 others", "4", "2.0", "20.0%"),
    ]


def test_a_section_replaces_its_own_kind_and_keeps_the_others(tmp_path: Path) -> None:
    save_section("fixed", {"costs": []}, tmp_path)
    save_section("speed", {"measurements": [1]}, tmp_path)
    path = save_section("speed", {"measurements": [2]}, tmp_path)
    (tree,) = read_results(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert (tree["speed"]["measurements"], tree["fixed"]["costs"]) == ([2], [])
    assert tree["machine"]["cores"] >= 1


def test_the_page_is_what_the_results_say() -> None:
    ended = CliRunner().invoke(main, ["document", "--check"])
    assert ended.exit_code == 0, ended.output


def test_a_page_that_says_otherwise_is_found_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, folder = tmp_path / "performance.md", tmp_path / "results"
    page.write_text(document.PAGE.read_text())
    write_json(folder / "a.json", results_of(measured("resblock", 1), measured("keras", 2)))
    monkeypatch.setattr("benchmarks.__main__.PAGE", page)
    monkeypatch.setattr("benchmarks.__main__.read_results", lambda: read_results(folder))
    run = CliRunner().invoke
    assert "not what the results say" in run(main, ["document", "--check"]).output
    assert run(main, ["document"]).exit_code == 0
    assert run(main, ["document", "--check"]).exit_code == 0
    text = page.read_text()
    assert "**A Processor, Linux, 2 cores, 8 GiB**, 2026-01-02" in text
    assert "| `residual-20` | float32 | 128 | keras | 2.00 | 2.00 – 2.00 | 1.5 | yes |" in text
    assert "| `resblock --help` | 0.25 s | 0.3 s | yes |" in text
    assert "| memory | 2.75 GB | 2.5 GB | no |" in text
    assert "3 rounds of an epoch cut to 9,000 images on 2 threads; resblock 1.2." in text
    assert "| 40.0 | 30.0 – 50.0 | 30.00 | 0.00 | 0.00 |" in text
    assert "3 rounds; torch 2.0." in text
    assert "| `residual-20` | pytorch channels-last | float32 | 2 | 100 | 150 | 1.60 | 1.55 – 1.80 |" in text
    # Round by round 1.1, 1.2, 1.1; and 1.25, 1.2, 1.25.
    assert "| `residual-20` | float32 | 14,000 | 6.00 | 5.00 | 1.10 | 1.10 – 1.15 | 1.15 | yes |" in text
    assert "| `residual-20` | mixed_bfloat16 | 14,000 | 6.00 | 5.00 | 1.25 | 1.23 – 1.25 | 1.15 | no |" in text
    page.write_text(text.replace("2.75 GB", "2.25 GB"))
    ended = run(main, ["document", "--check"])
    assert (ended.exit_code, "run make bench" in ended.output) == (1, True)
