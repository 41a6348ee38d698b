"""The course of a campaign: rounds of a study, each disturbed, then brought to its end and compared."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from tests.chaos.kinds import KINDS, on_cluster
from tests.chaos.scene import RUN, Launch, Scene
from tests.chaos.state import EndState, differences, end_state, left_behind, misrecorded

IN_A_ROUND = 18  # faults, after which a study is let to its end
PAUSE = (0.3, 3.5)  # seconds between faults
CUT = (8, 25)  # seconds of a runner, once faults of a whole life alone are left: several of them disturb one study
PATIENCE = 1200  # seconds for a runner, or for what one left behind, to end
BARREN = 2  # studies without a fault, after which what is left is given up
TRIES = 4  # undisturbed ones, to bring a study to its end


@dataclass(frozen=True)
class Event:
    """One fault."""

    round: int
    second: float  # since the campaign began
    kind: str
    what: str


@dataclass
class Campaign:
    """Faults of a `deck` of kinds, one after the other, until none is left; `log` gets a line of JSON for each."""

    scene: Scene
    pristine: Path  # the project before anything was run in it
    expected: EndState
    deck: list[str]
    log: IO[str]
    events: list[Event] = field(default_factory=list[Event], init=False)
    wrong: list[str] = field(default_factory=list[str], init=False)
    _round: int = field(default=0, init=False)
    _begin: float = field(default_factory=time.monotonic, init=False)

    def go_on(self, lines: Iterable[str]) -> None:
        """Take over the rounds that an earlier process finished, from the lines of its log."""
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
        finished = {entry["round"]: entry for entry in entries if "ended" in entry}
        for entry in entries:
            if "kind" in entry and entry["round"] in finished and entry["kind"] in self.deck:
                self.deck.remove(entry["kind"])
                self.events.append(Event(**entry))
        for number, entry in finished.items():
            if entry["ended"] != "well":
                self.wrong += [f"round {number}: {words}" for words in entry["ended"]]
        self._round = max((entry["round"] for entry in entries), default=0)
        self._begin -= max((entry["second"] for entry in finished.values()), default=0.0)

    @property
    def seconds(self) -> float:
        """How long the campaign has taken."""
        return time.monotonic() - self._begin

    def run(self) -> None:
        """Disturb studies until the deck is empty, or what is left in it has not happened to several in a row."""
        barren = 0
        while self.deck and barren < BARREN:
            self._round += 1
            before = len(self.events)
            self.scene.begin_anew(self.pristine)
            self._disturb()
            self._conclude()
            barren = 0 if len(self.events) > before else barren + 1

    def _disturb(self) -> None:
        """Start the runner again and again, with faults, until the study is done or there were enough of them."""
        until = len(self.events) + IN_A_ROUND
        while self.deck and len(self.events) < until:
            self.scene.runner = self.scene.start(RUN, self._launch())
            done = self._live(until)
            self.scene.tick(settle=True)
            if done:
                return
            time.sleep(self.scene.dice.choice([0.0, 0.5, 3.0]))

    def _launch(self) -> Launch:
        """Return how the runner starts: with a fault of its whole life or on a cluster, half of the times.

        Always, where no other faults are left.
        """
        if again := self.scene.again:
            self.scene.again = None
            return again
        kinds = [kind for kind in dict.fromkeys(self.deck) if KINDS[kind].start or KINDS[kind].cluster]
        others = set(self.deck) - set(kinds)
        if not kinds or (others and self.scene.dice.random() < 0.5):
            return Launch()
        kind = self.scene.dice.choice(kinds)
        start = KINDS[kind].start
        if start is None:
            return on_cluster(self.scene)
        if begun := start(self.scene):
            what, launch = begun
            self._note(kind, what)
            return launch
        self.deck = [each for each in self.deck if each != kind]  # this machine cannot
        return Launch()

    def _live(self, until: int) -> bool:
        """Disturb a runner until it ends; return whether it ended well."""
        runner, pause = self.scene.runner, self.scene.dice.uniform(*PAUSE)
        assert runner is not None
        deadline, next_fault = time.monotonic() + PATIENCE, time.monotonic() + pause
        lives_alone = self.deck and all(KINDS[kind].start for kind in self.deck)
        cut = time.monotonic() + self.scene.dice.uniform(*CUT) if lives_alone else math.inf
        while runner.poll() is None:
            self.scene.tick()
            if len(self.events) < until and time.monotonic() > next_fault:
                self._strike()
                next_fault = time.monotonic() + self.scene.dice.uniform(*PAUSE)
            if time.monotonic() > cut:
                runner.send_signal(signal.SIGINT)
                cut = math.inf
            if time.monotonic() > deadline:
                self.wrong.append(f"round {self._round}: a runner did not end within {PATIENCE} s")
                self.scene.end_all()
            time.sleep(0.05)
        return runner.returncode == 0

    def _strike(self) -> None:
        """Let the next fault of the deck happen that can; those of a cluster first, which seldom can."""
        for kind in sorted(dict.fromkeys(self.deck), key=lambda kind: not KINDS[kind].cluster):
            act = KINDS[kind].act
            if act and (what := act(self.scene)):
                self._note(kind, what)
                return

    def _note(self, kind: str, what: str) -> None:
        self.deck.remove(kind)
        event = Event(self._round, round(self.seconds, 1), kind, what)
        self.events.append(event)
        self._write(**event.__dict__)

    def _write(self, **entry: object) -> None:
        print(json.dumps(entry), file=self.log, flush=True)
        print(" ".join(str(value) for value in entry.values()), flush=True)

    def _conclude(self) -> None:
        """Bring the study to its end, undisturbed, and compare it."""
        found = list(self._to_the_end())
        if not found:
            state = end_state(self.scene.root)
            found = differences(state, self.expected) + misrecorded(self.scene.root) + left_behind(self.scene.root)
        second = round(self.seconds, 1)
        self._write(round=self._round, second=second, ended=found or "well")
        self.wrong += [f"round {self._round}: {words}" for words in found]

    def _to_the_end(self) -> Iterator[str]:
        """Run what is stale until all is well; yield what stays wrong."""
        deadline = time.monotonic() + PATIENCE
        while any(True for _ in self.scene.at_work()) and time.monotonic() < deadline:
            time.sleep(0.2)  # what a killed runner left may still be at work
        if left := [" ".join(words) for _, words in self.scene.at_work()]:
            yield f"still at work after {PATIENCE} s: {left}"
            self.scene.end_all()
        for number in range(1, TRIES + 1):
            try:
                code = self.scene.call(*RUN, patience=PATIENCE)
            except psutil.TimeoutExpired:
                yield f"undisturbed try {number} did not end within {PATIENCE} s"
                self.scene.end_all()
                continue
            if code == 0:
                break
            self._write(round=self._round, try_that_failed=number)
            self.scene.call("resblock", "doctor", "--mend")
        else:
            yield f"{TRIES} undisturbed tries did not bring the study to its end"
            return
        if self.scene.call("resblock", "sync"):
            yield "resblock sync failed"
        if self.scene.call("resblock", "sync", "--check"):
            yield "MLflow does not show what the files say"
        if self.scene.call("dvc", "status", "--quiet"):
            yield "dvc status is not content"


def shuffled_deck(kinds: Sequence[str], faults: int, dice: random.Random) -> list[str]:
    """Return so many faults, each kind as often as any other, give or take one, in an order that the dice choose."""
    deck: list[str] = []
    while len(deck) < faults:
        deck += dice.sample(list(kinds), len(kinds))
    return deck[:faults]


def table(events: Sequence[Event], wrong: Sequence[str]) -> Iterator[str]:
    """Yield a Markdown table of what happened how often, and what came of it."""
    count = Counter(event.kind for event in events)
    rounds = len({event.round for event in events})
    yield "| fault | what happens | times |"
    yield "| --- | --- | --: |"
    for name, kind in KINDS.items():
        if count[name]:
            yield f"| {name} | {kind.about} | {count[name]} |"
    yield f"| **{len(count)} kinds** | in {rounds} studies | **{len(events)}** |"
    yield ""
    yield f"Wrong at the end: {len(wrong) or 'nothing'}."
    for words in wrong:
        yield f"- {words}"
