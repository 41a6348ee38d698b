"""Parameters that note which of their keys a stage reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import BaseModel

from resblock.core.recipe import BASE, Recipe
from resblock.core.spec import RunKey
from resblock.params import Ablation, Examination, Params, Preparation, Probing, Study

Section = TypeVar("Section", bound=BaseModel)


class _Tree(dict[str, Any]):
    """A recipe as it is recorded: it notes the keys that are asked for, all where it is copied or written whole."""

    def __init__(self, tree: dict[str, Any], seen: set[str], names: Iterable[str]) -> None:
        super().__init__(tree)
        self._seen, self._names = seen, list(names)

    def _note(self, keys: Iterable[str]) -> None:
        self._seen.update(f"{name}.{key}" for name in self._names for key in keys)

    def __getitem__(self, key: str) -> Any:
        self._note([key])
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note([key])
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self._note(list(super().keys()))
        return super().__iter__()

    def keys(self) -> Any:
        self._note(list(super().keys()))
        return super().keys()

    def items(self) -> Any:
        self._note(list(super().keys()))
        return super().items()

    def values(self) -> Any:
        self._note(list(super().keys()))
        return super().values()


def recording_recipe(recipe: Recipe, seen: set[str], *names: str) -> Recipe:
    """Return `recipe`, which notes each key that is read of it in `seen`, below each of `names`."""
    keys = frozenset(each.name for each in fields(Recipe))
    reading = False

    class Recording(Recipe):
        def __getattribute__(self, name: str) -> Any:
            if reading and name in keys:
                seen.update(f"{section}.{name}" for section in names)
            return super().__getattribute__(name)

        def tree(self) -> dict[str, Any]:
            return _Tree(recipe.tree(), seen, names)

    recording = Recording(**{key: getattr(recipe, key) for key in keys})
    reading = True  # what its own making read is no one's question
    return recording


def recording_section(section: Section, seen: set[str], name: str) -> Section:
    """Return a section of params.yaml that notes each key that is read of it in `seen`."""
    kind = type(section)
    keys = frozenset(kind.model_fields)

    class Recording(kind):  # pyright: ignore[reportUntypedBaseClass, reportGeneralTypeIssues]
        def __getattribute__(self, key: str) -> Any:
            if key in keys:
                seen.add(f"{name}.{key}")
            return super().__getattribute__(key)

        def model_dump(self, **options: Any) -> dict[str, Any]:
            seen.update(f"{name}.{key}" for key in options.get("include") or keys)
            return section.model_dump(**options)

    recording: Any = Recording.model_construct(**{key: getattr(section, key) for key in keys})
    return recording


class RecordingParams:
    """Parameters as a stage asks for them. `seen` holds the dotted keys that it has read."""

    def __init__(self, params: Params) -> None:
        self.seen = set[str]()
        self._params = params
        self.study: Study = recording_section(params.study, self.seen, "study")
        self.ablation: Ablation = recording_section(params.ablation, self.seen, "ablation")

    def recipe(self, dataset: str, name: str = BASE) -> Recipe:
        """Return a recipe. One that differs from the data set's own is read of both, and by name."""
        names = [f"train.{dataset}"]
        if name != BASE:
            self.seen.add(f"recipes.{name}")
        return recording_recipe(self._params.recipe(dataset, name), self.seen, *names)

    def preparation(self, dataset: str) -> Preparation:
        """See `Params`."""
        return recording_section(self._params.preparation(dataset), self.seen, f"data.{dataset}")

    def probing(self, dataset: str) -> Probing:
        """See `Params`."""
        return recording_section(self._params.probing(dataset), self.seen, f"probes.{dataset}")

    def examination(self, dataset: str) -> Examination:
        """See `Params`."""
        return recording_section(self._params.examination(dataset), self.seen, f"evaluation.{dataset}")

    def keys(self, dataset: str) -> list[RunKey]:
        """See `Params`."""
        return Params.keys(self, dataset)  # pyright: ignore[reportArgumentType]

    def ablation_keys(self, dataset: str, recipe: str) -> list[RunKey]:
        """See `Params`."""
        return Params.ablation_keys(self, dataset, recipe)  # pyright: ignore[reportArgumentType]
