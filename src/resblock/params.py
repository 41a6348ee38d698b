"""What the user chose: params.yaml as a frozen, strict tree, parsed once.

Every mistake in the file is reported in one message that names the key, what was given, what is allowed and the line.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic import Field as Bounds
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from resblock.core.errors import UserError
from resblock.core.recipe import BASE, LAST, Recipe
from resblock.core.spec import FAMILIES, ModelSpec, RunKey
from resblock.damage import conflicted
from resblock.defaults import completed
from resblock.paths import PARAMS

Fraction = Annotated[float, Bounds(gt=0, lt=1)]
Seed = Annotated[int, Bounds(ge=0, lt=2**32)]

# Each many times what a study needs. To read YAML takes a second for so much, and minutes for ten times that.
LARGEST = 2**16  # bytes of the file
MARKS, MOST_MARKS = ",[{\n", 4_000  # behind which values and lines begin
DEEPEST_NETWORK, WIDEST_NETWORK = 10_000, 64  # far beyond the literature; more than any machine holds
DEEPEST = 100  # brackets open at once; comments may leave some open
MOST = 20_000  # values: an alias stands for all that it names, and ten lines of aliases for billions
OTHER_WORDS = {"resnet": "residual", "res": "residual"}  # for families
COMPLAINTS = 20  # that one message holds
SHOWN = 60  # characters of a wrong value that a complaint shows


class ParamsError(UserError):
    """params.yaml is not what the study expects; the text says each key, what came and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


Entry = TypeVar("Entry")


def parse_variant(name: str) -> ModelSpec:
    """Return the network called `name`. Raises UserError, which names the network that seems to be meant."""
    try:
        spec = ModelSpec.parse(name if len(name) <= SHOWN else f"{name[:SHOWN]} …")
    except ValueError as error:
        meant = _meant_by(name)
        raise UserError(f"{name!r} is no variant; did you mean {meant}?" if meant else str(error)) from None
    if spec.depth > DEEPEST_NETWORK or spec.width > WIDEST_NETWORK:
        raise UserError(f"{name}: may have {DEEPEST_NETWORK:,} layers and {WIDEST_NETWORK} times the filters at most")
    return spec


def _meant_by(name: str) -> str | None:
    """Return the network that `name` is another way of writing, or its neighbours: residual-20 for ResNet20."""
    words = re.sub("[^a-z0-9]+", "-", name[:SHOWN].lower()).strip("-")
    family, depth = re.match("([a-z]*)-?(.*)", words).groups()  # pyright: ignore[reportOptionalMemberAccess]
    near = difflib.get_close_matches(OTHER_WORDS.get(family, family), FAMILIES, n=1)
    try:
        return ModelSpec.parse(f"{near[0]}-{depth}").name if near else None
    except ValueError:
        if not depth.isdigit() or name == f"{near[0]}-{depth}":  # whose own error names the neighbours
            return None
        return " or ".join(f"{near[0]}-{possible}" for possible in FAMILIES[near[0]].depths.nearest(int(depth)))


def _variants_exist(variants: list[str]) -> list[str]:
    reasons: list[str] = []
    for variant in variants:
        try:
            parse_variant(variant)
        except UserError as error:
            reasons.append(str(error))
    if reasons:
        raise PydanticCustomError("variant", "{reasons}", {"reasons": "; ".join(reasons)})
    return variants


def _without_repeats(values: list[Any]) -> list[Any]:
    repeated = sorted(value for value, times in Counter(map(str, values)).items() if times > 1)
    if repeated:
        raise PydanticCustomError("repeat", "{names} listed twice; each may stand once", {"names": ", ".join(repeated)})
    return values


Once = AfterValidator(_without_repeats)
Variants = Annotated[list[str], Bounds(min_length=1), AfterValidator(_variants_exist), Once]
Seeds = Annotated[list[Seed], Bounds(min_length=1), Once]


