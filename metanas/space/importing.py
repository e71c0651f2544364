"""Cells as the literature writes them, read into the choices of the shipped spaces, and written back.

    NAS-Bench-201   |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|        `from_nasbench201`; back: `str(architecture)`
    DARTS           Genotype(normal=[('sep_conv_3x3', 0), ...], ...)      `from_genotype`; back: `to_genotype`

What comes in is parsed and never run. A genotype lists the four nodes of a cell in order, two (operation, input) pairs
each; inputs 0 and 1 are the two cells before, 2 to 5 the nodes. The order of a node's two pairs means nothing: they are
added.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from metanas.errors import SpaceError, nearest

NASBENCH201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NASBENCH201_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
DARTS_OPERATIONS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
DARTS_FORM = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=...)"
NODES = (2, 3, 4, 5)
KINDS = ("normal", "reduce")
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
"""Of a genotype, in the order in which it takes them without names."""

MOST_CHARACTERS = 20_000
MOST_NODES = 100
SHOWN = 40
"""Characters of a wrong word that an error repeats."""

Choices = dict[str, str | tuple[str, ...]]
Places = Mapping[tuple[str, int], str]
"""Where the pairs of a genotype stand in its text: (kind of cell, number of the pair) -> " at character 12"."""


def from_nasbench201(text: str) -> dict[str, str]:
    """What the six choices of the space `nasbench201` take, from the benchmark's own string.

    Raises:
        SpaceError: anything else, with the character where it stops being such a string.

    >>> from_nasbench201("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")["2<-1"]
    'skip_connect'
    """
    if not isinstance(text, str):
        raise SpaceError(f"a NAS-Bench-201 string must be text, got {type(text).__name__}")
    taken = {}
    at = len(text) - len(text.lstrip())
    text = text.rstrip()
    for node in (1, 2, 3):
        at = _expect(text, at, "|" if node == 1 else "+|")
        for source in range(node):
            label = re.split(r"[|~+]", text[at:], maxsplit=1)[0]
            if label not in NASBENCH201_OPERATIONS:
                raise SpaceError(
                    f"NAS-Bench-201 string, character {at + 1}: {_shown(label)} is no operation"
                    f"{nearest(label, NASBENCH201_OPERATIONS)}"
                )
            taken[f"{node}<-{source}"] = label
            at = _expect(text, at + len(label), f"~{source}|")
    if at < len(text):
        raise SpaceError(f"NAS-Bench-201 string, character {at + 1}: it should end here, got {_shown(text[at:])}")
    return taken


def _expect(text: str, at: int, wanted: str) -> int:
    """The position behind `wanted`, which must stand at `at`."""
    if not text.startswith(wanted, at):
        got = _shown(text[at : at + len(wanted)]) if at < len(text) else "the end"
        raise SpaceError(
            f"NAS-Bench-201 string, character {at + 1}: expected {wanted!r}, got {got}; the form is {NASBENCH201_FORM}"
        )
    return at + len(wanted)


def from_genotype(genotype: str | Mapping[str, Any] | object) -> Choices:
    """What the choices of the space `darts` take, from a genotype as DARTS and its successors publish them.

    Args:
        genotype: its text (`Genotype(...)`, also after a `NAME =`, or a dict), which is parsed and never run; or an
            object or mapping with its fields. A cell is 8 pairs (operation, input), or 4 pairs of those; numbers
            behind the input (GDAS keeps weights there) are passed over.

    Raises:
        SpaceError: anything else, and cells that the space does not have: other than four nodes of two different
            inputs, or an output that leaves one out.

    >>> cell = [("sep_conv_3x3", 1), ("skip_connect", 0)] * 4
    >>> taken = from_genotype(f"Genotype(normal={cell}, normal_concat=range(2, 6), reduce={cell})")
    >>> taken["normal.5"], taken["normal.5<-1"], taken == from_genotype({"normal": cell, "reduce": cell})
    (('0', '1'), 'sep_conv_3x3', True)
    """
    fields, places = _parsed(genotype) if isinstance(genotype, str) else (_fields_of(genotype), {})
    taken: Choices = {}
    for kind in KINDS:
        if kind not in fields:
            raise SpaceError(f"a genotype needs {kind}; the form is {DARTS_FORM}")
        concat = fields.get(f"{kind}_concat")
        if concat is not None and _numbers(concat) != NODES:
            raise SpaceError(f"{kind}_concat must be 2, 3, 4, 5: a cell gives all its nodes; got {_shown(concat)}")
        taken |= _cell(kind, fields[kind], places)
    return taken


def to_genotype(taken: Mapping[str, Sequence[str]]) -> str:
    """The genotype of an architecture of the space `darts`, the inputs of a node in growing order.

    Raises:
        SpaceError: a choice is missing: it is an architecture of another space.

    >>> cell = [("skip_connect", 0), ("sep_conv_3x3", 1)] * 4
    >>> to_genotype(from_genotype({"normal": cell, "reduce": cell}))
    "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), \
('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1)], normal_concat=range(2, 6), \
reduce=[('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), \
('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1)], reduce_concat=range(2, 6))"
    """
    cells = []
    for kind in KINDS:
        try:
            pairs = [
                (_label(taken[f"{kind}.{node}<-{source}"]), int(source))
                for node in NODES
                for source in sorted(taken[f"{kind}.{node}"])
            ]
        except KeyError as error:
            raise SpaceError(f"no choice {error}: only architectures of the space 'darts' have a genotype") from None
        cells.append(f"{kind}={pairs}, {kind}_concat=range(2, 6)")
    return f"Genotype({', '.join(cells)})"


def _label(taken: str | Sequence[str]) -> str:
    return taken if isinstance(taken, str) else taken[0]


# From text


def _parsed(text: str) -> tuple[dict[str, Any], Places]:
    """The fields that a text writes, and where their pairs stand."""
    if len(text) > MOST_CHARACTERS:
        raise SpaceError(f"a genotype has at most {MOST_CHARACTERS:,} characters, got {len(text):,}")
    fields, places = {}, {}
    for name, node in _fields_in(_tree(text)).items():
        try:
            fields[name] = _value(node)
        except (ValueError, TypeError, RecursionError, MemoryError):
            where = _character(text, node.lineno, node.col_offset)
            raise SpaceError(f"{name}{where} must hold words and numbers alone; the form is {DARTS_FORM}") from None
        pairs = [n for n in ast.walk(node) if isinstance(n, ast.Tuple | ast.List) and _is_pair(n)]
        for k, pair in enumerate(sorted(pairs, key=lambda n: (n.lineno, n.col_offset))):
            places[name, k] = _character(text, pair.lineno, pair.col_offset)
    return fields, places


def _tree(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of strange literals, which are refused later
            return ast.parse(text.strip())
    except SyntaxError as error:
        where = _character(text, error.lineno, (error.offset or 1) - 1) if error.lineno else ""
        raise SpaceError(f"the genotype stops making sense{where} ({error.msg}); the form is {DARTS_FORM}") from None
    except (ValueError, RecursionError, MemoryError):
        raise SpaceError(f"the genotype holds what no genotype does; the form is {DARTS_FORM}") from None


def _fields_in(tree: ast.Module) -> dict[str, ast.expr]:
    """The fields of the one call or dict that a text holds."""
    statement = tree.body[0] if len(tree.body) == 1 else None
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    named: list[tuple[object, ast.expr]]
    if isinstance(value, ast.Call) and len(value.args) <= len(FIELDS):
        named = [*zip(FIELDS, value.args, strict=False), *((k.arg, k.value) for k in value.keywords)]
    elif isinstance(value, ast.Dict):
        named = [(getattr(k, "value", None), v) for k, v in zip(value.keys, value.values, strict=True)]
    else:
        raise SpaceError(f"a genotype is one call or one dict; the form is {DARTS_FORM}")
    fields = {name: node for name, node in named if isinstance(name, str)}
    if len(fields) < len(named):
        raise SpaceError(f"a genotype has the fields {', '.join(FIELDS)}, each once; the form is {DARTS_FORM}")
    return {name: node for name, node in fields.items() if name in FIELDS}


def _value(node: ast.expr) -> Any:
    """The value of a literal, or of `range` and `list(range)` of numbers; ValueError for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "range":
            ends = [int(ast.literal_eval(a)) for a in node.args]
            if any(abs(end) > MOST_NODES for end in ends):
                raise ValueError("a range is too long")
            return range(*ends)
        if node.func.id in ("list", "tuple") and len(node.args) == 1:
            return _value(node.args[0])
    return ast.literal_eval(node)


