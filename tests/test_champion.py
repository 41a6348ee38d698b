"""Which network and seed to use: examples worked by hand."""

from __future__ import annotations

import pytest

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import Score, Status, empty_score
from resblock.study.champion import best_seed, champion
from resblock.study.summary import Study


def finished(variant: str, seed: int, accuracy: float, loss: float = 1.0, test_accuracy: float = 0.5) -> Score:
    spec = ModelSpec.parse(variant)
    return Score(
        spec.name,
        spec.family,
        spec.depth,
        seed,
        "finished",
        validation_accuracy=1 - accuracy,  # as trained, which chooses nothing
        validation_loss=1 / loss,
        validation_accuracy_reestimated=accuracy,
        validation_loss_reestimated=loss,
        test_accuracy_reestimated=test_accuracy,
    )


def without_figures(variant: str, seed: int, status: Status) -> Score:
    return empty_score(ModelSpec.parse(variant), seed, status)


def crowned(*scores: Score) -> tuple[str, int]:
    best = champion(Study("digits", scores))
    assert best is not None
    return best.score.variant, best.score.seed


def test_the_highest_mean_wins_with_its_best_seed() -> None:
    # Means 0.85 and 0.80: the lucky 0.99 of plain-8 does not count, seed 1 is residual-8's best.
    plain = (finished("plain-8", 0, 0.61), finished("plain-8", 1, 0.99))
    residual = (finished("residual-8", 0, 0.80), finished("residual-8", 1, 0.90))
    assert crowned(*plain, *residual) == ("residual-8", 1)


def test_the_test_split_chooses_nothing() -> None:
    low = [finished("plain-8", seed, 0.7, test_accuracy=0.99) for seed in (0, 1)]
    high = [finished("residual-8", seed, 0.8, test_accuracy=0.1 + seed / 10) for seed in (1, 0)]
    assert crowned(*low, *high) == ("residual-8", 0)


def test_a_network_that_may_diverge_loses_to_one_that_does_not() -> None:
    fragile = (finished("residual-8", 0, 0.99), without_figures("residual-8", 1, "diverged"))
    assert crowned(*fragile, finished("plain-8", 0, 0.6), finished("plain-8", 1, 0.6)) == ("plain-8", 0)


def test_where_every_network_diverged_once_the_others_seeds_decide() -> None:
    scores = [without_figures(variant, 0, "diverged") for variant in ("plain-8", "residual-8")]
    assert crowned(*scores, finished("plain-8", 1, 0.6), finished("residual-8", 1, 0.7)) == ("residual-8", 1)


def test_a_mean_over_fewer_seeds_does_not_win() -> None:
    half_there = (finished("residual-8", 0, 0.99), without_figures("residual-8", 1, "missing"))
    assert crowned(*half_there, finished("plain-8", 0, 0.6), finished("plain-8", 1, 0.7)) == ("plain-8", 1)


def test_equal_means_are_told_apart_by_loss() -> None:
    # 0.1 + 0.2 and 0.3 + 0.0 differ in their last bit; the rule must not see that.
    first = (finished("residual-8", 0, 0.1, 0.4), finished("residual-8", 1, 0.2, 0.4))
    second = (finished("residual-14", 0, 0.3, 0.3), finished("residual-14", 1, 0.0, 0.3))
    assert 0.1 + 0.2 != 0.3 + 0.0
    assert crowned(*first, *second) == ("residual-14", 0)


def test_equal_means_and_losses_are_told_apart_by_depth_and_then_by_the_studys_order() -> None:
    assert crowned(finished("plain-14", 0, 0.9), finished("residual-8", 0, 0.9)) == ("residual-8", 0)
    assert crowned(finished("residual-8", 0, 0.9), finished("plain-8", 0, 0.9)) == ("residual-8", 0)
    assert crowned(finished("plain-8", 0, 0.9), finished("residual-8", 0, 0.9)) == ("plain-8", 0)


@pytest.mark.parametrize(
    ("figures", "seed"),
    [
        ([(0, 0.9, 0.1), (1, 0.8, 0.1)], 0),
        ([(0, 0.9, 0.2), (1, 0.9, 0.1)], 1),
        ([(2, 0.9, 0.1), (1, 0.9, 0.1)], 1),
    ],
    ids=["accuracy", "then loss", "then the smaller seed"],
)
def test_the_best_seed(figures: list[tuple[int, float, float]], seed: int) -> None:
    assert best_seed([finished("plain-8", *values) for values in figures]).seed == seed


def test_a_seed_without_figures_is_never_the_best() -> None:
    scores = [without_figures("plain-8", 0, "diverged"), finished("plain-8", 1, 0.1)]
    assert best_seed(scores).seed == 1
    with pytest.raises(ValueError, match="empty"):
        best_seed(scores[:1])


def test_no_network_is_crowned_where_none_finished() -> None:
    assert champion(Study("digits", (without_figures("plain-8", 0, "diverged"),))) is None
    assert champion(Study("digits", ())) is None


def reason(*scores: Score) -> str:
    best = champion(Study("digits", scores))
    assert best is not None
    return best.reason


def test_the_reason_says_mean_seeds_and_runner_up() -> None:
    scores = [finished("plain-8", seed, 0.7) for seed in (0, 1)] + [
        finished("residual-8", s, 0.8 + s / 10) for s in (0, 1)
    ]
    text = (
        "residual-8: mean validation accuracy 0.8500 over 2 seeds, batch-norm statistics re-estimated; this is its "
        "best, seed 1, with 0.9000."
    )
    assert reason(*scores) == f"{text} Runner-up: plain-8 with 0.7000, not told apart by these seeds."


def test_networks_that_validation_images_do_not_tell_apart_stand_beside_the_champion() -> None:
    """Paired by seed: residual-8 leads plain-8 by 1 and 1.01 points, and cnn-4 by 5 on average, but not each time."""
    ours = [finished("residual-8", seed, value) for seed, value in enumerate((0.80, 0.90, 0.85))]
    steady = [finished("plain-8", seed, value) for seed, value in enumerate((0.79, 0.8899, 0.84))]
    unsteady = [finished("cnn-4", seed, value) for seed, value in enumerate((0.81, 0.75, 0.84))]
    best = champion(Study("digits", (*ours, *steady, *unsteady)))
    assert best is not None
    assert [other.spec.name for other in best.not_told_apart] == ["cnn-4"]
    assert best.reason.endswith("Runner-up: plain-8 with 0.8400.")
    fragile = (*unsteady[:2], without_figures("cnn-4", 2, "diverged"))
    best = champion(Study("digits", (*ours, *fragile)))
    assert best is not None
    assert not best.not_told_apart  # what may diverge is no rival


def test_the_reason_says_what_decided_a_tie_or_against_a_better_mean() -> None:
    tie = reason(finished("plain-8", 0, 0.9, 0.5), finished("residual-8", 0, 0.9, 0.25))
    assert tie.endswith("Runner-up: plain-8 with 0.9000 as well; decided by validation loss, 0.2500 against 0.5000.")
    fragile = (finished("residual-8", 0, 0.99), without_figures("residual-8", 1, "diverged"))
    steady = (finished("plain-8", 0, 0.6), finished("plain-8", 1, 0.6))
    assert reason(*fragile, *steady).endswith("Runner-up: residual-8 with 0.9900 over 1 of 2 seeds (1 diverged).")
    assert reason(finished("plain-8", 0, 0.9)).endswith(
        "over 1 seed, batch-norm statistics re-estimated; this is its best, seed 0, with 0.9000. "
        "No other network finished."
    )