class Study(_Section):
    """What is compared: the axes of the train stage."""

    datasets: Annotated[list[str], Bounds(min_length=1), Once]
    variants: Variants
    seeds: Seeds

    @property
    def specs(self) -> list[ModelSpec]:
        """The variants, parsed, in the order of the file."""
        return [ModelSpec.parse(variant) for variant in self.variants]

    def keys(self, dataset: str) -> list[RunKey]:
        """Return every training of the study on `dataset`, by variant and then seed, in the order of the file."""
        return [RunKey(dataset, spec, seed) for spec in self.specs for seed in self.seeds]


class Ablation(_Section):
    """Which other recipes are trained, and on what: axes of the ablate stage."""

    dataset: str
    recipes: Annotated[list[str], Once]
    variants: Variants
    seeds: Seeds

    def recipes_on(self, dataset: str) -> list[str]:
        """Return the recipes that are trained on `dataset`, in the order of the file."""
        return self.recipes if dataset == self.dataset else []


Share = Literal["official", "auto"] | Fraction


class Preparation(_Section):
    """How a data set is read and split. All but the split belongs to a person's own images."""

    test_fraction: Share
    validation_fraction: Share
    split_seed: Seed
    format: str | None = None
    size: Annotated[int, Bounds(ge=8, le=1024)] | None = None
    channels: Literal[1, 3] | None = None
    on_error: Literal["refuse", "skip"] = "refuse"
    image: str | None = None
    label: str | None = None
    classes: Annotated[list[str], Bounds(min_length=2), Once] | None = None


def _moments(values: list[Any]) -> list[Any]:
    wrong = [value for value in values if value != LAST and (type(value) is not int or value < 0)]
    if wrong:
        words = f"got {_show(wrong[0])}, must be a whole number of epochs from 0, or {LAST}"
        raise _own_problem(words)
    return values


def _field(each: Field[Any]) -> tuple[Any, Any]:
    """Return how pydantic is to check a field of `Recipe`: its type, its bounds, and its default if it has one."""
    kind = get_type_hints(Recipe)[each.name]
    if each.name == "gradient_epochs":
        kind = Annotated[list[Any], AfterValidator(_moments), Once]
    default = ... if each.default is MISSING else each.default
    return kind, Bounds(default, **each.metadata)


# The same fields, checked as the rest of the file is.
_checks: dict[str, Any] = {each.name: _field(each) for each in fields(Recipe)}
_RecipeSection = create_model("Recipe", __base__=_Section, **_checks)


def _as_recipe(section: BaseModel) -> Recipe:
    """Return the checked section as the value that training takes. What it asks for must be possible together."""
    try:
        return Recipe.from_tree(section.model_dump())
    except UserError as error:
        words = str(error).removeprefix("gradient_epochs: ")
        problem = _problem(words, ("gradient_epochs",), section.model_dump()["gradient_epochs"])
        raise ValidationError.from_exception_data("Recipe", [problem]) from None


if TYPE_CHECKING:
    RecipeSection = Recipe
else:
    RecipeSection = Annotated[_RecipeSection, AfterValidator(_as_recipe)]


class Probing(_Section):
    """What is measured of networks before training, on a data set."""

    variants: Variants
    seeds: Seeds
    images: int = Bounds(ge=1)
    lines: int = Bounds(ge=1)
    line_points: int = Bounds(ge=2)

    @property
    def specs(self) -> list[ModelSpec]:
        """The variants, parsed, in the order of the file."""
        return [ModelSpec.parse(variant) for variant in self.variants]


class Examination(_Section):
    """How trained networks are looked at, on a data set."""

    corrupted_images: int = Bounds(ge=1)
    response_images: int = Bounds(ge=1)
    lesion_images: int = Bounds(ge=1)
    lesion_draws: int = Bounds(ge=1)


BUILT_IN = get_args(core_schema.ErrorType)  # pydantic's own problems, which it puts into words


def _check_name(name: str) -> str:
    """Refuse what is no part of a DVC stage's name, or a dot, by which DVC would divide the name."""
    if name == BASE or not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        problem = "a recipe's name is made of lower-case letters, digits and single hyphens; {base} is taken"
        raise PydanticCustomError("name", problem, {"base": BASE})  # pyright: ignore[reportArgumentType]
    return name


