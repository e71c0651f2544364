"""Every key of the application, once: the bindings and the help are made from these tables.

    Key("j,down", "down", "j ↓", "a line down")

A key that has many names in textual is shown by one; `shown` is what the help says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Key:
    """Keys that do the same: textual's names for them, the action, how the help shows them, and what they do."""

    keys: str
    action: str
    shown: str
    words: str


ALWAYS = (Key("ctrl+c,ctrl+q", "quit", "ctrl-c ctrl-q", "quit at once"),)
MOVING = (
    Key("j,down", "down", "j down", "one line down"),
    Key("k,up", "up", "k up", "one line up"),
    Key("g", "top", "g", "to the first line"),
    Key("G", "bottom", "G", "to the last line"),
    Key("ctrl+d", "half(1)", "ctrl-d", "half a page down"),
    Key("ctrl+u", "half(-1)", "ctrl-u", "half a page up"),
    Key("pagedown,space", "page(1)", "pgdn space", "a page down"),
    Key("pageup", "page(-1)", "pgup", "a page up"),
)
COMMON = (
    Key("question_mark", "help", "?", "this help"),
    Key("t", "theme", "t", "next theme: dark, light, high contrast, plain"),
    Key("e", "export", "e", "export as SVG and as text, into the current folder"),
    Key("q,escape", "back", "q esc", "back; quit where there is nothing to go back to"),
)
RUNS = (
    Key("enter", "open", "enter", "open the run"),
    Key("slash", "filter", "/", "filter: name, space, data, controller, status; esc ends"),
    Key("s", "sort", "s", "next order: newest, name, score, time"),
    Key("p", "pin", "p", "pin the run, or take the pin off"),
    Key("c", "compare", "c", "compare the pinned runs, or the pinned and this one"),
    Key("h,left", "sideways(-1)", "h left", "scroll left"),
    Key("l,right", "sideways(1)", "l right", "scroll right"),
    Key("home", "top", "home", "to the first run"),
    Key("end", "bottom", "end", "to the last run"),
)
RUN = (
    Key("tab,l,right", "turn(1)", "tab l right", "next tab"),
    Key("shift+tab,h,left", "turn(-1)", "shift-tab h left", "tab before"),
    *(Key(str(n), f"tab({n})", str(n), f"tab {n}") for n in range(1, 10)),
    Key("left_square_bracket", "step(-1)", "[", "one event back in the replay"),
    Key("right_square_bracket", "step(1)", "]", "one event forward"),
    Key("left_curly_bracket", "step(-10)", "{", "ten events back"),
    Key("right_curly_bracket", "step(10)", "}", "ten events forward"),
    Key("home", "first", "home", "to before the first event"),
    Key("end", "live", "end", "back to live"),
    Key("L", "log", "L", "logarithmic scale of the curves"),
    Key("P", "pause", "P", "pause the running search, or let it go on"),
    Key("S", "stop", "S", "stop the running search (asks first)"),
)
HELP = (Key("question_mark,q,escape,enter", "close", "? q esc enter", "close the help"),)
CONFIRM = (
    Key("y", "answer(True)", "y", "yes"),
    Key("n,q,escape,enter", "answer(False)", "n q esc enter", "no"),
)
MOUSE = (
    ("wheel", "scroll"),
    ("click", "choose a run; once more: open it"),
    ("click", "turn to a tab; go to a place of the replay (or drag)"),
)
AREAS = (
    ("everywhere", (*MOVING, *COMMON, *ALWAYS)),
    ("list of runs", RUNS),
    ("one run", RUN),
    ("a question", CONFIRM),
    ("this help", HELP),
)


def bindings(*tables: Iterable[Key]) -> list[BindingType]:
    """What textual binds.

    >>> [(bound.key, bound.action) for bound in bindings(HELP)]
    [('question_mark,q,escape,enter', 'close')]
    """
    return [Binding(key.keys, key.action, key.words, show=False) for table in tables for key in table]


def help_rows() -> list[tuple[str, str]]:
    """The rows of the help; one with an empty second part is a title. The nine tabs are one row.

    >>> [row for row in help_rows() if row[0] in ("1", "1 .. 9", "[")]
    [('1 .. 9', 'that tab'), ('[', 'one event back in the replay')]
    """
    rows = []
    for title, keys in AREAS:
        rows.append((title, ""))
        for key in keys:
            if key.action == "tab(1)":
                rows.append(("1 .. 9", "that tab"))
            elif not key.action.startswith("tab("):
                rows.append((key.shown, key.words))
    return [*rows, ("mouse", ""), *MOUSE]
