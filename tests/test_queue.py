"""`resblock run`: one queue for all, what is chosen, what a person sees, and how DVC's notes are kept."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Self, cast

import pytest
from dvc.utils.serialize import dumps_yaml, parse_yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from resblock.core.errors import UserError
from resblock.core.training.run import EpochRow
from resblock.params import Params
from resblock.running.board import Board, board, clock_time, reason
from resblock.running.cards import A_CARD, PREALLOCATE, VISIBLE, cards, variables_for
from resblock.running.engines.local import default_jobs
from resblock.running.queue import Queue, Unit, Where, first_stale, in_turn
from resblock.running.recorder import read_lock, spliced
from resblock.running.study import _Planner, others_at_work, work_off  # pyright: ignore[reportPrivateUsage]
from resblock.running.targets import choose
from resblock.stages.terminal import epoch_line, read_epoch_line

HERE: dict[Where, int] = {"here": 2}


def seeds(network: str, seconds: float, count: int, **options: Any) -> list[Unit]:
    return [
        Unit((f"train-{network}-{seed}", f"look-{network}-{seed}"), seconds, (), network, **options)
        for seed in range(count)
    ]


def names(units: Sequence[Unit]) -> list[str]:
    return [unit.stages[0] for unit in units]


# The queue.


def test_another_run_in_the_same_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "resblock"
    program.write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, str(program), "run", "digits"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.chdir(tmp_path)
        assert list(others_at_work()) == [process.pid]
        monkeypatch.chdir(tmp_path.parent)
        assert list(others_at_work()) == []
        process.kill()


def test_the_longest_go_first_whatever_data_set_they_are_of() -> None:
    queue = Queue([*seeds("digits-8", 5, 1), *seeds("cifar-56", 90, 1), *seeds("digits-56", 20, 1)], {"here": 1})
    order: list[str] = []
    while units := queue.take("here"):
        order += names(units)
        queue.release(units)
    assert order == ["train-cifar-56-0", "train-digits-56-0", "train-digits-8-0"]


def test_seeds_go_together_but_leave_the_others_their_share() -> None:
    """Ten seeds of 10 s for two workers: less than half of what is left, and single ones at the end."""
    queue = Queue(seeds("plain-8", 10, 10), HERE)
    sizes: list[int] = []
    while units := queue.take("here"):
        sizes.append(len(units))
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_trainings_of_hours_go_one_by_one() -> None:
    queue = Queue(seeds("plain-8", 3600, 10), HERE)
    assert len(queue.take("here")) == 1


def test_what_needs_others_waits_for_them_and_is_urgent_then() -> None:
    report = Unit(("report",), 1, needs=("train-a-0", "look-a-0"), urgent=True)
    queue = Queue([*seeds("a", 10, 1), report, *seeds("b", 5, 1)], HERE)
    assert names(queue.take("here")) == ["train-a-0"]
    queue.settle("train-a-0", well=True)
    assert queue.settle("look-a-0", well=True) == []
    assert names(queue.take("here")) == ["report"]


def test_whoever_waits_is_woken_by_what_ends() -> None:
    report = Unit(("report",), 1, needs=("train-a-0",))
    queue, found = Queue([*seeds("a", 10, 1), report], HERE), list[Unit]()
    queue.take("here")
    waiting = threading.Thread(target=lambda: found.extend(queue.take("here")))
    waiting.start()
    assert not found
    queue.settle("train-a-0", well=True)
    waiting.join(10)
    assert found == [report]


def test_a_failure_takes_with_it_what_needs_it_and_nothing_else() -> None:
    units = [
        Unit(("cut",), 1, urgent=True),
        Unit(("train", "look"), 1, needs=("cut",)),
        Unit(("report",), 1, needs=("train", "look")),
        *seeds("other", 1, 1),
    ]
    queue = Queue(units, {"here": 1})
    queue.take("here")
    assert queue.settle("cut", well=False) == [("train", "cut"), ("look", "cut"), ("report", "look")]
    assert names(queue.take("here")) == ["train-other-0"]
    assert queue.take("here") == []


def test_cores_are_shared_out_by_threads_and_a_greedy_one_runs_alone() -> None:
    units = [*seeds("wide", 9, 1, threads=3), *seeds("all", 8, 1, threads=0), *seeds("narrow", 7, 2, threads=1)]
    queue = Queue(units, {"here": 4}, cores=4)
    wide, narrow = queue.take("here"), queue.take("here")
    assert (names(wide), names(narrow)) == (["train-wide-0"], ["train-narrow-0"])  # 3 + 1 of 4; all four would not fit
    queue.release(wide)
    assert names(queue.take("here")) == ["train-narrow-1"]
    queue.release(narrow)
    queue.release(narrow)
    assert names(queue.take("here")) == ["train-all-0"]


def test_each_place_gets_its_own_units_and_a_closed_queue_gives_none() -> None:
    queue = Queue([*seeds("a", 1, 1, where="cluster"), *seeds("b", 1, 2)], {"here": 2, "cluster": 1})
    assert names(queue.take("here")) == ["train-b-0"]
    assert names(queue.take("cluster")) == ["train-a-0"]
    assert queue.take("cluster") == []
    queue.close()
    assert queue.take("here") == []


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 1e4)), max_size=6), st.integers(1, 12))
def test_every_unit_is_handed_out_once_and_a_hand_is_of_one_network(groups: list[tuple[int, float]], jobs: int) -> None:
    units = [unit for number, (count, seconds) in enumerate(groups) for unit in seeds(str(number), seconds, count)]
    queue, handed = Queue(units, {"here": jobs}), list[Unit]()
    while hand := queue.take("here"):
        assert len({unit.network for unit in hand}) == 1
        handed += hand
    assert sorted(names(handed)) == sorted(names(units))


def test_trainings_of_a_hand_come_first_and_each_before_its_evaluation() -> None:
    assert in_turn([Unit(("t0", "e0"), 1), Unit(("e1",), 1), Unit(("t2", "e2"), 1)]) == ["t0", "t2", "e0", "e1", "e2"]
    assert first_stale(("t0", "e0"), {"e0"}) == ("e0",)
    assert first_stale(("t0", "e0"), {"t0"}) == ("t0", "e0")
    assert first_stale(("t0", "e0"), {"t1"}) == ()


# What is chosen, and what of it is to run.


@pytest.fixture
def small(params: Params) -> Params:
    study = params.study.model_copy(update={"variants": ["cnn-4", "plain-8"], "seeds": [0, 1]})
    ablation = params.ablation.model_copy(update={"recipes": []})
    return params.model_copy(update={"study": study, "ablation": ablation})


def stages(params: Params, *targets: str) -> list[str]:
    return [stage for chosen in choose(params, targets) for stage in chosen.stages]


@pytest.fixture(autouse=True)
def _at_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def test_a_stage_is_chosen_with_what_it_needs(small: Params) -> None:
    cut = ["download@digits", "preprocess@digits"]
    one = ["train@digits-cnn-4-1", "evaluate@digits-cnn-4-1"]
    assert stages(small, "train@digits-cnn-4-1") == [*cut, one[0]]
    assert stages(small, "evaluate@digits-cnn-4-1") == [*cut, *one]
    assert stages(small, "train@digits-cnn-4-1", "evaluate@digits-cnn-4-1") == [*cut, *one]
    assert stages(small, "probe@digits") == [*cut, "probe@digits"]
    assert stages(small, "report@digits") == stages(small, "digits")
    assert len(stages(small, "digits")) == 2 + 1 + 2 * 2 * 2 + 1
    assert stages(small) == stages(small, "digits", "cifar10")
    assert stages(small, "train@*-cnn-4-0")[2::3] == ["train@digits-cnn-4-0", "train@cifar10-cnn-4-0"]


def test_what_is_not_there_is_refused_by_name(small: Params) -> None:
    with pytest.raises(UserError, match="train@digits-cnn-9: no stage of the study is called so"):
        choose(small, ["train@digits-cnn-9"])
    with pytest.raises(UserError, match=r"cifar100: not in study\.datasets"):
        choose(small, ["cifar100"])


def planned(
    params: Params, stale: set[str], *targets: str, apart: bool = False
) -> list[tuple[tuple[str, ...], set[str]]]:
    planner = _Planner(params, stale, apart)
    return [(unit.stages, set(unit.needs)) for chosen in choose(params, targets) for unit in planner.units(chosen)]


def test_what_follows_from_a_stale_stage_runs_too_and_nothing_else(small: Params) -> None:
    train, look = "train@digits-cnn-4-0", "evaluate@digits-cnn-4-0"
    assert planned(small, set(), "digits") == []
    assert planned(small, {look}, "digits") == [((look,), set()), (("report@digits",), {look})]
    assert planned(small, {train}, "digits") == [((train, look), set()), (("report@digits",), {train, look})]
    assert planned(small, {train}, "digits", apart=True)[:2] == [((train,), set()), ((look,), {train})]
    assert planned(small, {train}, train) == [((train,), set())]


def test_another_cut_runs_all_that_reads_it(small: Params) -> None:
    units = planned(small, {"preprocess@digits"}, "digits")
    assert units[0] == (("preprocess@digits",), set())
    assert {stage for stages, _ in units for stage in stages} == set(stages(small, "digits")) - {"download@digits"}
    assert all("preprocess@digits" in needs for _, needs in units[1:])


def test_deeper_networks_are_forecast_to_take_longer_and_cifar_longer_than_digits(params: Params) -> None:
    planner = _Planner(params, set(stages(params)), apart=False)
    seconds = {unit.stages[0]: unit.seconds for chosen in choose(params, []) for unit in planner.units(chosen)}
    assert seconds["train@digits-plain-8-0"] < seconds["train@digits-plain-32-0"]
    assert seconds["train@digits-plain-32-0"] < seconds["train@cifar10-plain-8-0"]


class Seats:
    """An engine without processes, which notes what it was asked for."""

    cores: int | None = None

    def __init__(self) -> None:
        self.slots: Mapping[Where, int] = HERE
        self.seats: list[Unit] = []

    def prepare(self, units: Sequence[Unit]) -> None: ...

    @contextmanager
    def seat(self, unit: Unit) -> Generator[dict[str, str]]:
        self.seats.append(unit)
        yield {"SEAT": unit.stages[0]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Stages:
    """Stands for DVC: notes the stages that it runs, of which some fail."""

    def __init__(self, failing: set[str], killed_in: str = "") -> None:
        self.failing, self.killed_in, self.ran = failing, killed_in, list[str]()

    def repro_each(self, stages: Sequence[str], variables: dict[str, str], listener: Any) -> None:
        assert variables
        for stage in stages:
            listener.said(stage, f"Running stage '{stage}':")
            self.ran.append(stage)
            listener.ended(stage, stage not in self.failing, [f"resblock: of {stage}"])
            if stage == self.killed_in:
                return

    def end(self) -> None:
        raise AssertionError("nothing is to be ended")


def test_a_failed_training_stops_no_other_and_takes_its_report_with_it(small: Params) -> None:
    failing = "train@digits-cnn-4-0"
    planner = _Planner(small, set(stages(small)), apart=False)
    units = [unit for chosen in choose(small, []) for unit in planner.units(chosen)]
    dvc, shown = Stages({failing}), Board(planner.seconds, 2, Console(file=io.StringIO()))
    dvc.failing.add("evaluate@digits-cnn-4-0")  # as DVC does where what it needs is missing
    engine = Seats()
    work_off(cast(Any, dvc), engine, Queue(units, HERE), shown, len(units))
    assert shown.failed == {
        failing: f"of {failing}",
        "evaluate@digits-cnn-4-0": f"not run, since {failing} failed",
        "report@digits": f"not run, since {failing} failed",
    }
    assert set(dvc.ran) == set(stages(small)) - {"report@digits"}
    assert dvc.ran.index("report@cifar10") > dvc.ran.index("evaluate@cifar10-plain-8-1")
    assert [unit.stages[0] for unit in engine.seats[:2]] == ["download@digits", "download@cifar10"]


def test_where_dvc_is_killed_nothing_waits_for_what_it_did_not_come_to(small: Params) -> None:
    first = "train@digits-cnn-4-0"
    planner = _Planner(small, {first}, apart=False)
    units = [unit for chosen in choose(small, ["digits"]) for unit in planner.units(chosen)]
    shown, engine = Board(planner.seconds, 2, Console(file=io.StringIO())), Seats()
    work_off(cast(Any, Stages({first}, first)), engine, Queue(units, HERE), shown, len(units))
    assert list(shown.failed) == [first, "report@digits", "evaluate@digits-cnn-4-0"]
    planner = _Planner(small, {first}, apart=False)
    shown = Board(planner.seconds, 2, Console(file=io.StringIO()))
    work_off(cast(Any, Stages(set(), first)), engine, Queue(units, HERE), shown, len(units))
    assert shown.failed == {
        "evaluate@digits-cnn-4-0": "not begun, since DVC ended before",
        "report@digits": "not run, since evaluate@digits-cnn-4-0 failed",
    }


# What a person sees.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


ROW = EpochRow(3, 0.1, 1.0, 0.5, 1.0, 0.61, 1.0, 0.625, 1.0, 0.7)


@pytest.fixture
def shown() -> tuple[Board, Clock, io.StringIO]:
    said, clock = io.StringIO(), Clock()
    return Board({"train-a": 100.0, "train-b": 100.0, "look": 10.0}, 2, Console(file=said), clock), clock, said


def test_an_epoch_line_is_read_back() -> None:
    assert read_epoch_line(epoch_line(ROW, 20)) == (3, 20, 0.625)
    assert read_epoch_line("goes on after epoch 3, from its checkpoint") is None


def rendered(shown: Board) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(shown)
    return file.getvalue()


def test_the_table_shows_what_runs_how_far_it_is_and_what_is_left(shown: tuple[Board, Clock, io.StringIO]) -> None:
    table, clock, _ = shown
    table.said("train-a", "Running stage 'train-a':")
    table.said("train-b", "Running stage 'train-b':")
    clock.now = 30.0
    table.said("train-a", epoch_line(ROW, 20))
    clock.now = 40.0
    table.ended("train-b", False, ["a line", "resblock: no room", "and a trace"])
    text = " ".join(rendered(table).split())
    assert "train-a 3/20 62.5% 0:40" in text
    assert "failed: train-b no room" in text
    assert "1 running, 0 done, 1 failed, 1 waiting" in text


def test_time_left_follows_the_epochs_and_how_forecasts_did(shown: tuple[Board, Clock, io.StringIO]) -> None:
    table, clock, _ = shown
    assert table.seconds_left == 105  # 210 s for two
    table.said("train-a", "begins")
    clock.now = 50.0
    table.ended("train-a", True, ["done"])  # twice as fast as forecast
    assert table.seconds_left == (100 + 10) / 2 / 2
    table.said("train-b", "begins")
    for epoch, at in ((1, 60.0), (2, 65.0)):
        clock.now = at
        table.said("train-b", epoch_line(EpochRow(epoch, *[0.1] * 9), 20))
    assert table.seconds_left == 18 * 5  # one cannot be shared


def test_elsewhere_a_line_tells_each_stage_and_a_table_at_the_end_what_failed() -> None:
    said = io.StringIO()
    with board({"train": 1.0, "look": 1.0}, 1, Console(file=said)) as shown:
        shown.ended("train", False, ["epoch 1/2", "resblock: no room"])
        shown.ended("look", False, ["not run, since train failed"])
    assert said.getvalue().splitlines() == [
        "[1/2] train  epoch 1/2",
        "[1/2] train  resblock: no room",
        "[2/2] look  not run, since train failed",
        "",
        "failed  why",
        "train   no room",
        "look    not run, since train failed",
    ]


def test_on_a_terminal_the_table_lives_and_lines_stand_above_it() -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=100, color_system=None)
    with board({"train": 1.0}, 1, console) as shown:
        shown.said("train", epoch_line(ROW, 20))
        shown.ended("train", True, ["epoch 20/20 [not markup]"])
    assert "[1/1] train  epoch 20/20 [not markup]" in said.getvalue()
    assert "1 running, 0 done" in said.getvalue() or "0 running, 1 done" in said.getvalue()


def test_the_reason_of_a_failure_is_the_message_to_a_person() -> None:
    assert reason(["epoch 1/2", "resblock: disk full; free some", "later"]) == "disk full; free some"
    assert reason(["Traceback", "ValueError: a fault", ""]) == "ValueError: a fault"
    assert reason([]) == "it said nothing"
    assert [clock_time(seconds) for seconds in (42, 727, 12000)] == ["0:42", "12:07", "3:20:00"]


# Cores and cards.


def test_one_card_never_gets_a_training_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resblock.running.engines.local.available_cores", lambda: 16)
    assert default_jobs([1, 2]) == 16
    assert default_jobs([4]) == 4
    assert default_jobs([0]) == 1
    assert default_jobs([1], cards_here=1) == A_CARD
    assert default_jobs([1], cards_here=4) == 4 * A_CARD
    assert default_jobs([16], cards_here=4) == 1


def test_cards_are_those_that_keras_may_see_and_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses: list[bool] = [True]
    monkeypatch.setattr("resblock.running.cards._keras_uses_one", lambda: uses[0])
    monkeypatch.delenv(VISIBLE, raising=False)
    assert cards(tmp_path / "none") == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert cards(tmp_path) == ["0", "1"]
    monkeypatch.setenv(VISIBLE, "3, GPU-a")
    assert cards(tmp_path) == ["3", "GPU-a"]
    assert variables_for("3") == {VISIBLE: "3", PREALLOCATE: "false"}
    uses[0] = False
    assert cards(tmp_path) == []
    monkeypatch.setenv(VISIBLE, "-1")
    assert cards(tmp_path) == []


# How DVC's notes are kept.


def lock(*entries: tuple[str, Any]) -> str:
    return dumps_yaml({"schema": "2.0", "stages": {name: deepcopy(value) for name, value in entries}})


def entry(name: str, value: Any) -> str:
    return dumps_yaml({"stages": {name: value}}).removeprefix("stages:\n")


ENTRY = {
    "cmd": "resblock train digits plain-8 0",
    "deps": [{"path": "data", "nfiles": 7}],
    "params": {"p": {"a": [1, None]}},
}
OTHER = {"cmd": "word " * 40, "outs": [{"path": "x" * 120, "md5": "0"}]}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_entry_takes_its_place_as_dvc_would_put_it(place: int) -> None:
    before: list[tuple[str, Any]] = [("train@a-1", ENTRY), ("train@a-10", ENTRY), ("train@a", ENTRY)]
    after = [*before]
    after[place] = (before[place][0], OTHER)
    assert spliced(lock(*before), entry(*after[place])) == lock(*after)


def test_a_new_entry_stands_at_the_end_and_what_is_not_dvcs_is_left_to_dvc() -> None:
    text = lock(("train@a", ENTRY))
    assert spliced(text, entry("look@a", OTHER)) == lock(("train@a", ENTRY), ("look@a", OTHER))
    for odd in ("", "stages: {}\n", text + "datasets:\n- name: x\n", "# mine\n" + text, text.rstrip("\n")):
        assert spliced(odd, entry("look@a", OTHER)) is None
    assert spliced(text, entry("a: b", OTHER)) is None


ODD = ["1e-05", "yes", "off", "010", "0o17", "12:30", "1_000", "2026-11-27", "0e1234", "=", "<<", "~", ".5"]
WORDS = st.text(st.characters(codec="ascii"), max_size=9)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.sampled_from(ODD)


@given(st.dictionaries(st.sampled_from(["cmd", "path", "lr", "on"]), st.one_of(SCALARS, st.lists(SCALARS, max_size=3))))
def test_the_lock_is_read_as_dvc_reads_it(values: dict[str, Any]) -> None:
    text = lock(("train@a", {"params": {"params.yaml": {"train.digits": values}}}))
    found, expected = read_lock(text), parse_yaml(text, "dvc.lock")
    assert found == expected
    assert repr(found) == repr(expected)  # 1 is not 1.0


def test_the_published_lock_is_read_as_dvc_reads_it_and_what_is_not_dvcs_is_left_to_dvc() -> None:
    text = Path("dvc.lock").read_text()
    assert read_lock(text) == parse_yaml(text, "dvc.lock")
    assert len(read_lock(text)["stages"]) > 1
    assert read_lock("stages: {}\n") is None


def test_dvc_notes_a_stage_with_the_bytes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.cli import main as dvc
    from dvc.dvcfile import Lockfile

    from resblock.running import recorder

    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(
        "stages:\n  make:\n    matrix: {seed: [0, 1, 10]}\n"
        "    cmd: echo ${item.seed} $(cat word) > out-${item.seed}\n    deps: [word]\n"
        "    outs: ['out-${item.seed}']\n"
    )
    Path("word").write_text("one")
    written: dict[Callable[[list[str]], int], list[bytes]] = {}
    monkeypatch.setattr(Lockfile, "dump_stages", Lockfile.dump_stages)  # put back at the end

    def served(arguments: list[str]) -> int:
        """Run it as one of the commands that a process is sent."""
        request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "word": "done"})
        command = [sys.executable, "-m", recorder.__name__]
        ended = subprocess.run(command, input=f"{request}\n{request}\n", capture_output=True, text=True, check=False)
        assert ended.stdout.splitlines().count("done") == 2
        return ended.returncode

    for run in (dvc, recorder.main, served):
        Path("dvc.lock").unlink(missing_ok=True)
        dvc(["init", "--no-scm", "--quiet", "--force"])
        for word in ("one", "two"):
            Path("word").write_text(word)
            assert run(["repro", "--quiet", "--force", "--single-item", "make@1", "make@0", "make@10"]) == 0
            written.setdefault(run, []).append(Path("dvc.lock").read_bytes())
    assert written[served] == written[recorder.main] == written[dvc]
    assert len(set(written[dvc])) == 2
