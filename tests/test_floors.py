"""The floors of docs/architecture.md: imports point down only, and neighbours do not import each other.

Every module is parsed, so imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

import metanas

PACKAGE = Path(metanas.__file__).parent
SPACES = PACKAGE.parent / "search_spaces"

FLOORS = (
    {"cli"},
    {"api"},
    {"recipe"},
    {"loop", "modes", "evaluation", "exporters", "samplers", "ui"},
    {"network", "controllers"},
    {"space", "bilevel", "data", "run"},
    {"errors"},
)
HEIGHT = {room: -k for k, floor in enumerate(FLOORS) for room in floor}
ROOT = {"metanas", "metanas.__main__"}  # the package itself: lazy names above everything, __version__ for everybody

STDLIB = set(sys.stdlib_module_names)
CORE = ("space", "network", "bilevel", "controllers", "loop")
OUTSIDE = {  # what a room may import from outside, at module level or anywhere
    "errors": set(),
    "run": set(),
    "ui": {"rich", "textual"},
    "space": {"numpy", "networkx"},
    "network": {"torch", "numpy", "networkx"},
    "bilevel": {"torch", "numpy", "networkx"},
    "controllers": {"torch", "numpy", "networkx"},
    "loop": {"torch", "numpy", "networkx"},
    "modes": {"torch", "numpy"},
    "evaluation": {"torch", "numpy", "nats_bench"},
    "samplers": {"numpy", "optuna"},
    "data": {"torch", "numpy", "sklearn", "PIL"},
    "exporters": {"torch", "numpy", "safetensors", "onnx", "onnxruntime"},
    "recipe": {"torch", "pydantic", "tomli_w"},
    "api": {"torch", "numpy", "optuna", "scipy"},
    "cli": {"typer", "rich"},
}
EXCEPT = {"metanas.run.checkpoints": {"torch", "safetensors"}}  # the part of run that knows torch


@dataclass(frozen=True)
class Import:
    """One imported module, by its whole name, and where."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def room_of(module: str) -> str:
    """`metanas.space.graph` -> `space`; "" for the package itself."""
    return "" if module in ROOT else module.split(".")[1]


def imports_of(name: str, tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively; write the whole name"
            base = str(node.module)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(name, whole if whole in FILES else base, node.lineno)


IMPORTS = [found for name, tree in TREES.items() for found in imports_of(name, tree)]
INSIDE = [found for found in IMPORTS if found.target.split(".")[0] == "metanas"]


def test_the_tests_see_the_package() -> None:
    assert len(FILES) > 80 and len(INSIDE) > 200
    assert Import("metanas.bilevel.solve", "metanas.bilevel.trees", 0).target in {i.target for i in INSIDE}


def test_every_room_is_in_the_picture() -> None:
    assert {room_of(name) for name in FILES} - {""} == set(HEIGHT)
    assert set(OUTSIDE) == set(HEIGHT)


def not_down(imports: Iterable[Import]) -> list[str]:
    """The imports between rooms that do not point down; the package itself is no room."""
    return [
        str(found)
        for found in imports
        if (above := room_of(found.source)) and (below := room_of(found.target)) and above != below
        if HEIGHT[above] <= HEIGHT[below]
    ]


def test_imports_point_down_and_neighbours_do_not_import_each_other() -> None:
    assert not not_down(INSIDE)
    up = Import("metanas.space.graph", "metanas.api", 3)
    beside = Import("metanas.ui.live", "metanas.loop.steps", 4)
    assert len(not_down([up, beside, Import("metanas.api.work", "metanas.run", 5)])) == 2


def test_rooms_take_only_the_version_and_the_place_from_the_package_itself() -> None:
    wrong = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "metanas" and name not in ROOT:
                wrong += [f"{name}: {a.name}" for a in node.names if a.name != "__version__"]
            if isinstance(node, ast.Import) and name != "metanas.recipe.spaces":  # which looks beside the package
                wrong += [f"{name}: {a.name}" for a in node.names if a.name.split(".")[0] == "metanas"]
    assert not wrong


def test_no_import_circle() -> None:
    """Between modules, imports under TYPE_CHECKING and in functions too; a package's __init__ only re-exports."""
    graph = {name: {i.target for i in INSIDE if i.source == name and i.target in FILES} for name in FILES}
    init = {name for name, path in FILES.items() if path.name == "__init__.py"}
    graph = {name: {t for t in targets if t not in init} for name, targets in graph.items() if name not in init}
    order: dict[str, str] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert order.get(name) != "open", f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in order:
            order[name] = "open"
            for target in sorted(graph[name]):
                visit(target, (*way, name))
            order[name] = "closed"

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("room", sorted(OUTSIDE))
def test_what_a_room_imports_from_outside(room: str) -> None:
    wrong = []
    for found in IMPORTS:
        package = found.target.split(".")[0]
        if room_of(found.source) != room or package == "metanas" or package in STDLIB:
            continue
        if package not in OUTSIDE[room] | EXCEPT.get(found.source, set()):
            wrong.append(str(found))
    assert not wrong


def test_the_ui_knows_the_run_folder_and_nothing_else() -> None:
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "ui"} <= {"ui", "run", "space", "errors"}


