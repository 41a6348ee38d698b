"""What can be trained: the grammar of names as tables, and what a network costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resblock.params import Recipe
from resblock.spec import FAMILIES, FAMILY_RULES, MODIFIER_RULES, ORDER, WIDTH_ABOUT, ModelSpec

IMAGE_SHAPE, CLASSES = (32, 32, 3), 10  # CIFAR-10's, for which papers count


def grammar() -> Iterator[str]:
    """Yield the lines that say how a network is named."""
    yield "<family>-<depth>[-<modifier>…], for instance residual-20 or plain-56-nobn-w2"
    yield ""
    yield "families and their depths"
    for family in FAMILIES:
        rule = FAMILY_RULES[family]
        depths = ", ".join(str(rule.depths.step * n + rule.depths.offset) for n in (1, 2, 3))
        yield f"  {family:<14}{f'{rule.depths}: {depths}, …':<22}{rule.about}"
    yield ""
    yield "modifiers, in this order"
    rules = {str(modifier): rule for modifier, rule in MODIFIER_RULES.items()}
    for part in ORDER:
        about = rules[part].about if part in rules else WIDTH_ABOUT
        families = rules[part].families if part in rules else FAMILIES
        yield f"  -{part if part in rules else 'w2':<15}{about}"
        yield f"{'':<18}{', '.join(families)}"


def costs(specs: Sequence[ModelSpec], recipe: Recipe) -> Iterator[str]:
    """Yield a line per network: trainable parameters, multiply-adds of one image, and its twin."""
    from resblock.startup import start_keras

    start_keras(threads=0)
    from resblock.model.cost import count_multiply_adds, count_parameters  # Keras, now quiet
    from resblock.model.network import build_model

    width = max(len(spec.name) for spec in specs)
    yield f"{'network':<{width}}  {'parameters':>12}  {'multiply-adds':>14}  twin"
    for spec in specs:
        model = build_model(spec, IMAGE_SHAPE, CLASSES, recipe, seed=0)
        work = f"{count_multiply_adds(model) / 1e6:,.1f} M"
        yield f"{spec.name:<{width}}  {count_parameters(model):>12,}  {work:>14}  {spec.twin or '–'}"
    height, across, channels = IMAGE_SHAPE
    yield f"for images of {height}x{across}x{channels} and {CLASSES} classes"
