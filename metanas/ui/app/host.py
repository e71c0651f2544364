"""What screens and widgets may ask of the application that shows them: its look, and which letters it may use."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.filter import LineFilter, NoColor

from metanas.ui.app.themes import LOOKS, Look


class Host(App[None], inherit_bindings=False):
    """An application with a look. NO_COLOR leaves the one without colour."""

    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    AUTO_FOCUS = None  # keys go to the screen; the filter has the focus while it is open

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.ascii_only = ascii_only
        self.looks = LOOKS[-1:] if self.no_color else LOOKS
        self.look: Look = self.looks[0]
        for look in LOOKS:
            self.register_theme(look.theme)
        self.theme = self.look.theme.name

    def next_look(self) -> str:
        """Turns to the next look, and says its name."""
        self.look = self.looks[(self.looks.index(self.look) + 1) % len(self.looks)]
        self.theme = self.look.theme.name
        return f"{self.look.name} (NO_COLOR is set)" if self.no_color else self.look.name

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = list(super().get_line_filters())
        return filters if self.look.colour else [*filters, NoColor()]
