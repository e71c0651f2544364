"""The two widgets of which all screens are made: a page of lines that scrolls, and a bar of one line.

Both take `rich.text.Text` and nothing else, so nothing from a run is ever read as markup. Both draw by lines: a page of
a hundred thousand lines costs what is seen of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from metanas.ui.app.host import Host


class Pressed(Message):
    """The mouse was pressed, or moved while it was pressed: on which widget, and where on it (line, column)."""

    def __init__(self, widget: Widget, row: int, column: int) -> None:
        self.widget, self.row, self.column = widget, row, column
        super().__init__()


def strip_of(line: Text, app: Host, ground: Style) -> Strip:
    """A line in the colours of the look that is on, on this ground."""
    segments = list(line.render(app.console, end=""))
    if not line.spans:  # rich leaves the style of the whole line to whoever prints it
        segments = [Segment(line.plain, app.console.get_style(line.style))]
    return Strip(list(Segment.apply_style(app.look.painted(segments), ground)), line.cell_len)


class Page(ScrollView, can_focus=False, inherit_bindings=False):
    """Lines that scroll; one of them may be the chosen one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"page--cursor"}
    DEFAULT_CSS = """
    Page { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size: 0 1; scrollbar-gutter: stable; }
    Page .page--cursor { background: $cursor-ground; text-style: bold; }
    """

    app: Host

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Text] = ()
        self.cursor: int | None = None

    def on_mount(self) -> None:
        if self.app.ascii_only:
            self.styles.scrollbar_size_vertical = 0  # it is drawn in block letters

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows for lines."""
        region = self.scrollable_content_region
        return region.width, region.height

    def show(self, lines: Sequence[Text], cursor: int | None = None) -> None:
        """Shows these lines where the page stands; `cursor`: the chosen one, which is scrolled to where it changed."""
        moved = cursor != self.cursor
        self.lines, self.cursor = lines, cursor
        size = Size(max((line.cell_len for line in lines), default=0), len(lines))
        if size != self.virtual_size:
            self.virtual_size = size
        if moved and cursor is not None:
            self.scroll_to_region(Region(self.scroll_offset.x, cursor, 1, 1), animate=False, force=True)
        self.refresh()

    def sideways(self, columns: int) -> None:
        """Scrolls to the left or the right."""
        furthest = max(self.virtual_size.width - self.room[0], 0)
        x = min(max(self.scroll_offset.x + columns, 0), furthest)
        self.scroll_to(x=x, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        place, width = top + y, self.size.width
        if place >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        style = self.get_component_rich_style("page--cursor") if place == self.cursor else self.rich_style
        return strip_of(self.lines[place], self.app, style).crop_extend(left, left + width, style)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        place = self.scroll_offset.y + event.y
        if place < len(self.lines):
            self.post_message(Pressed(self, place, event.x))


class Moves:
    """How a screen with a page is moved about in; a screen with a cursor overrides `move`."""

    page: Page

    def move(self, rows: int) -> None:
        """By so many rows."""
        self.page.scroll_to(y=self.page.scroll_offset.y + rows, animate=False, force=True)

    def action_down(self) -> None:
        self.move(1)

    def action_up(self) -> None:
        self.move(-1)

    def action_half(self, way: int) -> None:
        self.move(way * max(self.page.room[1] // 2, 1))

    def action_page(self, way: int) -> None:
        self.move(way * max(self.page.room[1] - 1, 1))

    def action_top(self) -> None:
        self.move(-len(self.page.lines))

    def action_bottom(self) -> None:
        self.move(len(self.page.lines))


class Bar(Widget, can_focus=False, inherit_bindings=False):
    """One line."""

    DEFAULT_CSS = "Bar { height: 1; }"

    app: Host

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.line = Text()
        self._held = False

    def show(self, line: Text) -> None:
        """Shows this line, as far as it fits."""
        if line != self.line or line.spans != self.line.spans:
            self.line = line
            self.refresh()

    def render_line(self, y: int) -> Strip:
        return strip_of(self.line, self.app, self.rich_style).crop_extend(0, self.size.width, self.rich_style)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._held = True
        self.capture_mouse()
        self.post_message(Pressed(self, 0, event.get_content_offset_capture(self).x))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._held:
            self.post_message(Pressed(self, 0, event.get_content_offset_capture(self).x))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self._held = False
        self.release_mouse()
