"""Every command, with right and wrong arguments, as a process: what it prints, where, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import struct
import termios
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metanas
from metanas.recipe import Recipe, read
from metanas.run import read_events

QUICK = [
    "--threads=1", "--device=cpu", "--epochs=2", "--set=space.options.channels=2", "--set=data.inner=64", "--plain",
    "--set=data.outer=64", "--set=data.test=40", "--set=search.batch_size=32", "--set=evaluation.epochs=1",
    "--set=evaluation.random=1", "--set=search.monitor=32",
]  # fmt: skip
LIVE = [word for word in QUICK if word != "--plain"]


@pytest.fixture(scope="module")
def first(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `runs/first`; not to be changed."""
    folder = tmp_path_factory.mktemp("cli")
    job = commands.run(["search", *QUICK, "--run=first"], folder)
    assert job.code == 0, job.errors
    (folder / "printed").write_text(job.output)
    return folder


def test_search_prints_lines_when_piped(first: Path) -> None:
    lines = (first / "printed").read_text().splitlines()
    assert lines[0] == "first: search nasbench201 on digits with drnas, 2 epochs"
    assert lines[1].startswith("first: batches of 32 need about ") and " of memory, " in lines[1]
    assert lines[2].startswith("epoch 1/2 ") and lines[3].startswith("epoch 2/2 ")
    assert lines[-5].startswith("first: finished after ")
    words = [line.split()[0] for line in lines[-4:]]
    assert words == ["found", "accuracy", "network", "files"]
    assert lines[-1] == "files     runs/first/network.py, network.safetensors, architecture.json"
    assert all(line.isascii() and "\x1b" not in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, f"metanas {metanas.__version__}\n", ""),
        (["runs"], 0, "first", ""),
        (["show", "first"], 0, "trained from scratch", ""),
        (["show", "runs/first"], 0, "trained from scratch", ""),
        (["spaces"], 0, "nasbench201  channels=16 cells=5\n    NAS-Bench-201 (Dong", ""),
        (["spaces", "nasbench201", "--set", "cells=1"], 0, "nasbench201: 15,625 architectures, 6 choices", ""),
        (["watch", "first"], 0, "first: finished after", ""),
        (["stop", "first"], 1, "", "first is not running (finished); nothing to stop\n"),
        (["resume", "first"], 0, "found     |", "first is already finished; nothing was changed\n"),
        (["frist"], 2, "", "No such command 'frist'"),
        (["search", "--epochs", "x"], 2, "", "Error: Invalid value for '--epochs': "),
        (["search", "--epohcs", "3"], 2, "", "--epochs"),
        (["search", "a", "b"], 2, "", "unexpected extra argument"),
        (["show"], 2, "", "Missing argument"),
        (["export", "first"], 2, "", "Missing option '--to'"),
        (["search", "nasbench210"], 1, "", "error: no space named 'nasbench210'; did you mean \"nasbench201\"?\n"),
        (["search", "--data", "digitz"], 1, "", "error: unknown data 'digitz'; did you mean \"digits\"?"),
        (["search", "--controller", "drnaz"], 1, "", "error: search.controller: unknown name 'drnaz'; did you mean"),
        (["search", "--set", "search.epochs"], 1, "", "error: 'search.epochs': expected path=value"),
        (["search", "--set", "seed=3", "--set", "seed.x=1"], 1, "", "error: seed.x: seed is no section but 3"),
        (["search", "--recipe", "no.toml"], 1, "", "error: no.toml: No such file or directory"),
        (["search", "--run", "../x"], 1, "", "error: run name '../x' is not allowed"),
        (["search", "--run", "first"], 1, "", "error: runs/first exists; resume it (metanas resume first)"),
        (["show", "frist"], 1, "", "error: there is no run at runs/frist; did you mean \"first\"?\n"),
        (["show", "../x"], 1, "", "error: run name '../x' is not allowed"),
        (["resume", "frist"], 1, "", 'did you mean "first"'),
        (["export", "frist", "--to", "out"], 1, "", 'did you mean "first"'),
        (["export", "first", "--to", "out", "--format", "onx"], 1, "", "error: unknown format 'onx'"),
        (["spaces", "nasbench201", "--set", "chanels=1"], 1, "", 'did you mean "channels"'),
        (["pause", "first"], 1, "", "first is not running (finished); nothing to pause\n"),
        (["stop", "frist"], 1, "", 'did you mean "first"'),
        (["watch", "frist"], 1, "", 'did you mean "first"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_commands(commands: Any, first: Path, arguments: list[str], code: int, out: str, err: str) -> None:
    job = commands.run(arguments, first)
    assert job.code == code, job.errors
    assert out in job.output and err in job.errors and bool(job.errors) == bool(err)
    assert not (out == "" and job.output), "an error prints nothing on standard output"
    assert "Traceback" not in job.errors
    assert sorted(p.name for p in (first / "runs").iterdir()) == ["first"]


def test_all_mistakes_of_a_recipe_are_lines(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = -1\n[search]\nepohcs = 3\n[space]\nname = 3\n")
    job = commands.run(["search", "--recipe", "r.toml", "--set", "search.lr=0"], tmp_path)
    assert (job.code, job.output) == (1, "")
    assert job.errors.splitlines() == [
        'error: search.epohcs: unknown key; did you mean "epochs"?',
        "error: search.lr: should be greater than 0, got 0",
        "error: seed: should be greater than or equal to 0, got -1",
        "error: space.name: should be a valid string, got 3",
    ]
    (tmp_path / "r.toml").write_text("")
    assert "the recipe is empty" in commands.run(["search", "--recipe", "r.toml"], tmp_path).errors
    (tmp_path / "r.toml").write_text("space = 3")
    assert commands.run(["search", "--recipe", "r.toml"], tmp_path).errors == (
        "error: space: should be a section, got 3\n"
    )


def test_print_recipe_reads_back_and_flags_override_the_file(commands: Any, tmp_path: Path) -> None:
    def printed(*arguments: str) -> Recipe:
        job = commands.run(["search", "--print-recipe", *arguments], tmp_path)
        assert (job.code, job.errors) == (0, "")
        return read(tomllib.loads(job.output))

    assert printed() == Recipe()
    (tmp_path / "r.toml").write_text(
        'seed = 1\n[data]\nsource = "caf\u00e9 \\u001b.npz"\n[search]\nepochs = 9\nlr = 0.5\n'
    )
    recipe = printed("--recipe=r.toml", "--epochs=7", "--set=search.lr=0.25", "--set=search.epochs=8")
    assert recipe.data.source == "caf\u00e9 \x1b.npz" and recipe.seed == 1
    assert (recipe.search.epochs, recipe.search.lr, recipe.search.clip) == (7, 0.25, Recipe().search.clip)
    assert printed("darts", "--set=space.options.layers=3").space.options == {"layers": 3}
    assert printed("nasbench201").space == Recipe().space
    rows = printed("mlp", "--set=evaluation.epochs=7", "--data=t.csv", "--target=y", "--set=data.drop=['id']")
    assert (rows.search.batch_size, rows.evaluation.epochs) == (32, 7), "what the space's file says, and --set over it"
    assert (rows.data.source, rows.data.target, rows.data.drop) == ("t.csv", "y", ("id",))
    assert printed("mlp", "--recipe=r.toml").search.batch_size == 64, "a recipe says all"


def test_a_printed_recipe_makes_the_same_run(commands: Any, first: Path, tmp_path: Path) -> None:
    printed = commands.run(["search", *QUICK, "--print-recipe"], tmp_path)
    (tmp_path / "r.toml").write_text(printed.output)
    assert commands.run(["search", "--recipe=r.toml", "--run=again", "--plain"], tmp_path).code == 0
    again, before = (p / "network.safetensors" for p in (tmp_path / "runs/again", first / "runs/first"))
    assert again.read_bytes() == before.read_bytes()


def test_export_and_its_refusal(commands: Any, first: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = commands.run(["export", "first", "--to", str(out)], first)
    assert job.output.split() == [str(out / n) for n in ("architecture.json", "network.safetensors", "network.py")]
    again = commands.run(["export", "first", "--to", str(out), "--format", "python"], first)
    assert (again.code, again.output) == (1, "") and f"error: already there: {out}/network.py" in again.errors
    (out / "network.py").write_text("mine")
    forced = commands.run(["export", "first", "--to", str(out), "--format", "python", "--force"], first)
    assert forced.code == 0 and (out / "network.py").read_text() != "mine"


@pytest.mark.long
def test_export_as_pt2(commands: Any, first: Path, tmp_path: Path) -> None:
    job = commands.run(["export", "first", "--to", str(tmp_path / "out"), "--format", "pt2"], first)
    assert (job.code, job.errors, job.output) == (0, "", f"{tmp_path / 'out' / 'network.pt2'}\n")
    assert torch.export.load(tmp_path / "out" / "network.pt2").module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_show_of_a_copied_and_of_an_interrupted_run(commands: Any, first: Path, tmp_path: Path) -> None:
    shutil.copytree(first / "runs/first", tmp_path / "runs/copy")
    assert "finished" in commands.run(["show", "copy"], tmp_path).output
    events = (tmp_path / "runs/copy/events.jsonl").read_bytes().splitlines(keepends=True)
    for cut in (0, 1, 3, len(events) // 2, len(events) - 1):
        (tmp_path / "runs/copy/events.jsonl").write_bytes(b"".join(events[:cut]) + b'{"kind": "st')
        (tmp_path / "runs/copy/result.json").unlink(missing_ok=True)
        job = commands.run(["show", "copy"], tmp_path)
        assert job.code == 0 and job.output.startswith("copy") and "finished" not in job.output
    assert "killed" in commands.run(["runs"], tmp_path).output
    (tmp_path / "runs/copy/recipe.json").write_text("{")
    assert "damaged" in commands.run(["runs"], tmp_path).output
    assert commands.run(["show", "copy"], tmp_path).code == 0
    again = commands.run(["resume", "copy"], tmp_path)
    assert again.code == 1 and "recipe.json is damaged" in again.errors


def test_debug_shows_the_traceback(commands: Any, tmp_path: Path) -> None:
    job = commands.run(["--debug", "show", "x"], tmp_path)
    assert job.code == 1 and "Traceback" in job.errors and "RunError: there is no run at runs/x" in job.errors


def test_an_error_that_nobody_thought_of_is_a_line_too(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").mkdir()
    job = commands.run(["search", "--recipe", "recipe.toml"], tmp_path)
    assert job.code == 1 and job.errors.startswith("error: ") and len(job.errors.splitlines()) == 1
    (tmp_path / "own.py").write_text("def space(): raise SystemError('a\\nb\\x1b[31m')")
    job = commands.run(["search", "own.py"], tmp_path)
    assert (job.code, job.errors) == (1, "error: space 'own' with options {}: SystemError: a\n")


def test_metanas_runs_in_an_empty_folder(commands: Any, tmp_path: Path) -> None:
    job = commands.run(["runs"], tmp_path)
    assert (job.code, job.output) == (0, "no runs yet; metanas search makes one\n")


# The terminal


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("arguments", [["runs"], ["show", "first"], ["spaces", "nasbench201"], ["spaces"]], ids=str)
def test_any_encoding(commands: Any, first: Path, encoding: str, arguments: list[str]) -> None:
    job = commands.run(arguments, first, {"PYTHONIOENCODING": encoding, "NO_COLOR": "1", "TERM": "dumb"})
    assert (job.code, job.errors) == (0, "")
    text = job.out.read_bytes().decode(encoding)
    assert "\x1b" not in text and (encoding == "utf-8" or text.isascii())


def test_errors_in_any_encoding(commands: Any, tmp_path: Path) -> None:
    job = commands.run(["search", "--data", "\u202e\x1b[31mcaf\u00e9"], tmp_path, {"PYTHONIOENCODING": "cp1252"})
    assert job.code == 1 and job.err.read_bytes().isascii() and b"\x1b" not in job.err.read_bytes()


class Terminal:
    """A terminal of a size, and everything that was written to it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.outside, self.inside = pty.openpty()
        fcntl.ioctl(self.outside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.path, self.written = os.ttyname(self.inside), b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while True:
            try:
                self.written += os.read(self.outside, 65536)
            except OSError:
                return


@pytest.fixture(params=[(20, 5), (80, 24)], ids=str)
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    made = Terminal(*request.param)
    yield made
    os.close(made.inside)
    made.thread.join(2)
    os.close(made.outside)


@pytest.mark.parametrize(
    "env", [{"TERM": "xterm-256color"}, {"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}], ids=str
)
def test_on_a_terminal(commands: Any, tmp_path: Path, terminal: Terminal, env: dict[str, str]) -> None:
    job = commands.start(["search", *LIVE, "--run=live"], tmp_path, env, terminal=terminal.path)
    assert job.wait() == 0, terminal.written
    assert b"Traceback" not in terminal.written and b"accuracy" in terminal.written
    drawn = b"\x1b[?1049h" in terminal.written
    assert drawn == (env["TERM"] != "dumb"), "the other screen is for terminals that can draw"
    assert terminal.written.count(b"\x1b[?1049l") >= drawn, "and is left again"
    assert (b"\x1b[38;" in terminal.written) <= ("NO_COLOR" not in env)
    for command in (["runs"], ["show", "live"], ["watch", "live"]):
        before = len(terminal.written)
        assert commands.start(command, tmp_path, env, terminal=terminal.path).wait() == 0
        until = time.monotonic() + 5
        while b"live" not in terminal.written[before:].rpartition(b"\x1b[?1049l")[2] and time.monotonic() < until:
            time.sleep(0.01)
        left = terminal.written[before:].rpartition(b"\x1b[?1049l")[2]  # what stays on the screen
        assert b"live" in left and b"Traceback" not in terminal.written, command


READ = [["runs"], ["show", "first"], ["spaces"], ["search", "--print-recipe"], ["resume", "first"]]


@pytest.mark.parametrize("arguments", [*READ, ["search", *QUICK, "--run=unread"]], ids=lambda a: a[0])
def test_nobody_reads(commands: Any, first: Path, tmp_path: Path, arguments: list[str]) -> None:
    """As in `metanas runs | head -1`, at its hardest: the pipe is closed before the first line."""
    folder = tmp_path if "--run=unread" in arguments else first
    job = commands.start(arguments, folder, unread=True)
    assert job.wait() in (0, 1, 141)
    assert "Traceback" not in job.errors and "Exception ignored" not in job.errors, job.errors
    if folder == tmp_path:
        assert read_events(tmp_path / "runs/unread/events.jsonl").events[-1]["status"] == "finished"


# Names from elsewhere

HOSTILE = "\x1b[31mred\u202e[/b]\x07"
LABEL = HOSTILE.replace("/", "")  # operations and files may hold no slash


def test_hostile_names_are_inert_everywhere(commands: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / f"own/{'x' + LABEL}.py").write_text(f'"""{HOSTILE}"""\ndef space(): pass')
    (tmp_path / "own/evil.py").write_text(
        f"from metanas.space import *\nNAME = {LABEL!r}\ndef space():\n"
        "    body = one_of(NAME, {NAME: op('skip'), 'b' + NAME: op('conv', width=2, kernel=3)})\n"
        "    return Space(chain(('stem', op('conv', width=2)), ('x' + NAME, body), "
        "('head', op('classifier', width=NEEDED))), NAME)\n"
    )
    x = np.random.default_rng(0).random((120, 6, 6), dtype=np.float32)
    np.savez(tmp_path / "evil.npz", x=x, y=np.arange(120) % 2, classes=np.array([HOSTILE, "b"]))
    env = {"METANAS_SPACES": str(tmp_path / "own")}
    words = [word for word in QUICK if "data." not in word and "space.options" not in word]
    runs = [
        ["spaces"],
        ["spaces", "evil"],
        ["search", "evil", "--data=evil.npz", *words, "--run=evil"],
        ["show", "evil"],
        ["runs"],
        ["resume", "evil"],
        ["export", "evil", f"--to={LABEL}"],
        ["search", HOSTILE],
        ["search", "--run", HOSTILE],
        ["show", HOSTILE],
    ]
    for arguments in runs:
        job = commands.run(arguments, tmp_path, env)
        written = job.out.read_bytes() + job.err.read_bytes()
        assert job.code == (1 if HOSTILE in arguments else 0), (arguments, written)
        assert b"Traceback" not in written
        for forbidden in (b"\x1b[31m", b"\x07", "\u202e".encode()):
            assert forbidden not in written, (arguments, written)
    with (tmp_path / "runs/evil/events.jsonl").open("a") as log:
        log.write('{"kind": "log", "level": "error", "message": "\\u001b[31m\\u202e[/b]"}\n')
    shown = commands.run(["show", "evil"], tmp_path).output
    assert "\u241b[31m<U+202E>[/b]" in shown and "\x1b[31m" not in shown


def test_ctrl_c_while_watching(commands: Any, first: Path, tmp_path: Path) -> None:
    shutil.copytree(first / "runs/first", tmp_path / "runs/copy")
    (tmp_path / "runs/copy/events.jsonl").write_text("")
    (tmp_path / "runs/copy/result.json").unlink()
    job = commands.start(["watch", "copy"], tmp_path)
    time.sleep(0.6)
    assert not job.over()
    job.kill(signal.SIGINT)
    assert job.wait() == 130 and "Traceback" not in job.errors


def test_a_search_waits_where_it_is_asked_to_and_goes_on(commands: Any, tmp_path: Path) -> None:
    def steps() -> int:
        return sum(event["kind"] == "step" for event in read_events(tmp_path / "runs/long/events.jsonl").events)

    job = commands.start(["search", *QUICK, "--epochs=500", "--run=long"], tmp_path)
    job.until(lambda: steps() > 0)
    asked = commands.run(["pause", "long"], tmp_path)
    assert (asked.code, asked.output) == (0, "asked long to wait; it goes on with: metanas pause long --off\n")
    time.sleep(0.5)  # the step that was under way, and what waited to be written
    before = steps()
    time.sleep(0.7)
    assert steps() == before
    assert commands.run(["pause", "long", "--off"], tmp_path).output == "long goes on\n"
    job.until(lambda: steps() > before)
    assert commands.run(["stop", "long"], tmp_path).code == 0
    assert job.wait() == 0  # it was asked to; a signal would give 130