def _check_difference(difference: dict[str, Any]) -> dict[str, Any]:
    """Hold a part of a recipe to the rules of the whole."""
    try:
        _RecipeSection.model_validate(difference)
    except ValidationError as error:
        problems = [
            InitErrorDetails(
                type=problem["type"] if problem["type"] in BUILT_IN else _own_problem(problem["msg"]),
                loc=problem["loc"],
                input=problem["input"],
                ctx=problem.get("ctx", {}),
            )
            for problem in error.errors()
            if problem["type"] != "missing"
        ]
        if problems:
            raise ValidationError.from_exception_data("Recipe", problems) from None
    return difference


RecipeName = Annotated[str, AfterValidator(_check_name)]
Difference = Annotated[dict[str, Any], Bounds(min_length=1), AfterValidator(_check_difference)]


class Params(_Section):
    """The whole of params.yaml."""

    study: Study
    ablation: Ablation
    data: dict[str, Preparation]
    train: dict[str, RecipeSection]
    probes: dict[str, Probing]
    evaluation: dict[str, Examination]
    recipes: dict[RecipeName, Difference]

    def preparation(self, dataset: str) -> Preparation:
        """Return how `dataset` is split. Raises ParamsError where the file does not say."""
        return _entry(self.data, "data", dataset)

    def probing(self, dataset: str) -> Probing:
        """Return what is measured of untrained networks. Raises ParamsError where the file does not say."""
        return _entry(self.probes, "probes", dataset)

    def examination(self, dataset: str) -> Examination:
        """Return how trained networks are looked at. Raises ParamsError where the file does not say."""
        return _entry(self.evaluation, "evaluation", dataset)

    def recipe(self, dataset: str, name: str = BASE) -> Recipe:
        """Return how networks are trained on `dataset`, by its own recipe or by one that differs from it.

        Raises ParamsError where the file does not say.
        """
        own: Recipe = _entry(self.train, "train", dataset)
        if name == BASE:
            return own
        difference = _entry(self.recipes, "recipes", name)
        try:
            return Recipe.from_tree({**own.tree(), **difference})
        except UserError as error:
            raise ParamsError(f"recipes.{name}, on {dataset}: {error} ({PARAMS})") from None

    def ablation_keys(self, dataset: str, recipe: str) -> list[RunKey]:
        """Return every training on `dataset` by another `recipe`, by variant and then seed."""
        specs = [ModelSpec.parse(variant) for variant in self.ablation.variants]
        return [RunKey(dataset, spec, seed, recipe) for spec in specs for seed in self.ablation.seeds]

    def keys(self, dataset: str) -> list[RunKey]:
        """Return every training on `dataset`, by its own recipe and by others."""
        recipes = self.ablation.recipes_on(dataset)
        return self.study.keys(dataset) + [key for name in recipes for key in self.ablation_keys(dataset, name)]

    def cautions(self) -> list[str]:
        """Say what the ablation asks for and cannot have beside this study. That is left out, and nothing else is."""
        ablation, study = self.ablation, self.study
        if not ablation.recipes:
            return []
        if ablation.dataset not in study.datasets:
            return [
                f"ablation.dataset: {ablation.dataset} is not in study.datasets, so no other recipe is trained, and "
                "a bare `dvc repro` stops where its splits are missing; "
                f"`dvc repro report@{study.datasets[0]}` does not, nor with ablation.recipes: []"
            ]
        alone = [("variants", variant) for variant in ablation.variants if variant not in study.variants]
        alone += [("seeds", str(seed)) for seed in ablation.seeds if seed not in study.seeds]
        own = self.recipe(ablation.dataset)
        idle = [name for name in ablation.recipes if self.recipe(ablation.dataset, name) == own]
        return [
            f"ablation.{axis}: {value} is not in study.{axis}, so what recipes do to it is compared with nothing"
            for axis, value in alone
        ] + [f"ablation.recipes: {name} changes nothing of train.{ablation.dataset}" for name in idle]

    @model_validator(mode="after")
    def _every_name_is_explained(self) -> Self:
        errors = [*self._undescribed_datasets(), *self._impossible_ablations()]
        if errors:
            raise ValidationError.from_exception_data("Params", errors)
        return self

    def _undescribed_datasets(self) -> Iterator[InitErrorDetails]:
        sections = ("data", "train", "probes", "evaluation")
        described = [name for name in self.data if all(name in getattr(self, section) for section in sections)]
        for index, dataset in enumerate(self.study.datasets):
            missing = [f"{section}.{dataset}" for section in sections if dataset not in getattr(self, section)]
            if missing:
                words = f"{dataset} has no section {', '.join(missing)}; described are {', '.join(described) or 'none'}"
                add = f"; take it out, and `resblock data add {dataset} PATH` adds it with all of them"
                hint = add if len(missing) == len(sections) else ""
                yield _problem(f"{words}{hint}", ("study", "datasets", index), dataset)

    def _impossible_ablations(self) -> Iterator[InitErrorDetails]:
        """Find recipes that are not there, or that nothing can be trained by."""
        ablation = self.ablation
        if ablation.recipes and ablation.dataset not in self.train:
            words = f"{ablation.dataset} has no section train.{ablation.dataset}; described are {', '.join(self.train)}"
            yield _problem(words, ("ablation", "dataset"), ablation.dataset)
        for index, name in enumerate(ablation.recipes):
            place = ("ablation", "recipes", index)
            if name not in self.recipes:
                yield _problem(f"{name} is not among recipes: {', '.join(self.recipes) or 'none'}", place, name)
            elif ablation.dataset in self.train:
                try:
                    self.recipe(ablation.dataset, name)
                except ParamsError as error:
                    yield _problem(str(error), place, name)


