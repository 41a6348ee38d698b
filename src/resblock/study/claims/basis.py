"""What claims share: what the paper speaks of, which difference matters, how networks are compared and named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.study.interval import t_interval
from resblock.study.numbers import listed, points
from resblock.study.summary import Study
from resblock.study.verdicts import Contrast, Evidence, over_networks

# Of accuracy: two to three standard deviations of one good training's luck with its seed on CIFAR-10. What matters to
# whoever uses a network does not depend on how many images a study has, so it is the same on all data.
HALF_A_POINT = 0.005
SAME_COST = 0.1  # by what share the multiply-adds of two networks may differ that are said to cost the same
IRRELEVANT = (
    "threads",
    "reestimate_images",
    "gradient_epochs",
    "gradient_images",
)  # of a recipe: they change no result but its last bits
PAPERS_DATA = "cifar10"
# What the paper says of its training, and Keras' defaults of its time. Its 20 epochs are not among them: a longer
# training by the same recipe goes through them, and claims about epochs look at the curve.
PAPERS_RECIPE: Mapping[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.001,
    "schedule": "constant",
    "batch_size": 128,
    "weight_decay": 0.0,
    "precision": "float32",
    "rescale": True,
    "center": "none",
    "horizontal_flip": True,
    "vertical_flip": True,
    "flips": "independent",
    "crop_padding": 0,
    "batch_norm_momentum": 0.99,
    "batch_norm_epsilon": 0.001,
}


def not_the_papers_data(evidence: Evidence) -> str:
    """Say why a study is not of the paper's data; empty where it is."""
    return "" if evidence.base.study.dataset == PAPERS_DATA else f"it is said of {PAPERS_DATA}"


def not_the_papers_recipe(evidence: Evidence) -> str:
    """Say why a study is not of the paper's data by the paper's recipe; empty where it is."""
    recipe = {**Recipe.defaults(), **evidence.base.recipe}
    other = [f"{key}: {recipe[key]}" for key, value in PAPERS_RECIPE.items() if recipe.get(key, value) != value]
    if not evidence.base.recipe:
        other = ["there is no one recipe of all trainings"]
    by_recipe = f"it is said of the paper's recipe; here {', '.join(other)}" if other else ""
    return not_the_papers_data(evidence) or by_recipe


def the_papers_data(evidence: Evidence) -> str:
    """Say why a study is not of other data than the paper's; empty where it is."""
    return "" if not_the_papers_data(evidence) else f"it is said of data other than {PAPERS_DATA}"


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """Return the keys in which two recipes differ, but for those that change no result beyond its last bits."""
    return {key for key in {*first, *second} if first.get(key) != second.get(key)} - set(IRRELEVANT)


def nearest_in_cost(spec: ModelSpec, others: Iterable[ModelSpec], multiply_adds: Mapping[str, int]) -> ModelSpec | None:
    """Return which of `others` is nearest to `spec` in multiply-adds, within SAME_COST; None where none is."""
    ours = multiply_adds.get(spec.name, 0)
    apart = {other: abs(multiply_adds[other.name] - ours) for other in others if other.name in multiply_adds}
    within = {other: by for other, by in apart.items() if by <= SAME_COST * ours}
    return min(within, key=lambda other: (within[other], other.name), default=None)


def between(study: Study, metric: str, pairs: Mapping[str, tuple[ModelSpec, ModelSpec]], start: str = "") -> Contrast:
    """Return the mean over `pairs` of the first network's accuracy minus the second's, seed by seed.

    A diverged training counts at chance. Pairs that share no seed are left out, and then nothing is decided of all; of
    the others, seeds that one of them lacks are left out: the contrast's remarks name both. What is compared are the
    pairs by their names, after `start`.
    """
    known = study.accuracies(metric)
    together: dict[str, dict[int, float]] = {}
    for name, (first, second) in pairs.items():
        ours, theirs = known.get(first, {}), known.get(second, {})
        together[name] = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    there = [pairs[name] for name, row in together.items() if row]
    values, rounding = over_networks(together), 2 * study.rounding(metric)
    remarks = [*study.remarks(spec for pair in pairs.values() for spec in pair), *seeds_left_out(together, values)]
    absent = [name for name, row in together.items() if not row]
    awaited = f"the mean is to be over {listed(list(pairs))}, and of {listed(absent)} nothing is here"
    return Contrast(
        values,
        start + each_alone(together, rounding),
        margin=HALF_A_POINT,
        cannot=("supported", "refuted") if absent else (),  # some of several depths are another claim
        because=awaited if values and absent else "; ".join(remarks),
        rounding=rounding / max(len(there), 1),
        networks=len({spec for pair in there for spec in pair}),
        remarks=remarks,
    )


def each_alone(rows: Mapping[str, Mapping[int, float]], rounding: float) -> str:
    """Return the names of what a mean is over, each with its own number where there are several."""
    there = {name: list(row.values()) for name, row in rows.items() if row}
    if len(there) < 2:
        return "".join(there)
    return ", ".join(f"{name} {points(t_interval(values, rounding=rounding))}" for name, values in there.items())


def seeds_left_out(measure: Mapping[Any, Mapping[int, float]], values: Mapping[int, float]) -> list[str]:
    """Say which seeds of some networks, or pairs of them, have no part in `values`, since other networks lack them."""
    lost = sorted({seed for row in measure.values() for seed in row} - set(values))
    words = f"seed{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))}"
    return [f"{words} left out of all, since not every network has {'them' if len(lost) > 1 else 'it'}"] if lost else []
