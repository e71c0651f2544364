"""What all screens share: a title, a page, a line at the foot, and what is said where the terminal is too small."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from metanas.errors import RunError
from metanas.ui.app.boxes import Help
from metanas.ui.app.files import write_screen
from metanas.ui.app.host import Host
from metanas.ui.app.keys import COMMON, MOVING, bindings
from metanas.ui.app.page import Bar, Moves, Page
from metanas.ui.app.reader import aside
from metanas.ui.paper import ACCENT, BAD, DIM, Paper
from metanas.ui.screen import SMALLEST

SAID_FOR = 8.0  # seconds that a line stays at the foot


class Told(Message):
    """Something to be said at the foot of the screen."""

    def __init__(self, line: str, *, bad: bool = False) -> None:
        self.line, self.bad = line, bad
        super().__init__()


class Left(Message):
    """The screen has nothing more to go back to in itself."""


class View(Moves, Screen[None], inherit_bindings=False):
    """A screen that covers all: a title, what a subclass puts between, a page, and the foot."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVING, COMMON)
    DEFAULT_CSS = """
    View { layout: vertical; overflow: hidden; background: $background; color: $foreground; }
    View Bar { padding: 0 1; }
    View Page { padding: 0 0 0 1; }
    View #title { background: $panel; }
    View #foot { background: $surface; }
    View #small { display: none; height: 3; padding: 0; overflow: hidden; scrollbar-gutter: auto; }
    View.small > * { display: none; }
    View.small > #small { display: block; }
    """
    app: Host
    hints: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.title_bar, self.foot = Bar(id="title"), Bar(id="foot")
        self.page, self.small = Page(id="page"), Page(id="small")
        self._said: tuple[float, Text] | None = None

    def compose(self) -> ComposeResult:
        yield self.title_bar
        yield from self.middle()
        yield self.foot
        yield self.small

    def middle(self) -> Iterable[Widget]:
        """What is between the title and the foot."""
        return (self.page,)

    @property
    def stem(self) -> str:
        """Of the names of the files of an export."""
        return "metanas"

    def draw(self) -> None:
        """Draws what the screen is about, as it is now."""
        raise NotImplementedError  # each screen has its own; textual's metaclass leaves no room for abc's

    def redraw(self) -> None:
        """Draws everything as it is now, where there is room for it."""
        if not self.has_class("small") and self.page.room[0] > 0:
            self.draw()
        self._draw_foot()

    def _draw_foot(self) -> None:
        self.foot.show(self._foot_line())

    def paper(self, widget: Page | Bar) -> Paper:
        """Paper of the size of a widget."""
        width, height = widget.room if isinstance(widget, Page) else (widget.size.width, 1)
        return Paper(
            width=width,
            height=height,
            now=time.time(),
            ascii_only=self.app.ascii_only,
            colour=self.app.look.colour,
        )

    def on_mount(self) -> None:
        self.set_interval(1.0, self.tick)
        self.app.theme_changed_signal.subscribe(self, self._repaint)

    def tick(self) -> None:
        """Once a second: lines that were said long enough, and whatever ages."""
        self._draw_foot()

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1]
        self.set_class(small, "small")
        self.small.show(too_small(event.size.width, event.size.height))
        self.call_after_refresh(self.redraw)

    def _repaint(self, theme: object) -> None:
        for widget in (self.title_bar, self.foot, self.page, self.small, *self.middle()):
            widget.refresh()
        self.call_after_refresh(self.redraw)

    def say(self, line: str, *, bad: bool = False) -> None:
        """A line at the foot, for a while."""
        mark = "! " if bad else ""
        shown = Text(f"{mark}{self.paper(self.foot).safe(line)}", style=f"bold {BAD if bad else ACCENT}")
        self._said = (time.monotonic(), shown)
        self._draw_foot()

    def on_told(self, message: Told) -> None:
        self.say(message.line, bad=message.bad)

    def tell(self, found: str | RunError) -> None:
        """Says what a thread found, from whichever thread."""
        self.post_message(Told(str(found), bad=isinstance(found, RunError)))

    def _foot_line(self) -> Text:
        if self._said is not None and time.monotonic() - self._said[0] < SAID_FOR:
            return self._said[1]
        self._said = None
        line = Text()
        for keys, words in self.hints:
            line.append(keys, style=f"bold {ACCENT}").append(f" {words}   ", style=DIM)
        return line

    def action_help(self) -> None:
        self.app.push_screen(Help())

    def action_theme(self) -> None:
        self.say(self.app.next_look())

    def action_back(self) -> None:
        self.post_message(Left())

    def action_export(self) -> None:
        svg = self.app.export_screenshot(title=self.paper(self.page).safe(self.stem))
        text = "".join(f"{line.plain.rstrip()}\n" for line in self.all_lines())
        stem = self.stem

        def write() -> str:
            return f"wrote {' and '.join(map(str, write_screen(Path(), stem, svg, text)))}"

        aside(write, self.tell)

    def all_lines(self) -> list[Text]:
        """All that the screen has to show, whether or not it is in sight."""
        return [self.title_bar.line, *self.page.lines]


def too_small(width: int, height: int) -> list[Text]:
    """What is shown where nothing else can be."""
    needed = f"{width}x{height}, needs {SMALLEST[0]}x{SMALLEST[1]}"
    return [Text("too small", style="bold"), Text(needed, style=DIM)]