def test_bilevel_knows_no_graph() -> None:
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "bilevel"} <= {"bilevel", "errors"}


def test_network_knows_no_controller_and_no_data() -> None:
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "network"} <= {"network", "space", "errors"}


def test_only_run_checkpoints_in_run_knows_torch() -> None:
    others = [i for i in INSIDE if room_of(i.source) == "run" and i.target == "metanas.run.checkpoints"]
    assert [str(i) for i in others if i.source != "metanas.run.checkpoints"] == []


def test_shipped_spaces_import_the_space_room_only() -> None:
    for path in SPACES.glob("*.py"):
        for found in imports_of(path.stem, ast.parse(path.read_text(encoding="utf-8"))):
            package = found.target.split(".")[0]
            assert package in STDLIB or found.target.startswith("metanas.space"), f"{path.name}: {found.target}"


def test_no_module_is_named_like_a_public_function() -> None:
    public = {name for name in metanas.__all__ if not name.startswith("__")}
    assert not public & {name.rpartition(".")[2] for name in FILES}


def test_an_init_only_re_exports() -> None:
    """Docstring, imports, `__all__`, the functions of PEP 562; api looks at torch's version before it imports it."""
    for name, path in FILES.items():
        for node in TREES[name].body if path.name == "__init__.py" else ():
            lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
            plain = isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.If | ast.Assign)
            assert lazy or plain, f"{path}:{node.lineno} {ast.unparse(node)}"


def test_no_bare_except() -> None:
    bare = [
        f"{path}:{node.lineno}"
        for path in chain(PACKAGE.rglob("*.py"), SPACES.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not bare


def test_files_and_functions_are_short() -> None:
    files = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES.values()}
    assert {path: lines for path, lines in files.items() if lines > 650} == {}
    assert sum(lines > 400 for lines in files.values()) <= 3, "few files over 400 lines"
    long = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body  # a docstring is no code
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{name}:{node.lineno} {node.name} has {lines} lines"] if lines >= 50 else []
    assert not long


def test_every_module_says_its_idea() -> None:
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_no_mode_is_asked_for() -> None:
    """The three modes are functions; nothing below them may ask which one it is."""
    asked = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "mode"
    ]
    assert not asked


MODES = {"structure", "theta0", "prototypes", "maml", "anil", "support", "queries", "fewshot", "few_shot"}


def words_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name of the code, and every string that could be one; docstrings are no code."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.FunctionDef(name=word):
                yield node.lineno, word
            case ast.Constant(value=str(word)) | ast.ClassDef(name=word) | ast.alias(name=word):
                yield node.lineno, word
            case ast.keyword(arg=str(word)):
                yield node.value.lineno, word


def test_what_optimises_has_no_word_for_a_mode() -> None:
    """Outer variables have the names that a mode gives them; the estimators and the loops know none of these."""
    found = [
        f"{name}:{line} {word}"
        for name, tree in TREES.items()
        if room_of(name) in ("bilevel", "loop")
        for line, word in words_of(tree)
        if word.lower() in MODES
    ]
    assert found == []
    assert {"maml", "theta0"} <= {word for _, word in words_of(ast.parse("if outer['maml']: run(theta0=1)"))}
