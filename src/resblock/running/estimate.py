"""How long stages will take, and how much room and memory.

A training takes multiply-adds times images over a throughput: its own network's on this machine, if one has been
trained here, else that of the network nearest in multiply-adds, else what a measurement of seconds finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heapreplace
from itertools import pairwise
from statistics import median

from resblock.core.recipe import BASE, Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.costs import own_first
from resblock.params import Params
from resblock.running import speed
from resblock.running.speed import Past, shape_of
from resblock.running.stale import Step

# Where no earlier run says it, by rule of thumb: seconds, or epochs of the training that is looked at.
START = 10.0  # DVC's first look, and the workers' import of Keras
BETWEEN = 4.0  # from one training's last epoch to the next one's first: DVC, MLflow, files
LOOK_EPOCHS, LOOK_SECONDS = 3.0, 4.0  # one evaluation: all images by both statistics, closer looks; what is compiled
PROBE_SECONDS = 1.5  # one untrained network
OTHERS = {"download": 4.0, "preprocess": 4.0, "report": 20.0}  # without the web, whose speed nobody knows
RESTORED = 0.5
SHARE_MEASURED = 0.8  # of an epoch that its steps take; the rest is what is measured after it

# For an order of work where nothing was trained here before, and nobody waits for a measurement.
LAYER_WORK = (
    2_200  # multiply-adds for each layer and pixel: residual-20 and residual-110 have 2,000 and 2,200 (He et al.)
)
LAYER_WEIGHTS = 13_500
WORK_A_SECOND = 1.5e10  # forward passes in an epoch, one thread
FIRST_STEPS = 0.25  # seconds for each layer: graphs are built and compiled
SLOWEST = 8  # times that, on any machine: a first epoch that took longer was paused

PROCESS_BYTES = 900_000_000  # a worker with TensorFlow, before any image
FLOAT_BYTES = 4
WORK_PER_ACTIVATION = 200  # multiply-adds for each activation, in networks of 3x3 convolutions with 16 to 64 filters
KEPT_PER_ACTIVATION = 3  # what a step keeps of each: convolved, normalised, rectified
WEIGHT_COPIES = 3  # in the results, in DVC's cache, in MLflow's model

SIDE_BY_SIDE = (("download", "preprocess"), ("probe", "train", "evaluate"), ("report",))  # about as `resblock run` does


@dataclass(frozen=True)
class Forecast:
    """What one stage will take, and how that is known."""

    seconds: float
    basis: str


@dataclass
class Estimator:
    """Forecasts for stages of the study that `params` describes.

    `durations` says how long stages took here the last time. `measure` and `count` are those of `speed`.
    """

    params: Params
    past: Sequence[Past]
    durations: Mapping[str, float] = field(default_factory=dict[str, float])
    measure: Callable[[str, ModelSpec, Recipe], tuple[float, float]] = speed.measure
    count: Callable[[str, ModelSpec, Recipe], tuple[int, int]] = speed.count
    _counts: dict[tuple[str, str], tuple[int, int]] = field(
        default_factory=dict[tuple[str, str], "tuple[int, int]"], init=False
    )
    _measured: dict[tuple[str, str], tuple[float, float]] = field(
        default_factory=dict[tuple[str, str], "tuple[float, float]"], init=False
    )

    def forecast(self, step: Step) -> Forecast:
        """Return how long a stage will take by itself, once Keras is imported."""
        if step.action != "run":
            return Forecast(RESTORED, "DVC's cache")
        if step.kind == "train" and step.key:
            return self.training(step.key)
        if step.stage in self.durations:
            return Forecast(self.durations[step.stage] + BETWEEN / 2, "earlier run")
        return Forecast(self._by_rule(step), "rule of thumb")

    def training(self, key: RunKey) -> Forecast:
        """Return how long a training will take."""
        epoch, beginning, basis = self._epoch(key)
        epochs = self.params.recipe(key.dataset, key.recipe).epochs
        return Forecast(beginning + epochs * epoch + self._between(), basis)

    def looking(self, key: RunKey) -> float:
        """Return how long an evaluation of a training will take, by rule."""
        return self._epoch(key)[0] * LOOK_EPOCHS + LOOK_SECONDS

    def probing(self, dataset: str) -> float:
        """Return how long a look at a data set's untrained networks will take, by rule."""
        probing = self.params.probing(dataset)
        return len(probing.variants) * len(probing.seeds) * PROBE_SECONDS

    def other(self, kind: str) -> float:
        """Return how long a stage of another kind will take, by rule."""
        return OTHERS.get(kind, max(OTHERS.values()))

    def total(self, steps: Sequence[Step], jobs: int) -> float:
        """Return the wall clock of all `steps`, `jobs` side by side, the longest first."""
        total = START if any(step.action == "run" for step in steps) else 0.0
        for kinds in SIDE_BY_SIDE:
            total += _makespan([self.forecast(step).seconds for step in steps if step.kind in kinds], jobs)
        return total

    def disk(self, step: Step) -> int:
        """Return the bytes that a stage will add: as its last run did, or by its network's parameters."""
        if step.action != "run":
            return 0
        if step.bytes or step.kind != "train" or not step.key:
            return step.bytes * WEIGHT_COPIES
        return self._counted(step.key)[1] * FLOAT_BYTES * WEIGHT_COPIES

    def memory(self, keys: Iterable[RunKey], jobs: int) -> int:
        """Return the bytes that `jobs` of the trainings of `keys` take at most, side by side."""
        return sum(sorted((self._memory(key) for key in keys), reverse=True)[:jobs])

    def _memory(self, key: RunKey) -> int:
        shape, recipe = shape_of(key.dataset), self.params.recipe(key.dataset, key.recipe)
        images = shape.images * math.prod(shape.image_shape)
        activations = self._counted(key)[0] // WORK_PER_ACTIVATION * KEPT_PER_ACTIVATION
        return PROCESS_BYTES + images + recipe.batch_size * activations * FLOAT_BYTES

    def _by_rule(self, step: Step) -> float:
        if step.kind == "evaluate":
            keys = [step.key] if step.key else self._looked_at(step)
            return sum(map(self.looking, keys))
        return self.probing(step.dataset) if step.kind == "probe" else self.other(step.kind)

    def _looked_at(self, step: Step) -> list[RunKey]:
        """Return the trainings that one evaluation of many looks at."""
        if step.recipe == BASE:
            return self.params.study.keys(step.dataset)
        return self.params.ablation_keys(step.dataset, step.recipe)

    def _epoch(self, key: RunKey) -> tuple[float, float, str]:
        """Return the seconds of an epoch of `key`, what the first takes beyond that, and how it is known."""
        recipe = self.params.recipe(key.dataset, key.recipe)
        fitting = [past for past in self.past if past.precision == recipe.precision]
        if same := [past for past in fitting if (past.key.dataset, past.key.spec) == (key.dataset, key.spec)]:
            epoch, own = _unhindered(same), [past for past in same if past.key == key] or same
            return epoch, _beginning(own, epoch), "cost files"
        work = self._counted(key)[0] * shape_of(key.dataset).images
        if near := self._nearest(key, fitting):
            epoch, rate = _unhindered(near), max(past.work_per_second for past in near)
            return work / rate, _beginning(near, epoch), "cost files of another network"
        rate, beginning = self._rate(key, recipe)
        return work / rate / SHARE_MEASURED, beginning, "measured now"

    def _nearest(self, key: RunKey, past: Sequence[Past]) -> list[Past]:
        """Return the trainings of the network nearest in multiply-adds, on the same data set if there are any."""
        there = [each for each in past if each.key.dataset == key.dataset] or list(past)
        if not there:
            return []
        work = self._counted(key)[0]
        best = min(there, key=lambda each: abs(math.log(each.cost.multiply_adds / work)))
        return [each for each in there if (each.key.dataset, each.key.spec) == (best.key.dataset, best.key.spec)]

    def _rate(self, key: RunKey, recipe: Recipe) -> tuple[float, float]:
        """Return what one measurement finds; the first network asked for stands for all by this precision."""
        asked = (key.dataset, recipe.precision)
        if asked not in self._measured:
            self._measured[asked] = self.measure(key.dataset, key.spec, recipe)
        return self._measured[asked]

    def _counted(self, key: RunKey) -> tuple[int, int]:
        """Return multiply-adds and parameters: from a cost file of the network, made anywhere, or by building it."""
        known = self._counts.get((key.dataset, key.spec.name))
        if known is None:
            seeds = dict.fromkeys((key.seed, *self.params.study.seeds))
            taken = [own_first(RunKey(key.dataset, key.spec, seed, key.recipe)) for seed in seeds]
            if some := next(filter(None, taken), None):
                known = some.cost.multiply_adds, some.cost.parameters
            else:
                known = self.count(key.dataset, key.spec, self.params.recipe(key.dataset, key.recipe))
            self._counts[key.dataset, key.spec.name] = known
        return known

    def _between(self) -> float:
        """Return the seconds from one training's last epoch to the first one of the next seed, as they were here."""
        by_network: dict[tuple[str, str, str], list[Past]] = {}
        for past in self.past:
            by_network.setdefault((past.key.dataset, past.key.recipe, past.key.spec.name), []).append(past)
        gaps: list[float] = []
        for seeds in by_network.values():
            for earlier, later in pairwise(sorted(seeds, key=lambda past: past.cost.started)):
                begins = [datetime.fromisoformat(past.cost.started) for past in (earlier, later)]
                gaps.append((begins[1] - begins[0]).total_seconds() - earlier.cost.seconds)
        return median([gap for gap in gaps if 0 < gap < 5 * BETWEEN] or [BETWEEN])


