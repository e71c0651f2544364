"""The command from end to end, in a real terminal: it opens, answers keys, ends, and gives the terminal back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
PATIENCE = 30.0


class Terminal:
    """A tmux session of its own, on a socket of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "one", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "one")

    def until(self, wanted: str) -> str:
        given_up = time.monotonic() + PATIENCE
        while wanted not in (screen := self.screen()):
            assert time.monotonic() < given_up, f"{wanted} did not come; the screen is\n{screen}"
            time.sleep(0.05)
        return screen

    def modes(self) -> str:
        """Whether the other screen is on, the mouse is reported, the cursor is hidden."""
        return self.tmux(
            "display-message", "-p", "-t", "one", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"
        ).strip()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A shell in a terminal of 80x24, which says `ready>`."""
    one = Terminal(Path(f"/tmp/metanas-{os.getpid()}.tmux"))  # the path of a socket is short
    shell = f"cd {tmp_path} && PS1='ready> ' exec /bin/sh"
    environment = {"NO_COLOR": "", "METANAS_RUNS": "", "LANG": "C.UTF-8"}
    settings = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    one.tmux("new-session", "-d", "-s", "one", "-x", "80", "-y", "24", *settings, shell)
    one.press("unset NO_COLOR METANAS_RUNS; clear", "Enter")
    one.until("ready>")
    yield one
    one.tmux("kill-server")
    one.socket.unlink(missing_ok=True)


START = f"{sys.executable} -m metanas ui runs"


def test_it_opens_answers_and_gives_the_terminal_back(terminal: Terminal, three_runs: Path) -> None:
    before = terminal.modes()
    terminal.press(f"{START}; stty -a | grep -o ' echo ' | head -1; echo left $?", "Enter")
    screen = terminal.until("▸   third")
    assert screen.splitlines()[0] == " metanas  3 runs in runs                                          order: newest"
    assert terminal.modes() == "1 1 0"
    terminal.press("G", "Enter")
    terminal.until("[1 overview]")
    terminal.press("3")
    terminal.until("[3 structure]")
    terminal.until("3<-2")  # once the run is read
    terminal.until("●  live")
    terminal.press("[")
    terminal.until("event 1067/1068")
    terminal.press("q")
    terminal.until("▸   first")
    terminal.press("q")
    screen = terminal.until("left 0")
    assert " echo" in screen.splitlines()[-1] or any(line.strip() == "echo" for line in screen.splitlines())
    assert terminal.modes() == before == "0 0 1"


def test_a_kill_gives_the_terminal_back(terminal: Terminal, three_runs: Path) -> None:
    terminal.press(f"echo $$ > pid; exec 3>&1; {START}", "Enter")
    terminal.until("▸   third")
    shell = int((three_runs.parent / "pid").read_text())
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    given_up = time.monotonic() + PATIENCE
    while terminal.modes() != "0 0 1":
        assert time.monotonic() < given_up, terminal.modes()
        time.sleep(0.05)
    terminal.press("echo answers", "Enter")
    assert terminal.until("\nanswers")
