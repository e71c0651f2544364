"""Boxes on top of a screen: the help, which lists every key, and a question."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen

from metanas.ui.app.keys import CONFIRM, HELP, MOVING, bindings, help_rows
from metanas.ui.app.page import Moves, Page
from metanas.ui.paper import ACCENT, DIM

BOX = 76  # cells of a box, where the screen is as wide


class Box(ModalScreen[bool], inherit_bindings=False):
    """A box on top of a screen."""

    DEFAULT_CSS = f"""
    Box {{ align: center middle; background: $background 60%; }}
    Box Page {{ width: {BOX}; max-width: 100%; max-height: 100%; background: $surface; padding: 0 1; }}
    """

    def __init__(self, lines: list[Text]) -> None:
        super().__init__()
        self.page = Page()
        self._lines = lines

    def compose(self) -> ComposeResult:
        yield self.page

    def on_mount(self) -> None:
        self.page.styles.height = len(self._lines)
        self.page.show(self._lines)


class Help(Moves, Box, inherit_bindings=False):
    """Every key."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVING, HELP)

    def __init__(self) -> None:
        lines = []
        for shown, words in help_rows():
            if words:
                lines.append(Text(f"  {shown:<16}  ", style=f"bold {ACCENT}").append(words, style="not bold default"))
            else:
                lines += [Text(), Text(shown, style="bold")]
        super().__init__([*lines[1:], Text()])

    def action_close(self) -> None:
        self.dismiss(True)


class Confirm(Box, inherit_bindings=False):
    """A question; the answer is the result of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(CONFIRM)

    def __init__(self, question: list[str]) -> None:
        lines = [Text(line) for line in question]
        answers = Text("y", style=f"bold {ACCENT}").append(" yes     ", style=DIM)
        super().__init__([*lines, Text(), answers.append("n", style=f"bold {ACCENT}").append(" no", style=DIM)])

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
