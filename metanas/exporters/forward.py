"""The body of one class: modules made in `__init__`, values computed in `forward`.

pass 1   what is only another name: a skip, a sum of one value, a sum of nothing but zeros
pass 2   what the output needs, and how often each value is read
pass 3   statements; a value that one sum alone reads is written inside that sum
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metanas.exporters.code import COLUMNS, assigned, bracketed, commented, concatenated, total

UNREAD = "        # The output does not depend on these; they are kept so that the weights fit."


@dataclass(frozen=True)
class Item:
    """One value of a class.

    out, sources: values
    name:         of the module and of the variable
    how:          "apply", "sum", "mean", "concat"
    call:         makes the module; empty: none
    use:          computes the value from `{x}` by `{module}`
    weighs:       whether the module has parameters or buffers
    comment:      put behind the statement
    """

    out: str
    sources: tuple[str, ...]
    name: str
    how: str
    call: str = ""
    use: str = "{module}({x})"
    weighs: bool = True
    comment: str = ""


class Body:
    """The statements of one class. `inputs`: value -> variable; `zero`: values that are always zero."""

    def __init__(self, items: Sequence[Item], inputs: Mapping[str, str], output: str, zero: frozenset[str]) -> None:
        self.items, self.inputs, self.zero = items, inputs, zero
        self.alias: dict[str, str] = {}
        for item in items:
            same = self._same_as(item)
            if same is not None:
                self.alias[item.out] = same
        self.output = self.resolved(output)
        self.reads: dict[str, int] = {self.output: 1}
        self.live: list[Item] = []
        for item in reversed(items):
            if item.out not in self.alias and item.out in self.reads:
                self.live.insert(0, item)
                for source in self.sources(item):
                    self.reads[source] = self.reads.get(source, 0) + 1
        self.chain = self._is_chain()
        self.names = self._names()

    def resolved(self, value: str) -> str:
        return self.alias.get(value, value)

    def sources(self, item: Item) -> tuple[str, ...]:
        """What the value is computed from: zeros are left out of sums."""
        kept = item.sources
        if item.how in ("sum", "mean"):
            kept = tuple(s for s in item.sources if s not in self.zero) or item.sources[:1]
        return tuple(self.resolved(s) for s in kept)

    def _same_as(self, item: Item) -> str | None:
        sources = self.sources(item)
        if item.how == "apply":
            passes = not item.call and item.use == "{x}"
            return sources[0] if passes or (item.out in self.zero and item.sources[0] in self.zero) else None
        if item.out in self.zero and item.how != "concat":
            return sources[0]
        return sources[0] if len(sources) == 1 and item.how == "sum" else None

    def _names(self) -> dict[str, str]:
        """The variable of each value: a node whose only edge is left gives that edge's value its own name."""
        names = {item.out: item.name for item in self.items}
        live = {item.out for item in self.live}
        for item in self.items:
            value = self.alias.get(item.out)
            if item.how != "apply" and value in live and value is not None:
                names[value] = item.name
        return names

    def _is_chain(self) -> bool:
        value = next(iter(self.inputs))
        for item in self.live:
            if item.how != "apply" or self.sources(item) != (value,):
                return False
            value = item.out
        return len(self.inputs) == 1

    def made(self) -> list[str]:
        """The lines that make the modules."""
        live = {item.out for item in self.live}
        read = [item for item in self.items if item.call and item.out in live]
        unread = [item for item in self.items if item.call and item.weighs and item.out not in live]
        lines = [line for item in read for line in assigned(f"self.{item.name}", item.call, indent=8)]
        kept = [line for item in unread for line in assigned(f"self.{item.name}", item.call, indent=8)]
        return [*lines, UNREAD, *kept] if kept else lines

    def computed(self, *, reuse: bool = False) -> list[str]:
        """The lines of `forward`. `reuse`: a plain chain keeps one variable, x."""
        variables = dict(self.inputs)
        one = reuse and self.chain
        inside: dict[str, str] = {}
        lines: list[str] = []
        for item in self.live:
            last = item.out == self.output and self.reads[item.out] == 1
            target = "x" if one else self.names[item.out]
            if item.how == "apply" and not one and not last and self._read_by_one_sum(item):
                inside[item.out] = self._applied(item, variables)
                continue
            head = "return" if last else f"{target} ="
            lines += self._statement(item, head, variables, inside)
            variables[item.out] = target
        if not any(line.startswith("        return") for line in lines):
            lines.append(f"        return {variables[self.output]}")
        return lines

    def _applied(self, item: Item, variables: Mapping[str, str]) -> str:
        values = ", ".join(variables[s] for s in self.sources(item))
        return item.use.replace("{module}", f"self.{item.name}").replace("{x}", values)

    def _read_by_one_sum(self, item: Item) -> bool:
        readers = [other for other in self.live if item.out in self.sources(other)]
        return self.reads[item.out] == 1 and len(readers) == 1 and readers[0].how != "apply"

    def _statement(self, item: Item, head: str, variables: dict[str, str], inside: Mapping[str, str]) -> list[str]:
        if item.how == "apply":
            text = self._applied(item, variables)
            if item.call:
                values = [variables[s] for s in self.sources(item)]
                lines = bracketed(f"{head} self.{item.name}", values, indent=8)
            else:
                lines = [f"        {head} {text}"]
            return commented(lines, item.comment) if item.comment else lines
        sources = self.sources(item)
        terms = [inside.get(s) or variables[s] for s in sources]
        before: list[str] = []
        lines = self._combined(item, head, terms)
        if len(lines) > 1 and (
            len(terms) == 2 or item.how != "sum"
        ):  # a long line: what was written inside it comes before it
            before = [f"        {self.names[s]} = {inside[s]}" for s in sources if s in inside]
            lines = self._combined(item, head, [self.names[s] if s in inside else variables[s] for s in sources])
        return before + (commented(lines, item.comment) if item.comment else lines)

    def _combined(self, item: Item, head: str, terms: Sequence[str]) -> list[str]:
        if item.how == "concat":
            return concatenated(head, terms, indent=8)
        if item.how == "sum":
            return total(head, terms, indent=8)
        count = len(item.sources)
        joined = " + ".join(terms)
        line = f"        {head} {joined if len(terms) == 1 else f'({joined})'} / {count}"
        if len(line) <= COLUMNS:
            return [line]
        return [*total(f"{item.name} =", terms, indent=8), f"        {head} {item.name} / {count}"]