def count_roughly(dataset: str, spec: ModelSpec, recipe: Recipe) -> tuple[int, int]:
    """Return about how many multiply-adds and parameters a network has, without building it: enough for an order."""
    shape = shape_of(dataset)
    pixels = math.prod(shape.image_shape[:2])
    return round(LAYER_WORK * spec.depth * spec.width**2 * pixels), LAYER_WEIGHTS * spec.depth


def rate_roughly(dataset: str, spec: ModelSpec, recipe: Recipe) -> tuple[float, float]:
    """Return multiply-adds a second, and the seconds of the first steps, of machines like the one of `START`."""
    return WORK_A_SECOND, FIRST_STEPS * spec.depth


def _unhindered(past: Iterable[Past]) -> float:
    """Return the seconds of an epoch while the machine did nothing else: other work only ever makes it longer."""
    return min(each.epoch for each in past)


def _beginning(past: Sequence[Past], epoch: float) -> float:
    """Return the seconds that a first epoch took beyond others of `epoch` seconds, but for pauses that fell into it."""
    layers = max(each.key.spec.depth for each in past)
    return min(median(each.beginning * epoch / each.epoch for each in past), SLOWEST * FIRST_STEPS * layers)


def _makespan(seconds: Iterable[float], jobs: int) -> float:
    """Return when the last of several jobs ends, `jobs` at a time, the longest first."""
    ends = [0.0] * jobs
    heapify(ends)
    for each in sorted(seconds, reverse=True):
        heapreplace(ends, ends[0] + each)
    return max(ends)
