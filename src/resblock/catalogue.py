"""What can be trained: the grammar of names as tables, and what a network costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resblock.core.recipe import Recipe
from resblock.core.spec import FAMILIES, MODIFIER_RULES, ORDER, WIDTH_ABOUT, ModelSpec

IMAGE_SHAPE, CLASSES = (32, 32, 3), 10  # CIFAR-10's, for which papers count


def grammar() -> Iterator[str]:
    """Yield the lines that say how a network is named."""
    yield "<family>-<depth>[-<modifier>…], for instance residual-20 or plain-56-nobn-w2"
    yield ""
    yield "families and their depths"
    for family, rule in FAMILIES.items():
        depths = ", ".join(str(rule.depths.step * n + rule.depths.offset) for n in (1, 2, 3))
        yield f"  {family:<14}{f'{rule.depths}: {depths}, …':<22}{rule.about}"
    yield ""
    yield "modifiers, in this order"
    rules = {str(modifier): rule for modifier, rule in MODIFIER_RULES.items()}
    for part in ORDER:
        about = rules[part].about if part in rules else WIDTH_ABOUT
        families = [family for family in FAMILIES if part not in rules or rules[part].fits(family)]
        yield f"  -{part if part in rules else 'w2':<15}{about}"
        yield f"{'':<18}{', '.join(families)}"


def costs(specs: Sequence[ModelSpec], recipe: Recipe) -> Iterator[str]:
    """Yield a line per network: trainable parameters, multiply-adds of one image, and its twin."""
    from resblock.startup import start_keras

    start_keras(threads=0)
    from resblock.core.model.network import build_network  # Keras, now quiet

    width = max(len(spec.name) for spec in specs)
    yield f"{'network':<{width}}  {'parameters':>12}  {'multiply-adds':>14}  twin"
    for spec in specs:
        network = build_network(spec, IMAGE_SHAPE, CLASSES, recipe, seed=0)
        work = f"{network.multiply_adds / 1e6:,.1f} M"
        yield f"{spec.name:<{width}}  {network.parameters:>12,}  {work:>14}  {spec.twin or '–'}"
    height, across, channels = IMAGE_SHAPE
    yield f"for images of {height}x{across}x{channels} and {CLASSES} classes"