def _own_problem(words: str) -> PydanticCustomError:
    return PydanticCustomError("reference", "{words}", {"words": words})


def _problem(words: str, location: tuple[str | int, ...], value: Any) -> InitErrorDetails:
    problem = _own_problem(words)
    return InitErrorDetails(type=problem, loc=location, input=value)


def read_params(path: Path) -> Params:
    """Parse and check the file at `path`.

    Raises ParamsError where it is missing, is no YAML, or holds unknown, missing, ill-typed or impossible values.
    """
    tree, plain = _load(path)
    try:
        return Params.model_validate(plain)
    except ValidationError as error:
        problems = _merge_unions(error.errors(include_url=False))
        told = problems[:COMPLAINTS]
        lines = [f"{_describe(problem)} ({_place(tree, problem['loc'], path)})" for problem in told]
        lines += [f"and {len(problems) - COMPLAINTS} more"] if len(problems) > COMPLAINTS else []
        raise ParamsError("\n".join(lines)) from None


def _load(path: Path) -> tuple[Any, Any]:
    """Return the file's tree with its lines, and as plain values. Whatever it holds, that takes less than a second."""
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise ParamsError(f"{path}: holds {size:,} bytes, and may hold {LARGEST:,}")
        text = path.read_text(encoding="utf-8")
        if (marks := sum(map(text.count, MARKS))) > MOST_MARKS:
            raise ParamsError(f"{path}: holds {marks:,} values and lines, and may hold {MOST_MARKS:,}")
        if _depth(text) > DEEPEST:
            raise RecursionError
        tree = YAML(typ="rt").load(text)
        if not isinstance(tree, Mapping):
            raise ParamsError(f"{path}: expected the sections {', '.join(Params.model_fields)}, found none")
        return tree, completed(_plain(tree, path))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); run resblock from the project's root") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path}: is not UTF-8 text") from None
    except MarkedYAMLError as error:
        if words := conflicted(path):
            raise ParamsError(words) from None
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = (error.problem or "not YAML").strip().splitlines()[0]
        raise ParamsError(f"{path}{line}: {problem}") from None
    except YAMLError as error:  # a character that YAML forbids
        problem = " ".join(str(error).split())
        raise ParamsError(f"{path}: {problem}") from None
    except RecursionError:
        raise ParamsError(f"{path}: is nested too deeply; sections have three levels") from None
    except ValueError as error:  # a number of thousands of digits
        raise ParamsError(f"{path}: {str(error)[:SHOWN]}") from None
    except AttributeError:  # ruamel.yaml's answer to a key that is merged with itself
        raise ParamsError(f"{path}: an alias (*) stands within what it names") from None


