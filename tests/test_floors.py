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
    {"errors", "lazy"},
)
HEIGHT = {room: -k for k, floor in enumerate(FLOORS) for room in floor}
ROOT = {"metanas", "metanas.__main__"}  # the package itself: lazy names above everything, __version__ for everybody

STDLIB = set(sys.stdlib_module_names)
CORE = ("space", "network", "bilevel", "controllers", "loop")
OUTSIDE = {  # what a room may import from outside, at module level or anywhere
    "errors": set(),
    "lazy": set(),
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
EXCEPT = {"metanas.run.tensors": {"torch", "safetensors"}, "metanas.run.checkpoints": {"torch"}}  # which names a type


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


SLOW = {"torch", "safetensors", "scipy", "sklearn", "optuna", "networkx", "pandas"}
LAZY = {  # package -> each name that it loads when it is used, and the module that holds it
    name: ast.literal_eval(node.value)
    for name, tree in TREES.items()
    for node in tree.body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
}

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
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "ui"} <= {"ui", "run", "space", "errors", "lazy"}


def test_bilevel_knows_no_graph() -> None:
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "bilevel"} <= {"bilevel", "errors"}


def test_network_knows_no_controller_and_no_data() -> None:
    assert {room_of(i.target) for i in INSIDE if room_of(i.source) == "network"} <= {"network", "space", "errors"}


def test_only_run_tensors_in_run_knows_torch() -> None:
    others = {"metanas.run.tensors", "metanas.run.checkpoints"}
    known = [i for i in INSIDE if room_of(i.source) == "run" and i.target in others]
    assert {i.source for i in known if i.target == "metanas.run.tensors"} == {"metanas.run.checkpoints"}
    assert [str(i) for i in known if i.target == "metanas.run.checkpoints"] == []
    assert not loaded_by("metanas.run.checkpoints") & SLOW


def at_module_level(nodes: Iterable[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from at_module_level([*node.body, *node.orelse])
        elif isinstance(node, ast.ClassDef | ast.Try | ast.With):
            yield from at_module_level(node.body)


def loaded_by(module: str) -> set[str]:
    """Every module of metanas, and every package of others, that comes with a module; lazy names are followed home."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name not in FILES:
            continue
        waiting += [parent for parent in (name.rpartition(".")[0],) if parent]
        for node in at_module_level(TREES[name].body):
            if isinstance(node, ast.Import):
                waiting += [a.name if a.name in FILES else a.name.split(".")[0] for a in node.names]
                continue
            base = str(node.module)
            waiting.append(base if base in FILES else base.split(".")[0])
            for alias in node.names:
                whole, home = f"{base}.{alias.name}", LAZY.get(base, {}).get(alias.name)
                waiting += [whole] if whole in FILES else [home] if home else []
    return found


@pytest.mark.parametrize("module", ["api.by_value", "cli.app", "evaluation.tables", "ui.pick"])
def test_a_search_over_a_table_loads_nothing_slow(module: str) -> None:
    assert not loaded_by(f"metanas.{module}") & SLOW
    assert "torch" in loaded_by("metanas.api.functions"), "the test sees what is loaded"


def test_names_that_are_lazy_are_those_that_mypy_reads() -> None:
    assert len(LAZY) >= 7
    for name, homes in LAZY.items():
        (block,) = (n for n in TREES[name].body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
        told = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
        assert told == homes
        assert not {f"{name}.{given}" for given in homes} & set(FILES), "a submodule would take the place of the name"


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
