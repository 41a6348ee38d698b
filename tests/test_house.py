"""The rules of the house: which room may import which, who knows what, and that importing does nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "resblock"

# A room may import those named, and itself.
MAY_IMPORT = {
    "core": set[str](),
    "paths": {"core"},
    "defaults": set[str](),
    "damage": {"core"},
    "params": {"core", "damage", "defaults", "paths"},
    "signals": set[str](),
    "startup": {"core", "signals"},
    "costs": {"core", "paths"},
    "data": {"core", "defaults", "params"},
    "evaluation": {"core", "params"},
    "study": {"core", "evaluation"},
    "report": {"core", "costs", "data", "evaluation", "paths", "study"},
    "serving": {"core", "data", "evaluation"},
    "tracking": {"core", "signals"},
    "stages": {
        "core",
        "costs",
        "damage",
        "data",
        "defaults",
        "evaluation",
        "params",
        "paths",
        "report",
        "serving",
        "startup",
        "study",
        "tracking",
    },
    "diff": {"core", "costs", "damage", "defaults", "evaluation", "paths", "report", "stages", "study", "tracking"},
    "running": {
        "core",
        "costs",
        "damage",
        "data",
        "evaluation",
        "params",
        "paths",
        "signals",
        "stages",
        "startup",
        "tracking",
    },
    "notebook": {
        "core",
        "damage",
        "evaluation",
        "params",
        "paths",
        "report",
        "stages",
        "startup",
        "study",
        "tracking",
    },
    "catalogue": {"core", "startup"},
    "data_commands": {"stages"},
    "cli": {
        "catalogue",
        "core",
        "damage",
        "data",
        "data_commands",
        "diff",
        "params",
        "paths",
        "running",
        "signals",
        "stages",
        "startup",
        "tracking",
    },
    "__main__": {"cli"},
    "__init__": {"notebook"},
}
# What a machine with a graphics card has: Python, and these. pydantic, mlflow, dvc, click, pandas, scipy and sklearn
# are not among them.
CORE_NEEDS = {"numpy", "keras", "tensorflow", "jax"}
BACKENDS = {"tensorflow": "core/backends/tensorflow.py", "jax": "core/backends/jax.py"}
# What `paths` calls the folders inside `results`.
INSIDE = re.compile(r"results|trainings|costs|scores|untrained|report|seed-(\{\}|\*|\d+)")


def rooms() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}


def files_of(room: str) -> list[Path]:
    place = PACKAGE / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def everything_imported(path: Path) -> Iterator[str]:
    """Yield each module that the file at `path` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            assert node.module
            yield from (
                (f"resblock.{alias.name}" for alias in node.names) if node.module == "resblock" else [node.module]
            )


def imports_of(path: Path) -> Iterator[str]:
    """Yield the resblock modules that the file at `path` imports, wherever in the file."""
    return (module for module in everything_imported(path) if module.startswith("resblock."))


def test_every_room_is_known() -> None:
    assert rooms() == set(MAY_IMPORT)


def test_the_order_of_rooms_has_no_circle() -> None:
    """A room's permissions name those that stand before it alone."""
    order = list(MAY_IMPORT)
    for room, may in MAY_IMPORT.items():
        if room != "__main__":
            assert may <= set(order[: order.index(room)]), room


def test_no_file_is_imported_back() -> None:
    """Within a room too, and where a function imports."""
    graph = networkx.DiGraph()
    for room in MAY_IMPORT:
        for file in files_of(room):
            parts = file.relative_to(PACKAGE).with_suffix("").parts
            module = ".".join(("resblock", *parts)).removesuffix(".__init__")
            graph.add_edges_from((module, other) for other in imports_of(file) if other != module)
    assert list(networkx.simple_cycles(graph)) == []


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room: str) -> None:
    files = files_of(room)
    assert files
    for file in files:
        for module in imports_of(file):
            imported = module.split(".")[1]
            assert imported in MAY_IMPORT[room] | {room}, f"{file.name} imports {module}"


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_may_import_what_it_imports_and_no_more(room: str) -> None:
    used = {module.split(".")[1] for file in files_of(room) for module in imports_of(file)} - {room}
    assert used == MAY_IMPORT[room]


def test_the_core_needs_keras_a_backend_and_numpy() -> None:
    needed: set[str] = set()
    for file in files_of("core"):
        modules = {module.partition(".")[0] for module in everything_imported(file)} - sys.stdlib_module_names
        assert modules <= CORE_NEEDS | {"resblock"}, f"{file.name} imports {modules - CORE_NEEDS - {'resblock'}}"
        needed |= modules
    assert needed == CORE_NEEDS | {"resblock"}


