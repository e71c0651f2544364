"""Writing Python as a formatter would: names that are identifiers, literals that are safe, lines of at most 88 columns.

The written file must not change under `ruff format` or `black`, and neither is at hand where an export runs; so the few
shapes of statement that an export needs are laid out here by the same rules.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

from torch import nn

COLUMNS = 88
LONGEST_NAME = 24  # so that `name = name + name` fits on a line
TAKEN = frozenset(
    {
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        *dir(nn.Module()),
        "nn",
        "torch",
        "F",
        "Tensor",
        "zeros",
        "x",
    }
    | {f"x{k}" for k in range(10)}
)
"""Names that a value or a module of the written file must not bear."""


def literal(text: str) -> str:
    """A string literal of `text`, in the quotes that a formatter would choose. Invisible characters are escaped, so
    that no name can end the literal or hide in it.

    >>> print(literal('cat'), literal('a "b"'), literal('x\\n\\u202e'))
    "cat" 'a "b"' "x\\n\\u202e"
    """
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = {quote: "\\" + quote, "\\": "\\\\"}
    return quote + "".join(escaped.get(c) or (c if c.isprintable() else repr(c)[1:-1]) for c in text) + quote


def identifier(text: str, used: Iterable[str] = ()) -> str:
    """A Python name near `text`, neither reserved nor among `used`.

    >>> identifier("2.from_0"), identifier("cell-1"), identifier("forward"), identifier("a", {"a"})
    ('node2_from_0', 'cell_1', 'forward_', 'a_2')
    """
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_") or "value"
    name = f"node{name}" if name[0].isdigit() else name
    name = name[:LONGEST_NAME].rstrip("_")
    name = f"{name}_" if name in TAKEN else name
    used = set(used)
    unique, k = name, 2
    while unique in used:
        unique = f"{name[: LONGEST_NAME - 4].rstrip('_')}_{k}"
        k += 1
    return unique


def camel(text: str) -> str:
    """A class name.

    >>> camel("stage_cell"), camel("2x")
    ('StageCell', 'Part2x')
    """
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^0-9A-Za-z]+", text))
    return name if name[:1].isalpha() else f"Part{name}"


def columns(line: str) -> int:
    """How many columns a line takes: an East Asian wide character takes two.

    >>> columns("ab"), columns("\u732b")
    (2, 2)
    """
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def constant(name: str, value: str) -> list[str]:
    """`name = value`, the value on a line of its own where it fits only there."""
    if columns(f"{name} = {value}") <= COLUMNS or columns(f"    {value}") > COLUMNS:
        return [f"{name} = {value}"]
    return [f"{name} = (", f"    {value}", ")"]


def bracketed(head: str, items: Sequence[str], *, indent: int = 0, ends: str = "()", tail: str = "") -> list[str]:
    """`head(items)tail` on one line, or the items on a line of their own, or each on a line.

    >>> bracketed("x = f", ["a", "b"])
    ['x = f(a, b)']
    """
    space, inner = " " * indent, " " * (indent + 4)
    line = f"{space}{head}{ends[0]}{', '.join(items)}{ends[1]}{tail}"
    if len(line) <= COLUMNS or not items:
        return [line]
    together = inner + ", ".join(items)
    if len(together) <= COLUMNS:
        return [f"{space}{head}{ends[0]}", together, f"{space}{ends[1]}{tail}"]
    return [f"{space}{head}{ends[0]}", *(f"{inner}{item}," for item in items), f"{space}{ends[1]}{tail}"]


def sequence(head: str, items: Sequence[str], *, indent: int = 0) -> list[str]:
    """`head = (items)`, a tuple that stays one when it holds one item; broken after every item where it is long."""
    space, inner = " " * indent, " " * (indent + 4)
    line = f"{space}{head} = ({', '.join(items)}{',' if len(items) == 1 else ''})"
    if columns(line) <= COLUMNS or not items:
        return [line]
    return [f"{space}{head} = (", *(f"{inner}{item}," for item in items), f"{space})"]


def total(head: str, terms: Sequence[str], *, indent: int = 0) -> list[str]:
    """`head terms[0] + terms[1] + ...`, in parentheses where it is long, each operator then at the start of a
    line if need be.
    """
    space, inner = " " * indent, " " * (indent + 4)
    line = f"{space}{head} {' + '.join(terms)}"
    if len(line) <= COLUMNS or len(terms) == 1:
        return [line]
    together = f"{inner}{' + '.join(terms)}"
    if len(together) <= COLUMNS:
        return [f"{space}{head} (", together, f"{space})"]
    return [f"{space}{head} (", inner + terms[0], *(f"{inner}+ {term}" for term in terms[1:]), f"{space})"]


def concatenated(head: str, terms: Sequence[str], *, indent: int = 0) -> list[str]:
    """`head torch.cat([terms], dim=1)`."""
    listed = f"[{', '.join(terms)}]"
    lines = bracketed(f"{head} torch.cat", [listed, "dim=1"], indent=indent)
    space = " " * (indent + 4)
    return [
        line
        for whole in lines
        for line in (
            bracketed("", terms, indent=indent + 4, ends="[]", tail=",")
            if whole == f"{space}{listed}," and len(whole) > COLUMNS
            else [whole]
        )
    ]


def assigned(target: str, call: str, *, indent: int) -> list[str]:
    """`target = call`, broken at the arguments of the call where it is long.

    >>> assigned("self.a", "Cell(16, kernel=3)", indent=0)
    ['self.a = Cell(16, kernel=3)']
    """
    head, _, rest = call.partition("(")
    return bracketed(f"{target} = {head}", arguments(rest.removesuffix(")")), indent=indent)


def arguments(text: str) -> list[str]:
    """The arguments in the text of a call.

    >>> arguments("nn.Linear(2, 3), nn.ReLU()")
    ['nn.Linear(2, 3)', 'nn.ReLU()']
    """
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def commented(lines: list[str], comment: str) -> list[str]:
    """The statement with a comment at its end, or before it where the line would be too long."""
    if len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= COLUMNS:
        return [f"{lines[0]}  # {comment}"]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return [f"{' ' * indent}# {comment}", *lines]
