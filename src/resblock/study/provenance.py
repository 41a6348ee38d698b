"""Whether what is compared was made alike: on the same data, by the same code, recipe and machinery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What trainings that are compared have in common, and how a person calls it.
ALIKE = {
    "data": "data",
    "code": "code",
    "backend": "backends",
    "device": "devices",
    "threads": "numbers of threads",
    "environment": "variables that change bits",
    "versions": "versions",
}
EXAMINED_ALIKE = {**ALIKE, "examination": "ways of looking"}
DIGITS = 8  # of a digest that is shown


def mixtures(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each thing in which the trainings that left `manifests` were not made alike."""
    known = list(manifests)
    found = [_sentence(name, [manifest.get(key) for manifest in known]) for key, name in ALIKE.items()]
    for recipe in dict.fromkeys(manifest["recipe_name"] for manifest in known):
        values = [manifest["recipe"] for manifest in known if manifest["recipe_name"] == recipe]
        found.append(_sentence(f"recipes called {recipe}", values))
    return [sentence for sentence in found if sentence]


def examined_unlike(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each thing in which the evaluations that left `manifests` were not made alike."""
    known = list(manifests)
    found = [_sentence(name, [manifest.get(key) for manifest in known]) for key, name in EXAMINED_ALIKE.items()]
    return [f"Evaluated by {sentence}" for sentence in found if sentence]


def _sentence(name: str, values: list[Any]) -> str | None:
    """Say that `values`, one for each training, are not all equal; None where they are."""
    if all(isinstance(value, Mapping) for value in values):
        values = [_changing(value, values) for value in values]
    shown = [_show(value) for value in values]
    counts = {text: shown.count(text) for text in dict.fromkeys(shown)}
    if len(counts) < 2:
        return None
    return f"several {name}: " + "; ".join(f"{text} ({count})" for text, count in counts.items())


def _changing(one: Mapping[str, Any], others: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what of `one` is not the same in all of `others`."""
    return {key: value for key, value in one.items() if any(other.get(key) != value for other in others)}


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(_pairs(value)) or "none"
    text = "not recorded" if value is None else str(value)
    return text[:DIGITS] if len(text) == 64 else text


def _pairs(tree: Mapping[str, Any]) -> Iterator[str]:
    for name, value in tree.items():
        yield f"{name} {_show(value)}"
