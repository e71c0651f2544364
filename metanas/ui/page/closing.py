"""The end of the page: the log, and the recipe, folded."""

from __future__ import annotations

import json

from metanas.ui.fields import Record, as_record
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.state import RunState
from metanas.ui.units import duration

LINES = 1500  # of a recipe that are shown


def log(state: RunState) -> str:
    """The section: the lines that a state keeps, in the order they were said."""
    warnings = sum(line.level != "info" for line in state.log)
    note = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    rows = [
        (safe(duration(line.elapsed)), tag("td", safe(line.level), cls=_tone(line.level)), safe(line.message))
        for line in state.log
    ]
    return section("log", table(("at", "level", "line"), rows, (0,), cls="log"), note=note)


def _tone(level: str) -> str | None:
    return {"warning": "warn", "error": "bad"}.get(level)


def asked(recipe: Record) -> str:
    """What was asked for, as it stands in recipe.json."""
    wanted = as_record(recipe.get("recipe"))
    if not wanted:
        return ""
    lines = json.dumps(wanted, indent=2, ensure_ascii=False).splitlines()
    more = [f"and {len(lines) - LINES} more lines in recipe.json"] if len(lines) > LINES else []
    text = "\n".join(safe(line) for line in [*lines[:LINES], *more])
    return section("recipe", tag("details", tag("summary", "what was asked for"), tag("pre", text)))