def test_the_core_loads_none_of_the_rest() -> None:
    """What stands outside it is not even imported on the way, by whatever is."""
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files_of("core")]
    light = [module for module in modules if module != "resblock.core.__main__" and not _needs_keras(module)]
    assert {"resblock.core.recipe", "resblock.core.training.job", "resblock.core.training.run"} <= set(light)
    code = (
        f"import sys\nfor module in {light!r}: __import__(module)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'pydantic', 'mlflow', 'dvc', 'click', 'pandas', 'scipy', 'sklearn', 'keras'}, loaded\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('resblock.')}\n"
        "assert rooms == {'core'}, rooms\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_study_needs_numpy_pandas_and_scipy() -> None:
    """With what it reads of the rooms below: where none of the heavy libraries is, it comes to its verdicts."""
    blocked = ("keras", "tensorflow", "jax", "sklearn", "mlflow", "dvc", "pydantic", "click", "matplotlib")
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files_of("study")]
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        f"for module in {modules!r}: __import__(module)\n"
        "from resblock.evaluation.score import empty_score\n"
        "from resblock.core.spec import ModelSpec\n"
        "from resblock.study.claims import CLAIMS\n"
        "from resblock.study.summary import Study\n"
        "from resblock.study.verdicts import Evidence, Trained, judge\n"
        "study = Study('pets', (empty_score(ModelSpec.parse('cnn-4'), 0, 'missing'),))\n"
        "assert {judge(claim, Evidence(Trained({}, study))).outcome for claim in CLAIMS}\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def _needs_keras(module: str) -> bool:
    """Return whether importing `module` imports Keras: at the top of it or of what it imports there."""
    waiting, seen = [module], set[str]()
    while waiting:
        name = waiting.pop()
        path = PACKAGE.parent / Path(*name.removesuffix(".__init__").split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in ("keras", "tensorflow", "jax") for name in names):
                return True
            waiting += [name for name in names if name.startswith("resblock.") and name not in seen]
            seen |= set(names)
    return False


@pytest.mark.parametrize("library", BACKENDS)
def test_one_file_knows_a_backend(library: str) -> None:
    knowing = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if library in {module.partition(".")[0] for module in everything_imported(file)}
    }
    assert knowing == {BACKENDS[library]}


def test_only_tracking_imports_mlflow() -> None:
    for file in PACKAGE.rglob("*.py"):
        mentions = "import mlflow" in file.read_text() or "from mlflow" in file.read_text()
        assert not mentions or file.relative_to(PACKAGE).parts[0] == "tracking", file


def places_named_in(source: str) -> Iterator[str]:
    """Yield each literal that is part of a path: an operand of `/`, or what a path is made from or searched by.

    What stands in braces of an f-string is left out.
    """
    for node in ast.walk(ast.parse(source)):
        operands: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            operands = [node.left, node.right]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("Path", "PurePath", "joinpath", "glob", "rglob", "match", "open", "with_name", "join"):
                operands = node.args
        for operand in operands:
            if isinstance(operand, ast.Constant) and isinstance(operand.value, str):
                yield operand.value
            elif isinstance(operand, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in operand.values)


def texts_in(source: str) -> Iterator[str]:
    """Yield every literal but docstrings."""
    tree = ast.parse(source)
    words = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in words:
            yield node.value


def names_an_inside(source: str) -> list[str]:
    """Return the literals in `source` that name a folder inside `results`."""
    parts = [place for place in places_named_in(source) if any(map(INSIDE.fullmatch, place.split("/")))]
    whole = [text for text in texts_in(source) if text.startswith("results/")]
    return parts + whole


@pytest.mark.parametrize(
    "source",
    [
        "Path('results') / dataset",
        "root / 'trainings' / recipe",
        "folder.glob('*/scores/*')",
        "Path(f'{dataset}/costs')",
        "run / f'seed-{seed}' / 'x'",
        "where = 'results/digits'",
    ],
)
def test_a_folder_inside_the_results_is_recognised(source: str) -> None:
    assert names_an_inside(source)
    assert not names_an_inside(f'"""{source}"""')


def test_only_paths_knows_the_inside_of_the_results() -> None:
    assert names_an_inside((PACKAGE / "paths.py").read_text())
    for file in sorted(PACKAGE.rglob("*.py")):
        if file != PACKAGE / "paths.py":
            source = file.read_text(encoding="utf-8")
            assert names_an_inside(source) == [], file
            assert "paths.RESULTS" not in source, file


def test_importing_a_module_prints_nothing_and_loads_no_backend() -> None:
    light = (
        "cli params paths core.spec core.recipe core.files core.seeds core.errors core.backends core.training.run "
        "core.training.job data.table study.summary report.page stages.train notebook"
    )
    code = "; ".join(f"import resblock.{name}" for name in light.split())
    code += "; import sys; assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules), 'a heavy import'"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_importing_the_package_loads_nothing() -> None:
    """Nor does asking what it has: what is for notebooks is loaded at its first use."""
    code = (
        "import sys; before = set(sys.modules); import resblock; assert 'read_study' in dir(resblock)\n"
        "assert not hasattr(resblock, 'nothing')\n"
        "new = set(sys.modules) - before\n"
        "loaded = {name for name in new if name.partition('.')[0] not in sys.stdlib_module_names}\n"
        "assert loaded == {'resblock'}, loaded\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
