"""Markup as text: elements that close, attributes that are quoted, and the one door for text that comes from a run.

    tag("td", safe("<b>"), cls="number")      <td class="number">&lt;b&gt;</td>

What is passed as content is markup already; whatever a run says goes through `safe` first.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from metanas.ui.text import inert

EMPTY = {
    "meta",
    "link",
    "input",
    "line",
    "circle",
    "path",
    "rect",
    "polygon",
    "br",
}  # elements that may have no content


def safe(text: object) -> str:
    """Text as text: what a terminal or a reader's eye would obey is made visible, what HTML would obey is escaped.

    >>> safe("<script>\\u202e&")
    '&lt;script&gt;&lt;U+202E&gt;&amp;'
    """
    return html.escape(inert(text))


def tag(name: str, /, *content: str, **attributes: object) -> str:
    """An element that is well-formed as HTML and as XML; `cls` is its class, `_` in names stands for `-`.

    An attribute that is None is left out; its value is text, made safe here.

    >>> tag("line", x1=0.5, stroke_width=2, cls=None), tag("p", "a", tag("b", "c"), id='"')
    ('<line x1="0.5" stroke-width="2"/>', '<p id="&quot;">a<b>c</b></p>')
    """
    named = {"class" if key == "cls" else key.replace("_", "-"): value for key, value in attributes.items()}
    inside = "".join(f' {key}="{safe(value)}"' for key, value in named.items() if value is not None)
    inner = "".join(content)
    return f"<{name}{inside}/>" if name in EMPTY and not inner else f"<{name}{inside}>{inner}</{name}>"


def section(title: str, *content: str, note: str = "") -> str:
    """A part of the page under a headline, with a note beside it; "" where it has nothing to say.

    Args:
        title: a word of ours.
        content: markup.
        note: text, made safe here.

    >>> section("log"), section("log", "<p>x</p>", note="1 <b>")
    ('', '<section id="log"><h2>log <small>1 &lt;b&gt;</small></h2><p>x</p></section>')
    """
    if not any(content):
        return ""
    beside = [" ", tag("small", safe(note))] if note else []
    return tag("section", tag("h2", title, *beside), *content, id=title.replace(" ", "-"))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), cls: str = "") -> str:
    """A table that scrolls by itself where the page is too narrow for it.

    Args:
        heads: markup.
        rows: of markup, as long as `heads`; an entry that begins with `<td` is a whole cell.
        numbers: the columns that are aligned to the right.
        cls: its class.
    """
    right = set(numbers)

    def cell(place: int, text: str, name: str) -> str:
        return text if text.startswith("<td") else tag(name, text, cls="number" if place in right else None)

    head = tag("tr", *(cell(place, text, "th") for place, text in enumerate(heads)))
    body = [tag("tr", *(cell(place, text, "td") for place, text in enumerate(row))) for row in rows]
    if not body:
        return ""
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), cls=cls or None), cls="scrolls")


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names with their values, as a list of terms; a pair without a value is left out.

    >>> facts([("seed", 0), ("device", None)])
    '<dl><div><dt>seed</dt><dd>0</dd></div></dl>'
    """
    known = [(name, value) for name, value in pairs if value not in (None, "")]
    entries = [tag("div", tag("dt", name), tag("dd", safe(value))) for name, value in known]
    return tag("dl", *entries) if entries else ""
