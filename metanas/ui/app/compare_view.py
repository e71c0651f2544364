"""The screen that shows runs side by side, and follows those that go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.message import Message

from metanas.errors import RunError
from metanas.ui.app.reader import Reader
from metanas.ui.app.view import View
from metanas.ui.compare import comparison
from metanas.ui.follow import Follower
from metanas.ui.paper import DIM
from metanas.ui.state import RunState


class StatesRead(Message):
    """What a look at the runs told."""

    def __init__(self, states: tuple[RunState, ...]) -> None:
        self.states = states
        super().__init__()


class CompareView(View, inherit_bindings=True):
    """The runs in these folders."""

    hints: ClassVar = (("j k", "scroll"), ("e", "export"), ("t", "theme"), ("?", "all keys"), ("q", "back"))

    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__()
        self.states: tuple[RunState, ...] | None = None
        followers = tuple(Follower(folder) for folder in folders)

        def look_at_all() -> tuple[RunState, ...]:
            for follower in followers:
                follower.advance()
            return tuple(follower.state for follower in followers)

        self._reader = Reader(look_at_all, self._tell_of_states)

    @property
    def stem(self) -> str:
        return "metanas-compare"

    def on_mount(self) -> None:
        super().on_mount()
        self._reader.start()

    def on_unmount(self) -> None:
        self._reader.stop()

    def _tell_of_states(self, found: tuple[RunState, ...] | RunError) -> None:
        if isinstance(found, RunError):
            self.tell(found)
        else:
            self.post_message(StatesRead(found))

    def on_states_read(self, message: StatesRead) -> None:
        """Drawn anew where something changed."""
        if message.states != self.states:
            self.states = message.states
            self.redraw()

    def draw(self) -> None:
        paper = self.paper(self.page)
        names = ", ".join(paper.safe(state.name) for state in self.states or ())
        self.title_bar.show(Text("compare", style="bold").append(f"  {names}", style="not bold"))
        reading = [Text("reading the runs", style=DIM)]
        self.page.show(comparison(self.states, paper.sized(height=None)) if self.states else reading)