def _entry(sections: Mapping[str, Entry], section: str, name: str) -> Entry:
    try:
        return sections[name]
    except KeyError:
        raise ParamsError(
            f"{section}.{name}: missing; described are {', '.join(sections) or 'none'} ({PARAMS}); "
            "`resblock data add` writes the section of another"
        ) from None


def section_keys(section: type[BaseModel]) -> list[str]:
    """Return the keys a section of params.yaml must hold."""
    return list(section.model_fields)


def _depth(text: str) -> int:
    """Return how many brackets are open at once at most, as far as one can tell without reading YAML."""
    return max(accumulate((1 if mark in "[{" else -1 for mark in re.findall(r"[][{}]", text)), initial=0))


def _plain(tree: Any, path: Path) -> Any:
    """Return ruamel's round-trip tree as plain Python values, which strict validation wants."""
    numbers = count(1)

    def plain(node: Any) -> Any:
        if next(numbers) > MOST:
            raise ParamsError(
                f"{path}: its aliases stand for more than {MOST:,} values; write out those that are meant"
            )
        if isinstance(node, Mapping):
            return {str(key): plain(value) for key, value in node.items()}
        if isinstance(node, list):
            return [plain(value) for value in node]
        if isinstance(node, bool) or node is None:
            return node
        for kind in (int, float, str):
            if isinstance(node, kind):
                return kind(node)
        return node

    return plain(tree)


def _merge_unions(problems: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Keep one problem per key: pydantic reports one for each member of a union."""
    merged: dict[tuple[Any, ...], ErrorDetails] = {}
    for problem in problems:
        location = problem["loc"]
        if len(location) == 4 and location[2] in ("test_fraction", "validation_fraction"):
            location = location[:3]
            msg = "official, auto or a number in (0, 1)"
            problem = ErrorDetails(type="fraction_or_official", loc=location, input=problem["input"], msg=msg)
        merged.setdefault((location, problem["type"], problem["msg"]), problem)
    return list(merged.values())


def _describe(problem: ErrorDetails) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    context = problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            allowed = _allowed_keys(problem["loc"])
            near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed here: {', '.join(allowed)}"
            return f"{key}: unknown key; {hint}"
        case "missing":
            return f"{key}: missing; it must be set"
        case "variant" | "repeat" | "name" | "reference":
            return f"{key}: {problem['msg']}"
        case _:
            return f"{key}: got {_show(problem['input'])}, must be {_expectation(problem, context)}"


def _expectation(problem: ErrorDetails, context: Mapping[str, Any]) -> str:
    expectations = {
        "literal_error": "one of " + str(context.get("expected", "")).replace("'", "").replace(" or ", ", "),
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a section",
        "model_type": "a section",
        "model_attributes_type": "a section",
        "too_short": "a section with at least one key"
        if context.get("field_type") == "Dictionary"
        else f"a list with at least {'one entry' if context.get('min_length') == 1 else 'two entries'}",
        "greater_than": f"greater than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
    }
    return expectations.get(problem["type"], problem["msg"])


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return "a section"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "study": Study,
        "ablation": Ablation,
        "data": Preparation,
        "train": _RecipeSection,
        "probes": Probing,
        "evaluation": Examination,
        "recipes": _RecipeSection,
    }
    section = Params if len(location) == 1 else sections[str(location[0])]
    return section_keys(section)


def _place(tree: Any, location: tuple[int | str, ...], path: Path) -> str:
    """Name the file and the line of the key, or of the section that lacks it."""
    line, node = None, tree
    for part in location:
        try:
            position = node.lc.item(part) if isinstance(part, int) else node.lc.key(part)
            line, node = position[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return f"{path}, line {line}" if line else str(path)
