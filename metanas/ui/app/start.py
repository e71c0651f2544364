"""How the application begins and ends: whatever happens to it, the terminal is as it was before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from metanas.ui.app.application import MetanasApp
from metanas.ui.guard import restored_after_a_kill

# leaves the other screen, shows the cursor, ends the reports of mouse, focus, size and paste, and the keyboard protocol
RESTORE = r"""cat > /dev/null
printf '\033[?1049l\033[?25h\033[?1000l\033[?1003l\033[?1015l\033[?1006l\033[?1016l'
printf '\033[?1004l\033[?2004l\033[?2048l\033[<u'
stty "$0" <&1"""


def start(root: Path, run: Path | None = None, *, ascii_only: bool = False) -> None:
    """Runs the application until it is left; the list of `root`, and on top of it `run` where one is given."""
    with restored_after_a_kill(RESTORE, sys.__stderr__, [_modes()]):  # textual draws on standard error
        MetanasApp(root, run, ascii_only=ascii_only).run()


def _modes() -> str:
    """The modes of the terminal, as stty takes them; "" where there is none."""
    try:
        found = subprocess.run(["stty", "-g"], stdin=sys.__stdin__, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
