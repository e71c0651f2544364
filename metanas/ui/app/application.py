"""The application: which screen is on top of which."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType

from metanas.ui.app.compare_view import CompareView
from metanas.ui.app.host import Host
from metanas.ui.app.keys import ALWAYS, bindings
from metanas.ui.app.run import RunView
from metanas.ui.app.runs import Compared, Opened, RunsView
from metanas.ui.app.view import Left


class MetanasApp(Host, inherit_bindings=False):
    """Runs in a terminal: the list of `root`, and on top of it `run` where one is given."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(ALWAYS)
    TITLE = "metanas"

    def __init__(self, root: Path, run: Path | None = None, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._root, self._run = root, run

    def on_mount(self) -> None:
        self.push_screen(RunsView(self._root))
        if self._run is not None:
            self.push_screen(RunView(self._run))

    def on_opened(self, message: Opened) -> None:
        """A run, on top of the list."""
        self.push_screen(RunView(message.folder))

    def on_compared(self, message: Compared) -> None:
        """Runs side by side, on top of the list."""
        self.push_screen(CompareView(message.folders))

    def on_left(self, message: Left) -> None:
        """Back to the screen below; from the last one, out."""
        if len(self.screen_stack) > 2:  # textual's own lies below the list
            self.pop_screen()
        else:
            self.exit()