def _is_pair(node: ast.Tuple | ast.List) -> bool:
    return bool(node.elts) and isinstance(node.elts[0], ast.Constant) and isinstance(node.elts[0].value, str)


def _character(text: str, line: int, column: int) -> str:
    """Where a place of the stripped text stands in the whole one."""
    before = text.strip().split("\n")[: line - 1]
    start = len(text) - len(text.lstrip())
    return f" at character {start + sum(len(row) + 1 for row in before) + column + 1}"


# From objects


def _fields_of(genotype: object) -> dict[str, Any]:
    if isinstance(genotype, Mapping):
        return {name: genotype[name] for name in FIELDS if name in genotype}
    return {name: getattr(genotype, name) for name in FIELDS if hasattr(genotype, name)}


def _cell(kind: str, rows: Any, places: Places) -> Choices:
    """What the choices of one kind of cell take."""
    pairs = _flat(rows)
    if len(pairs) != 2 * len(NODES):
        raise SpaceError(f"{kind} must hold 8 pairs (operation, input), two for each of four nodes; got {len(pairs)}")
    taken: Choices = {}
    for k, pair in enumerate(pairs):
        node, where = NODES[k // 2], f"{kind}, node {NODES[k // 2]}{places.get((kind, k), '')}"
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) < 2:
            raise SpaceError(f"{where}: expected a pair (operation, input), got {_shown(pair)}")
        operation, source = pair[0], _number(pair[1])
        if operation not in DARTS_OPERATIONS:
            hint = "; it is never derived" if operation == "none" else nearest(operation, DARTS_OPERATIONS)
            raise SpaceError(f"{where}: {_shown(operation)} is no operation{hint}")
        if source is None or not 0 <= source < node:
            raise SpaceError(f"{where}: the input must be 0 to {node - 1}, got {_shown(pair[1])}")
        edge = f"{kind}.{node}<-{source}"
        if edge in taken:
            raise SpaceError(f"{where}: input {source} twice; in the space 'darts' a node has two different inputs")
        taken[edge] = operation
    sources = [sorted(_number(p[1]) or 0 for p in pairs[k : k + 2]) for k in range(0, len(pairs), 2)]
    return taken | {f"{kind}.{node}": tuple(map(str, row)) for node, row in zip(NODES, sources, strict=True)}


def _flat(rows: Any) -> list[Any]:
    """The pairs of a cell; two nested ones for each node are taken apart."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        return []
    nested = [row for row in rows if isinstance(row, Sequence) and row and not isinstance(row[0], str)]
    return [pair for row in rows for pair in row] if len(nested) == len(rows) else list(rows)


def _number(value: Any) -> int | None:
    """A whole number, of whatever type (numpy's, too); None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _numbers(values: Any) -> tuple[int | None, ...]:
    """Whole numbers in growing order; empty for anything else."""
    found = [_number(value) for value in values] if isinstance(values, Sequence) else []
    return () if None in found else tuple(sorted(n for n in found if n is not None))


def _shown(value: object) -> str:
    """A value as an error repeats it: on one line, and not all of it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
