"""What README.md says exists: commands with their options, `make` targets, names and arguments in Python.

The examples with `>>>` are doctests; the others would take minutes or need files, so they are parsed and not run.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

import metanas
from metanas.api import Result, TuneResult
from metanas.cli.app import app

ROOT = Path(metanas.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [ast.parse(text) for language, text in BLOCKS if language == "python"]


def commands() -> Iterator[list[str]]:
    """Every `metanas ...` in a block that is no Python; several stand on a line, two or more spaces between them."""
    for language, text in BLOCKS:
        for line in text.splitlines() if not language else ():
            for part in re.split(r"\s{2,}", line.partition("#")[0].partition(">")[0]):
                if part.startswith("metanas "):
                    yield shlex.split(part)[1:]


def test_the_readme_is_read() -> None:
    assert len(list(commands())) > 8 and PYTHON


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_a_command_and_its_options_exist(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, [*arguments, "--help"])  # what comes before --help is parsed
    assert done.exit_code == 0 and done.output.startswith("Usage:"), done.output
    assert CliRunner().invoke(app, [*arguments, "--no-such-option", "--help"]).exit_code == 2


def test_every_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)|`make (\w+)`", README, flags=re.MULTILINE))
    assert targets and all(re.search(rf"^{a or b}:", makefile, flags=re.MULTILINE) for a, b in targets)


def test_names_and_arguments_exist() -> None:
    known = {field.name for field in fields(Result)} | set(dir(Result))
    tuned = {field.name for field in fields(TuneResult)} | set(dir(TuneResult))
    for node in (node for tree in PYTHON for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            allowed = {"metanas": set(metanas.__all__), "result": known, "tuned": tuned}.get(node.value.id)
            assert allowed is None or node.attr in allowed, ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "metanas.search",
            "metanas.tune",
            "metanas.export",
        ):
            inspect.signature(getattr(metanas, node.func.attr)).bind(
                *node.args, **{word.arg: word.value for word in node.keywords if word.arg}
            )
