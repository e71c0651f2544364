"""The help of all commands calls the same thing by the same word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from metanas.cli.app import app

WORDS = {
    "run": "RUN",
    "runs": "RUN",
    "source": "RUN",
    "data": "DATA",
    "settings": "KEY=VALUE",
    "space": "SPACE",
    "target": "COLUMN",
    "seed": "N",
    "device": "NAME",
}
OF = {  # where a parameter is something else
    ("ui", "runs"): "RUN or FOLDER",
    ("export", "to"): "FOLDER",
    ("report", "to"): "FILE or FOLDER",
    ("search", "recipe"): "FILE",
    ("tune", "recipe"): "RECIPE",
    ("fewshot", "recipe"): "RECIPE",
    ("spaces", "name"): "SPACE",
    ("runs", "filter"): "WORDS",
}


def parameters() -> Iterator[tuple[str, Any]]:
    """Of every command, those that take a value."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        yield from ((name, one) for one in command.params if one.name != "help" and not getattr(one, "is_flag", False))


def test_one_word_for_one_thing() -> None:
    found = {(command, one.name): one.metavar for command, one in parameters()}
    assert len(found) > 50
    for (command, name), metavar in found.items():
        wanted = OF.get((command, name)) or WORDS.get(name)
        assert metavar == wanted if wanted else metavar, f"{command} {name}: {metavar}, not {wanted or 'a word'}"


@pytest.mark.parametrize("command", ["show", "transfer", "compare", "ui", "export"])
def test_a_run_is_called_so_in_the_help(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    assert "RUN" in shown.splitlines()[0] + shown.splitlines()[1] and "<str>]" not in shown
