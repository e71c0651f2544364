"""The page as one text: a pure function of the run's state and its recipe.

It asks for nothing: its policy forbids every connection, styles and scripts stand in it, pictures are SVG among the
text. What a run says is text and stays text.
"""

from __future__ import annotations

from collections.abc import Callable

from metanas.ui.fields import Record
from metanas.ui.page.closing import asked, log
from metanas.ui.page.curves import curves
from metanas.ui.page.front import front
from metanas.ui.page.learning import episodes, hypergradient, learned, trials
from metanas.ui.page.markup import safe, tag
from metanas.ui.page.networks import evaluated, networks
from metanas.ui.page.overview import overview
from metanas.ui.page.script import SCRIPT
from metanas.ui.page.structure import structure
from metanas.ui.page.style import STYLE
from metanas.ui.page.timeline import timeline
from metanas.ui.state import RunState

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

Part = Callable[[RunState], str]
SEARCH: tuple[Part, ...] = (curves, structure, timeline, networks, front, evaluated, hypergradient, log)
TUNING: tuple[Part, ...] = (curves, learned, hypergradient, trials, networks, log)
FEW_SHOT: tuple[Part, ...] = (episodes, curves, learned, hypergradient, trials, networks, log)


def page(state: RunState, recipe: Record, now: float | None = None) -> str:
    """The whole document.

    Args:
        state: of the run.
        recipe: the content of recipe.json; an empty mapping where there is none.
        now: unix seconds at which it is written; None leaves out how old the last event is.

    >>> text = page(RunState("<first>"), {})
    >>> text[:15], "<title>&lt;first&gt;</title>" in text, "<script>first" in text
    ('<!DOCTYPE html>', True, False)
    """
    parts = FEW_SHOT if state.few_shot else TUNING if state.tuning else SEARCH
    drawn = [part(state) for part in parts]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>',
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", safe(state.name)),
        tag("style", STYLE),
    )
    foot = tag("footer", "a report of metanas; it was written from the run folder and needs nothing else")
    body = tag("body", overview(state, recipe, now), tag("main", *drawn, asked(recipe)), foot, tag("script", SCRIPT))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
