"""params.yaml, parsed: every mistake is told with its key, what came, what is allowed, and where it stands.

The mistakes are made in the repository's own file, so that it is tested as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.recipe import BASE, Recipe
from resblock.params import Params, ParamsError, parse_variant, read_params
from resblock.paths import PARAMS
from tests.conftest import ROOT

# Keys of a recipe that need not be written.
DEFAULTS = {each.name: each.default for each in fields(Recipe) if each.default is not MISSING}

Edit = tuple[str, str | None]  # the key of a line, and the line to stand there instead (None: no line)


class Draft:
    """The repository's params.yaml as lines, found by their dotted keys and changed."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()

    def index(self, key: str) -> int:
        """Return the place of the line that `key`, for instance ``train.digits.epochs``, stands on."""
        found = -1
        for level, part in enumerate(key.split(".")):
            start = re.compile(rf"{'  ' * level}{re.escape(part)}:")
            found = next(number for number in range(found + 1, len(self.lines)) if start.match(self.lines[number]))
        return found

    def replace(self, key: str, line: str | None) -> None:
        """Put `line`, indented as it must be, where `key` stands."""
        number = self.index(key)
        self.lines[number : number + 1] = [] if line is None else ["  " * key.count(".") + line]

    def line(self, key: str) -> int:
        """Return the number that an editor shows for the line of `key`."""
        return self.index(key) + 1


@pytest.fixture
def draft(root: Path) -> Draft:
    return Draft((root / PARAMS).read_text(encoding="utf-8"))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Draft], Params]:
    def read(draft: Draft) -> Params:
        path = tmp_path / "params.yaml"
        path.write_text("\n".join(draft.lines) + "\n", encoding="utf-8")
        return read_params(path)

    return read


@pytest.fixture
def complain(read: Callable[[Draft], Params], tmp_path: Path) -> Callable[[Draft], list[str]]:
    """Read a draft that must be refused; return the message's lines, without the file's folder."""

    def complain(draft: Draft) -> list[str]:
        with pytest.raises(ParamsError) as caught:
            read(draft)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return complain


