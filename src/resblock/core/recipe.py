"""How a network is trained: every number and choice that a person may set, and what each may be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from resblock.core.errors import UserError

BASE = "base"  # the name of a data set's own recipe among those that differ from it
BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "below"),
}
LAST = "last"  # among gradient_epochs: the training's last epoch, however many it has


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on a data set. Units and choices stand in params.yaml.

    A field's metadata bound its numbers: ``ge`` and ``le`` admit the bound, ``gt`` and ``lt`` do not. `resblock.params`
    holds what a person writes to them. A field that is added later has a default that keeps results as they were: where
    it stands at its default it is not recorded, so that no training becomes stale and stored ones can be read.
    """

    epochs: int = field(metadata={"ge": 1})
    batch_size: int = field(metadata={"ge": 1})
    optimizer: Literal["adam", "sgd"]
    momentum: float = field(metadata={"ge": 0, "lt": 1})
    nesterov: bool
    learning_rate: float = field(metadata={"gt": 0})
    schedule: Literal["constant", "step", "cosine", "onecycle"]
    weight_decay: float = field(metadata={"ge": 0})
    rescale: bool
    center: Literal["none", "pixel-mean"]
    horizontal_flip: bool
    vertical_flip: bool
    flips: Literal["independent", "joint"]
    crop_padding: int = field(metadata={"ge": 0})
    batch_norm_momentum: float = field(metadata={"ge": 0, "lt": 1})
    batch_norm_epsilon: float = field(metadata={"gt": 0})
    reestimate_images: int = field(metadata={"ge": 1})
    gradient_epochs: tuple[int | Literal["last"], ...]
    gradient_images: int = field(metadata={"ge": 1})
    precision: Literal["float32", "mixed_bfloat16"]
    threads: int = field(metadata={"ge": 0})

    def __post_init__(self) -> None:
        """Raise ValueError where a value is none that its field may have, or they do not fit together.

        A whole number for a float becomes one: Keras computes with 1 in other steps than with 1.0.
        """
        hints = get_type_hints(type(self))
        for each in fields(self):
            if hints[each.name] is float and type(getattr(self, each.name)) is int:
                object.__setattr__(self, each.name, float(getattr(self, each.name)))
            if expected := _expectation(getattr(self, each.name), hints[each.name], each.metadata):
                raise ValueError(f"{each.name}: got {getattr(self, each.name)!r}, must be {expected}")
        late = [moment for moment in sorted(self.moments) if moment > self.epochs]
        if late:
            raise ValueError(
                f"gradient_epochs: the training ends after epoch {self.epochs}, so nothing is measured after "
                f"{late[0]}; {LAST} fits any"
            )

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Return the recipe that `tree` returned. Raises UserError where it is none."""
        known = {each.name: each for each in fields(cls)}
        if unknown := [name for name in tree if name not in known]:
            raise UserError(f"the recipe has the unknown key {unknown[0]}; other code than this has written it")
        for name, each in known.items():
            if name not in tree and each.default is MISSING:
                raise UserError(f"the recipe says nothing of {name}; other code than this has written it")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()
        }
        try:
            return cls(**values)
        except ValueError as error:
            raise UserError(str(error)) from None

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the values of the fields that have a default."""
        return {each.name: each.default for each in fields(cls) if each.default is not MISSING}

    @property
    def moments(self) -> frozenset[int]:
        """The numbers of finished epochs after which gradient norms are measured."""
        return frozenset(self.epochs if moment == LAST else moment for moment in self.gradient_epochs)

    def tree(self) -> dict[str, Any]:
        """Return the recipe as it is recorded: fields that stand at their default are left out."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        kept = {each.name: values[each.name] for each in fields(self) if values[each.name] != each.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _expectation(value: Any, kind: Any, bounds: Mapping[str, Any]) -> str | None:
    """Return in words what a field of type `kind` may be, where `value` is not; None where it is."""
    if get_origin(kind) is Literal:
        return None if value in get_args(kind) else f"one of {', '.join(map(str, get_args(kind)))}"
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    if kind in (int, float):
        whole = type(value) is int
        number = whole or (kind is float and type(value) is float and math.isfinite(value))
        holds = number and all(BOUNDS[name][0](value, bound) for name, bound in bounds.items())
        words = " and ".join(f"{BOUNDS[name][1]} {bound}" for name, bound in bounds.items())
        return None if holds else f"a {'whole ' if kind is int else ''}number {words}"
    moments = isinstance(value, tuple) and all(each == LAST or (type(each) is int and each >= 0) for each in value)
    return None if moments else f"whole numbers of epochs from 0, or {LAST}"
