"""The benchmarks compare the same networks, count right, and the page says what they measured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from benchmarks import document, lineup, speed, tables, workers
from benchmarks.__main__ import main
from benchmarks.peers.batches import batch_indices
from benchmarks.peers.protocol import Task
from benchmarks.results import read_results, save_section
from benchmarks.speed import Measurement, compare, from_trees, to_trees
from benchmarks.workers import ROOT, Peer, Worker
from click.testing import CliRunner

from resblock.files import write_json
from resblock.params import Recipe

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

NOISY_PEER = """
import os, sys
from benchmarks.peers.protocol import Task, Turns
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
    turns.end()
"""


@pytest.fixture
def make_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    """Make processes that keep to the protocol, print besides, and train nothing."""
    (tmp_path / "noisy_peer.py").write_text(NOISY_PEER)
    monkeypatch.setitem(workers.MODULES, "noisy", "noisy_peer")
    monkeypatch.setattr(speed, "PAUSE", 0.0)
    search = os.pathsep.join((str(tmp_path), str(ROOT)))

    def make(precision: str = "float32", *, network: str = "residual-20", parameters: int = 7) -> Peer:
        task = replace(TASK, precision=precision, network=network)
        return Peer("noisy", task, environment={"PYTHONPATH": search, "PARAMETERS": str(parameters)})

    return make


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
    return {"machine": machine, "speed": section, "fixed": {"measured": "2026-01-03", "costs": costs}}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("network", sorted(lineup.NETWORKS))
def test_stock_keras_trains_the_same_network(network: str, make_recipe: Callable[..., Recipe]) -> None:
    from benchmarks.peers.ours import make_network
    from benchmarks.peers.stock_keras import make_model

    task = replace(TASK, network=network)
    recipe = make_recipe(horizontal_flip=True, vertical_flip=True, batch_norm_momentum=0.99)
    ours, stock = make_network(task, recipe), make_model(task)
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


def test_peers_take_turns_whatever_else_they_print(make_peer: Callable[..., Peer]) -> None:
    measurements = compare([make_peer("float32"), make_peer("mixed_bfloat16")], 3, lambda _: None)
    assert [each.precision for each in measurements] == ["float32", "mixed_bfloat16"]
    for each in measurements:
        assert len(each.seconds) == 3
        assert (each.images, each.parameters, each.multiply_adds) == (8, 7, 10)
        assert each.peak_bytes > 2**20
    assert from_trees(to_trees(measurements)) == measurements


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
    page.write_text(text.replace("2.75 GB", "2.25 GB"))
    ended = run(main, ["document", "--check"])
    assert (ended.exit_code, "run make bench" in ended.output) == (1, True)