def written(recipe: Recipe) -> dict[str, Any]:
    """Return all keys of a recipe as YAML gives them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}


def test_the_repositorys_own_file_is_right(root: Path, params: Params) -> None:
    tree = YAML(typ="safe").load(root / PARAMS)
    assert params.model_dump(exclude={"train"}, exclude_unset=True) == {
        name: section for name, section in tree.items() if name != "train"
    }
    assert {dataset: written(recipe) for dataset, recipe in params.train.items()} == {
        dataset: {**DEFAULTS, **section} for dataset, section in tree["train"].items()
    }
    assert all(params.recipe("cifar10", name) for name in tree["recipes"])
    assert [spec.name for spec in params.study.specs] == tree["study"]["variants"]


def test_every_key_has_a_comment_where_it_first_stands(root: Path, params: Params) -> None:
    draft = Draft((root / PARAMS).read_text(encoding="utf-8"))
    first = {
        "study": type(params.study).model_fields,
        "ablation": type(params.ablation).model_fields,
        "data.digits": params.preparation("digits").model_fields_set,
        "train.digits": [each.name for each in fields(Recipe)],
    }
    keys = [f"{section}.{name}" for section, names in first.items() for name in names]
    assert [key for key in keys if "#" not in draft.lines[draft.index(key)]] == []


MISTAKES: dict[str, tuple[Edit, str, str]] = {  # what is edited, the whole complaint, the key whose line it names
    "unknown key": (
        ("train.digits.rescale", "rescale: true\n    reskale: true"),
        "train.digits.reskale: unknown key; did you mean rescale?",
        "train.digits.reskale",
    ),
    "unknown key like no other": (
        ("study.seeds", "seeds: [0]\n  jobs: 2"),
        "study.jobs: unknown key; allowed here: datasets, variants, seeds",
        "study.jobs",
    ),
    "unknown section": (
        ("study", "weather: {}\nstudy:"),
        "weather: unknown key; allowed here: study, ablation, data, train, probes, evaluation, recipes",
        "weather",
    ),
    "missing key": (
        ("train.cifar10.batch_size", None),
        "train.cifar10.batch_size: missing; it must be set",
        "train.cifar10",
    ),
    "text for a number": (
        ("train.digits.epochs", "epochs: twenty"),
        "train.digits.epochs: got 'twenty', must be a whole number",
        "train.digits.epochs",
    ),
    "quoted number": (
        ("train.digits.learning_rate", 'learning_rate: "0.001"'),
        "train.digits.learning_rate: got '0.001', must be a number",
        "train.digits.learning_rate",
    ),
    "fraction for a count": (
        ("train.digits.epochs", "epochs: 20.0"),
        "train.digits.epochs: got 20.0, must be a whole number",
        "train.digits.epochs",
    ),
    "switch for a count": (
        ("train.digits.threads", "threads: true"),
        "train.digits.threads: got true, must be a whole number",
        "train.digits.threads",
    ),
    "number for a switch": (
        ("train.cifar10.vertical_flip", "vertical_flip: 1"),
        "train.cifar10.vertical_flip: got 1, must be true or false",
        "train.cifar10.vertical_flip",
    ),
    "word for a switch": (  # YAML 1.1 knew yes and no
        ("train.cifar10.vertical_flip", "vertical_flip: yes"),
        "train.cifar10.vertical_flip: got 'yes', must be true or false",
        "train.cifar10.vertical_flip",
    ),
    "nothing": (
        ("train.digits.weight_decay", "weight_decay:"),
        "train.digits.weight_decay: got nothing, must be a number",
        "train.digits.weight_decay",
    ),
    "no finite number": (
        ("train.digits.learning_rate", "learning_rate: .inf"),
        "train.digits.learning_rate: got inf, must be a finite number",
        "train.digits.learning_rate",
    ),
    "too small": (
        ("train.digits.batch_size", "batch_size: 0"),
        "train.digits.batch_size: got 0, must be at least 1",
        "train.digits.batch_size",
    ),
    "not above the lower end": (
        ("train.digits.learning_rate", "learning_rate: 0.0"),
        "train.digits.learning_rate: got 0.0, must be greater than 0.0",
        "train.digits.learning_rate",
    ),
    "too large": (
        ("train.digits.batch_norm_momentum", "batch_norm_momentum: 1.0"),
        "train.digits.batch_norm_momentum: got 1.0, must be less than 1.0",
        "train.digits.batch_norm_momentum",
    ),
    "all for validation": (
        ("data.digits.validation_fraction", "validation_fraction: 1.0"),
        "data.digits.validation_fraction: got 1.0, must be official, auto or a number in (0, 1)",
        "data.digits.validation_fraction",
    ),
    "no fraction": (
        ("data.digits.test_fraction", "test_fraction: 1.2"),
        "data.digits.test_fraction: got 1.2, must be official, auto or a number in (0, 1)",
        "data.digits.test_fraction",
    ),
    "neither fraction nor official": (
        ("data.cifar10.test_fraction", "test_fraction: offical"),
        "data.cifar10.test_fraction: got 'offical', must be official, auto or a number in (0, 1)",
        "data.cifar10.test_fraction",
    ),
    "unknown schedule": (
        ("train.cifar10.schedule", "schedule: warmup"),
        "train.cifar10.schedule: got 'warmup', must be one of constant, step, cosine, onecycle",
        "train.cifar10.schedule",
    ),
    "impossible depth": (
        ("study.variants", "variants: [cnn-4, residual-21]"),
        "study.variants: residual-21: depth must be 6n+2, n >= 1; nearest: residual-20 and residual-26",
        "study.variants",
    ),
    "unknown family": (
        ("study.variants", "variants: [vgg-16]"),
        "study.variants: 'vgg-16' is no variant; write <family>-<depth>[-<modifier>…] with a family of cnn, "
        "plain, residual, preact, bottleneck, for instance residual-20",
        "study.variants",
    ),
    "impossible modifier": (
        ("study.variants", "variants: [plain-20-projection]"),
        "study.variants: plain-20-projection: a plain network has no shortcut (-projection); nearest: plain-20 and "
        "residual-20-projection",
        "study.variants",
    ),
    "variant twice": (
        ("study.variants", "variants: [cnn-4, plain-8, cnn-4]"),
        "study.variants: cnn-4 listed twice; each may stand once",
        "study.variants",
    ),
    "unknown key of a recipe": (
        ("recipes.cosine", "cosine: {shedule: cosine}"),
        "recipes.cosine.shedule: unknown key; did you mean schedule?",
        "recipes.cosine",
    ),
    "impossible value of a recipe": (
        ("recipes.cosine", "cosine: {schedule: linear}"),
        "recipes.cosine.schedule: got 'linear', must be one of constant, step, cosine, onecycle",
        "recipes.cosine",
    ),
    "ill-typed value of a recipe": (
        ("recipes.low-lr", 'low-lr: {learning_rate: "0.0001"}'),
        "recipes.low-lr.learning_rate: got '0.0001', must be a number",
        "recipes.low-lr",
    ),
    "recipe without a difference": (
        ("recipes.l2", "l2: {}"),
        "recipes.l2: got a section, must be a section with at least one key",
        "recipes.l2",
    ),
    "recipe that is no section": (
        ("recipes.l2", "l2: 0.0001"),
        "recipes.l2: got 0.0001, must be a section",
        "recipes.l2",
    ),
    "a recipe with the name of the data set's own": (
        ("recipes.l2", "base: {weight_decay: 0.0001}"),
        "recipes.base: a recipe's name is made of lower-case letters, digits and single hyphens; base is taken",
        "recipes.base",
    ),
    "a recipe that measures gradients before the start": (
        ("recipes.l2", "l2: {gradient_epochs: [-1]}"),
        "recipes.l2.gradient_epochs: got -1, must be a whole number of epochs from 0, or last",
        "recipes.l2",
    ),
    "ablation by an unknown recipe": (
        ("ablation.recipes", "recipes: [warm]"),
        "ablation.recipes.0: warm is not among recipes: no-flip, horizontal-only, vertical-only, both-flips, "
        "joint-flips, low-lr, cosine, onecycle, l2, fast-averages, slow-averages, he2015",
        "ablation.recipes",
    ),
    "ablation by a recipe that nothing can be trained by": (
        ("train.digits.gradient_epochs", "gradient_epochs: [0, 9]"),
        "ablation.recipes.0: recipes.short, on digits: gradient_epochs: the training ends after epoch 5, so nothing is "
        "measured after 9; last fits any (params.yaml)",
        "ablation.recipes",
    ),
    "ablation on data that nothing is said of": (
        ("ablation.dataset", "dataset: mnist"),
        "ablation.dataset: mnist has no section train.mnist; described are digits, cifar10",
        "ablation.dataset",
    ),
    "ablation twice": (
        ("ablation.recipes", "recipes: [low-lr, low-lr]"),
        "ablation.recipes: low-lr listed twice; each may stand once",
        "ablation.recipes",
    ),
    "empty list": (
        ("study.seeds", "seeds: []"),
        "study.seeds: got [], must be a list with at least one entry",
        "study.seeds",
    ),
    "no list": (
        ("study.seeds", "seeds: 3"),
        "study.seeds: got 3, must be a list",
        "study.seeds",
    ),
    "gradients after the end": (
        ("train.digits.gradient_epochs", "gradient_epochs: [0, 21, last]"),
        "train.digits.gradient_epochs: the training ends after epoch 20, so nothing is measured after 21; "
        "last fits any",
        "train.digits.gradient_epochs",
    ),
    "gradients at no epoch": (
        ("train.digits.gradient_epochs", "gradient_epochs: [first]"),
        "train.digits.gradient_epochs: got 'first', must be a whole number of epochs from 0, or last",
        "train.digits.gradient_epochs",
    ),
    "data set with no section": (
        ("study.datasets", "datasets: [digits, mnist]"),
        "study.datasets.1: mnist has no section data.mnist, train.mnist, probes.mnist, evaluation.mnist; "
        "described are digits, cifar10; take it out, and `resblock data add mnist PATH` adds it with all of them",
        "study.datasets",
    ),
    "no section": (
        ("data", "data: 3\nleft:"),
        "data: got 3, must be a section",
        "data",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_key_value_choices_and_line(
    mistake: str, draft: Draft, complain: Callable[[Draft], list[str]]
) -> None:
    (key, line), complaint, place = MISTAKES[mistake]
    draft.replace(key, line)
    if "recipes.short" in complaint:
        draft.replace("recipes.l2", "short: {epochs: 5}")
        draft.replace("ablation.recipes", "recipes: [short]")
    draft = Draft("\n".join(draft.lines))
    assert f"{complaint} (params.yaml, line {draft.line(place)})" in complain(draft)


def test_a_mistake_in_a_list_names_the_entry_and_its_line(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("study.seeds", "seeds:\n  - 0\n  - -1\n  - 4294967296")
    line = draft.line("study.seeds")
    assert complain(draft) == [
        f"study.seeds.1: got -1, must be at least 0 (params.yaml, line {line + 2})",
        f"study.seeds.2: got 4294967296, must be less than 4294967296 (params.yaml, line {line + 3})",
    ]


def test_all_mistakes_come_in_one_message(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("train.digits.epochs", "epochs: 0")
    draft.replace("data.cifar10.split_seed", "split_seed: one")
    draft.replace("study.variants", "variants: [cnn-5]")
    assert complain(draft) == [
        "study.variants: cnn-5: depth must be 3n+1, n >= 1; nearest: cnn-4 and cnn-7 "
        f"(params.yaml, line {draft.line('study.variants')})",
        "data.cifar10.split_seed: got 'one', must be a whole number "
        f"(params.yaml, line {draft.line('data.cifar10.split_seed')})",
        f"train.digits.epochs: got 0, must be at least 1 (params.yaml, line {draft.line('train.digits.epochs')})",
    ]


def test_every_bad_variant_is_told(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("study.variants", "variants: [cnn-4, plain-9, resnet-20]")
    told = "\n".join(complain(draft))
    assert "plain-9" in told
    assert "resnet-20" in told


def test_a_variant_stands_under_its_one_name(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("study.variants", "variants: [residual-20, residual-020]")
    assert "residual-020" in "\n".join(complain(draft))


def test_a_mistyped_key_is_told_as_unknown_and_missing(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("train.digits.epochs", "epoch: 20")
    assert sorted(complain(draft)) == [
        f"train.digits.epoch: unknown key; did you mean epochs? (params.yaml, line {draft.line('train.digits.epoch')})",
        f"train.digits.epochs: missing; it must be set (params.yaml, line {draft.line('train.digits')})",
    ]


def test_a_data_set_that_lacks_a_section_is_told_which(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    draft.replace("evaluation.digits", "digit:")
    assert complain(draft) == [
        "study.datasets.0: digits has no section evaluation.digits; described are cifar10 "
        f"(params.yaml, line {draft.line('study.datasets')})"
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ResNet20", "residual-20"),
        ("resnet-20", "residual-20"),
        ("residual_20", "residual-20"),
        ("Residual 20", "residual-20"),
        ("residaul-20", "residual-20"),
        ("plain20-NoBN", "plain-20-nobn"),
        ("CNN4", "cnn-4"),
        ("resnet18", "residual-14 or residual-20"),
        ("cnn5", "cnn-4 or cnn-7"),
    ],
)
def test_another_way_to_write_a_network_names_the_one_that_is_meant(
    written: str, meant: str, draft: Draft, complain: Callable[[Draft], list[str]]
) -> None:
    draft.replace("study.variants", f"variants: ['{written}']")
    (complaint,) = complain(draft)
    assert f"; did you mean {meant}?" in complaint
    with pytest.raises(UserError, match=f"did you mean {meant}"):
        parse_variant(written)


@pytest.mark.parametrize("name", ["vgg-16", "residual", "", "-", "20", "residual-21", "residual-20-nobm"])
def test_what_is_near_to_no_network_is_given_no_such_hint(name: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_variant(name)
    assert "did you mean residual" not in str(caught.value)
    assert "did you mean vgg" not in str(caught.value)


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 10)}]\n" for last, this in zip("abcdefghi", "bcdefghij", strict=True)
)
ENDLESS: dict[str, tuple[str, str]] = {  # a file that takes minutes to read, or for ever, and what is said instead
    "a key merged with itself": ("b: &b\n  <<: *b\n", "an alias (*) stands within what it names"),
    "aliases of aliases": (LAUGHS, "its aliases stand for more than 20,000 values"),
    "many bytes": ("#" * (2**16 + 1), "holds 65,537 bytes, and may hold 65,536"),
    "many values": ("a: [" + "0," * 5_000 + "]", "holds 5,001 values and lines, and may hold 4,000"),
    "nested lists": ("a: " + "[" * 2_000, "is nested too deeply"),
    "nested lines": ("- " * 2_000, "is nested too deeply"),
    "a long number": ("study: " + "9" * 10_000, "Exceeds the limit"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_no_file_takes_long_to_be_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    content, complaint = ENDLESS[kind]
    path.write_text(content)
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: {complaint}")


def test_a_long_value_is_shown_in_part_and_many_complaints_are_counted(
    draft: Draft, complain: Callable[[Draft], list[str]]
) -> None:
    draft.replace("train.digits.epochs", f"epochs: {'x' * 1_000}")
    draft.replace("train.digits.threads", "\n".join(f"key{number}: 0" for number in range(30)))
    told = complain(Draft("\n".join(draft.lines).replace("\nkey", "\n    key")))
    assert len(told) == 21
    assert told[-1] == "and 12 more"
    assert max(map(len, told)) < 800
    assert any(f"got '{'x' * 59} …, must be a whole number" in line for line in told)


@pytest.mark.parametrize(
    ("edit", "problem", "place"),
    [
        (
            ("data.digits.split_seed", "split_seed: 0\n    split_seed: 1"),
            'found duplicate key "split_seed" with value "1" (original value: "0")',
            2,  # lines from the edited one, itself 1
        ),
        (("study.seeds", "seeds: [0, 1"), "expected ',' or ']', but got", 3),
        (("train.digits.epochs", "\tepochs: 20"), "found character '\\t'", 1),
    ],
    ids=["key twice", "bracket left open", "tab"],
)
def test_what_is_no_yaml_is_told_with_its_line(
    edit: Edit, problem: str, place: int, draft: Draft, complain: Callable[[Draft], list[str]]
) -> None:
    key, line = edit
    number = draft.line(key) + place - 1
    draft.replace(key, line)
    (complaint,) = complain(draft)
    assert complaint.startswith(f"params.yaml, line {number}: {problem}")


TEXT = (ROOT / "params.yaml").read_text()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, len(TEXT) - 1),
    length=st.integers(0, 200),
    content=st.one_of(st.binary(max_size=60), st.text("[]{}:,&*-#'\"!|>? \n\t0a", max_size=60).map(str.encode)),
)
def test_whatever_stands_there_is_read_or_refused_in_words(
    tmp_path: Path, start: int, length: int, content: bytes
) -> None:
    """A passage of the real file, anywhere, in the place of which anything stands."""
    path, text = tmp_path / "params.yaml", TEXT.encode()
    path.write_bytes(text[:start] + content + text[start + length :])
    try:
        read_params(path)
    except ParamsError as error:
        assert str(error)


def test_a_merge_that_was_left_is_told_as_one(draft: Draft, complain: Callable[[Draft], list[str]]) -> None:
    number = draft.line("train.digits.epochs") + 1
    conflict = "<<<<<<< HEAD\n    momentum: 0.9\n=======\n    momentum: 0.8\n>>>>>>> other"
    draft.replace("train.digits.epochs", f"epochs: 20\n{conflict}")
    (complaint,) = complain(draft)
    assert complaint.startswith(f"params.yaml, line {number}: git left the conflict of a merge there; choose one")


@pytest.mark.parametrize("content", [b"", b"- study\n- data\n", b"study\n"])
def test_a_file_without_sections_names_them(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    expected = r"params.yaml: expected the sections study, ablation, data, train, probes, evaluation, recipes"
    with pytest.raises(ParamsError, match=expected):
        read_params(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("study: é".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params.yaml: is not UTF-8 text"):
        read_params(path)


def test_a_file_with_control_characters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"study: \x07\n")
    with pytest.raises(ParamsError, match=r"params.yaml"):
        read_params(path)


def test_a_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params.yaml: cannot be read \(No such file or directory\); run resblock"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("written", "meant"), [("1e-3", 0.001), ("1E-3", 0.001), ("2", 2.0), ("1_000", 1000.0), (".5", 0.5)]
)
def test_numbers_are_read_as_dvc_reads_them(
    written: str, meant: float, draft: Draft, read: Callable[[Draft], Params]
) -> None:
    draft.replace("train.digits.learning_rate", f"learning_rate: {written}")
    assert YAML(typ="safe").load(f"x: {written}")["x"] == meant  # what DVC 3 parses with
    rate = read(draft).recipe("digits").learning_rate
    assert type(rate) is float
    assert rate == meant


def test_parameters_are_frozen(params: Params) -> None:
    with pytest.raises(FrozenInstanceError):
        params.recipe("digits").epochs = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="frozen"):
        params.preparation("digits").split_seed = 1


def test_an_undescribed_dataset_is_told_when_asked_for(params: Params) -> None:
    for ask, section in ((params.recipe, "train"), (params.preparation, "data")):
        with pytest.raises(
            ParamsError, match=rf"{section}\.mnist: missing; described are digits, cifar10 \(params\.yaml\)"
        ):
            ask("mnist")


def test_a_recipes_name_has_no_dot_because_dvc_would_divide_it(
    draft: Draft, complain: Callable[[Draft], list[str]]
) -> None:
    place = draft.line("recipes.l2")
    draft.replace("recipes.l2", "momentum-0.9: {batch_norm_momentum: 0.9}")
    assert complain(draft) == [
        "recipes.momentum-0.9: a recipe's name is made of lower-case letters, digits and single hyphens; base is taken "
        f"(params.yaml, line {place})"
    ]


def test_a_recipe_is_the_data_sets_own_but_for_what_it_names(params: Params) -> None:
    own, other = params.recipe("cifar10"), params.recipe("cifar10", "he2015")
    named = params.recipes["he2015"]
    assert {key: value for key, value in written(other).items() if key in named} == named
    assert {key for key, value in written(other).items() if value != written(own)[key]} <= set(named)
    # He et al. 2015, section 4.2.
    assert (other.optimizer, other.learning_rate, other.weight_decay, other.batch_size) == ("sgd", 0.1, 1e-4, 128)
    assert (other.schedule, other.crop_padding, other.horizontal_flip, other.vertical_flip) == ("step", 4, True, False)


def test_an_unknown_recipe_is_told_when_asked_for(params: Params) -> None:
    with pytest.raises(ParamsError, match=r"recipes\.warm: missing; described are no-flip, .*he2015 \(params\.yaml\)"):
        params.recipe("digits", "warm")


CAUTIONS: dict[str, tuple[Edit, str]] = {  # what is edited, and what an ablation cannot do then
    "a network that the study lacks": (
        ("study.variants", "variants: [cnn-4, plain-8]"),
        "ablation.variants: residual-8 is not in study.variants, so what recipes do to it is compared with nothing",
    ),
    "a seed that the study lacks": (
        ("ablation.seeds", "seeds: [3, 7]"),
        "ablation.seeds: 7 is not in study.seeds, so what recipes do to it is compared with nothing",
    ),
    "data that the study lacks": (
        ("study.datasets", "datasets: [cifar10]"),
        "ablation.dataset: digits is not in study.datasets, so no other recipe is trained, and a bare `dvc repro` "
        "stops where its splits are missing; `dvc repro report@cifar10` does not, nor with ablation.recipes: []",
    ),
    "a recipe that changes nothing": (
        ("train.digits.learning_rate", "learning_rate: 0.0001"),
        "ablation.recipes: low-lr changes nothing of train.digits",
    ),
}


@pytest.mark.parametrize("what", CAUTIONS)
def test_what_an_ablation_cannot_do_keeps_nobody_from_changing_the_study(
    what: str, draft: Draft, read: Callable[[Draft], Params]
) -> None:
    (key, line), caution = CAUTIONS[what]
    draft.replace(key, line)
    assert read(draft).cautions() == [caution]


def test_the_repositorys_own_ablation_can_be_had(params: Params) -> None:
    assert params.cautions() == []


def test_without_recipes_there_is_no_ablation_whatever_else_it_says(
    draft: Draft, read: Callable[[Draft], Params]
) -> None:
    draft.replace("ablation.recipes", "recipes: []")
    draft.replace("ablation.variants", "variants: [preact-110]")
    params = read(draft)
    assert params.keys("digits") == params.study.keys("digits")


def test_ablations_are_trained_on_one_data_set_from_their_own_seeds(
    draft: Draft, read: Callable[[Draft], Params]
) -> None:
    draft.replace("ablation.seeds", "seeds: [0, 3]")
    params = read(draft)
    stages = [paths.stage(key) for key in params.keys("digits") if key.recipe != BASE]
    recipes, seeds = params.ablation.recipes, (0, 3)
    assert stages == [f"ablate@{recipe}-residual-8-{seed}" for recipe in recipes for seed in seeds]
    assert {key.recipe for key in params.keys("cifar10")} == {BASE}


@pytest.mark.parametrize("name", ["plain-99999999999999999998", "residual-20000", "plain-8-w9999999"])
def test_a_network_that_no_machine_holds_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="may have 10,000 layers and 64 times the filters"):
        parse_variant(name)
