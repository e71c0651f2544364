"""A picture as text that other tools lay out: DOT for Graphviz, Mermaid for pages in Markdown.

Labels are quoted so that nothing in them ends them: no name of a choice or an operation becomes markup. Both tools put
what comes first at the bottom, so the network comes last.
"""

from __future__ import annotations

from collections.abc import Iterator

from metanas.exporters.pictures.palette import FAINT, PALETTE, TEXT, colour_of
from metanas.exporters.pictures.picture import Arrow, Picture, Vertex

MERMAID = {
    "#": "35",
    '"': "quot",
    "&": "amp",
    "<": "lt",
    ">": "gt",
    "`": "96",
    "\\": "92",
    ";": "59",
    "$": "36",
    ":": "58",
}
"""Characters that mean something to Mermaid, even in quotes, and the name or number that stands for them."""


def dot(picture: Picture) -> str:
    """The picture in the DOT language, a cluster for each group.

    >>> from metanas.exporters.pictures.picture import Group
    >>> print(dot(Picture("one", (Group("g0", "network"),), (Vertex("n0", 'a "b"', "conv", 0, "g0"),), ())))
    digraph "one" {
      rankdir=LR; nodesep=0.15; fontname="Helvetica"; fontcolor="#1a1a1a";
      node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=12, fontcolor="#1a1a1a"];
      edge [fontname="Helvetica", fontsize=10, arrowsize=0.7];
      subgraph "cluster_g0" {
        label="network"; labeljust=l; color="#9a9a9a";
        n0 [label="a \\"b\\"", fillcolor="#ddf0fb", color="#2b87bd"];
      }
    }
    """
    rows = [
        f"digraph {_quoted(picture.title)} {{",
        f'  rankdir=LR; nodesep=0.15; fontname="Helvetica"; fontcolor="{TEXT}";',
        f'  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=12, fontcolor="{TEXT}"];',
        '  edge [fontname="Helvetica", fontsize=10, arrowsize=0.7];',
    ]
    for group in reversed(picture.groups):
        rows.append(f'  subgraph "cluster_{group.id}" {{')
        rows.append(f'    label={_quoted(group.title)}; labeljust=l; color="{FAINT}";')
        rows += [f"    {_dot_node(vertex)}" for vertex in picture.nodes if vertex.group == group.id]
        rows.append("  }")
    rows += [f"  {_dot_edge(arrow)}" for arrow in picture.edges]
    return "\n".join([*rows, "}"])


def _dot_node(vertex: Vertex) -> str:
    colour = colour_of(vertex.kind)
    return f'{vertex.id} [label={_quoted(vertex.label)}, fillcolor="{colour.fill}", color="{colour.line}"];'


def _dot_edge(arrow: Arrow) -> str:
    colour = colour_of(arrow.kind).line
    facts = [f"label={_quoted(arrow.label)}", f'fontcolor="{colour}"'] if arrow.label else []
    facts += [f'color="{colour}"', *(["style=dotted"] if arrow.kind == "none" else [])]
    return f"{arrow.source} -> {arrow.target} [{', '.join(facts)}];"


def _quoted(text: str) -> str:
    """A quoted string of DOT. Graphviz reads escapes (`\\N` is a node's name) and entities (`&lt;`) in labels."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;").replace("\n", "\\n")
    return f'"{text}"'


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart, a subgraph for each group.

    >>> from metanas.exporters.pictures.picture import Group
    >>> print(mermaid(Picture("one", (Group("g0", "network"),), (Vertex("n0", 'a "b"', "conv", 0, "g0"),), ())))
    flowchart LR
      subgraph g0["network"]
        direction LR
        n0("a #quot;b#quot;"):::conv
      end
      style g0 fill:#ffffff,stroke:#9a9a9a,color:#1a1a1a
      classDef conv fill:#ddf0fb,stroke:#2b87bd,color:#1a1a1a
    """
    rows = ["flowchart LR"]
    for group in reversed(picture.groups):
        rows += [f'  subgraph {group.id}["{_entities(group.title)}"]', "    direction LR"]
        rows += [f'    {v.id}("{_entities(v.label)}"):::{_class(v.kind)}' for v in picture.nodes if v.group == group.id]
        inside = {v.id for v in picture.nodes if v.group == group.id}
        rows += [f"    {_mermaid_edge(arrow)}" for arrow in picture.edges if arrow.source in inside]
        rows.append("  end")
    rows += [f"  {row}" for row in _classes(picture)]
    return "\n".join(rows)


def _mermaid_edge(arrow: Arrow) -> str:
    line = "-.->" if arrow.kind == "none" else "-->"
    label = f'|"{_entities(arrow.label)}"|' if arrow.label else ""
    return f"{arrow.source} {line}{label} {arrow.target}"


def _classes(picture: Picture) -> Iterator[str]:
    """How groups look, the classes of the boxes' kinds, and the colours of the arrows, by their number."""
    for group in picture.groups:
        yield f"style {group.id} fill:#ffffff,stroke:{FAINT},color:{TEXT}"
    used = {_class(vertex.kind) for vertex in picture.nodes}
    for kind, colour in PALETTE.items():
        if _class(kind) in used:
            yield f"classDef {_class(kind)} fill:{colour.fill},stroke:{colour.line},color:{TEXT}"
    groups = {vertex.id: vertex.group for vertex in picture.nodes}
    ordered = [a for group in reversed(picture.groups) for a in picture.edges if groups.get(a.source) == group.id]
    for kind in PALETTE:
        numbers = [str(k) for k, arrow in enumerate(ordered) if kind and arrow.kind == kind]
        if numbers:
            yield f"linkStyle {','.join(numbers)} stroke:{PALETTE[kind].line}"


def _class(kind: str) -> str:
    return kind if kind in PALETTE and kind else "other"


def _entities(text: str) -> str:
    """The inside of a quoted label of Mermaid."""
    return "".join("<br/>" if c == "\n" else f"#{MERMAID[c]};" if c in MERMAID else c for c in text)
