"""All runs of a folder, one line each: the first screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from metanas.errors import RunError
from metanas.run import RunSummary
from metanas.ui.app.keys import RUNS, bindings
from metanas.ui.app.page import Bar, Pressed
from metanas.ui.app.reader import Reader, look_at_runs
from metanas.ui.app.view import View
from metanas.ui.compare import MOST
from metanas.ui.paper import ACCENT, DIM, WARN, Paper
from metanas.ui.report import matching, ordered, table
from metanas.ui.text import shorten

ORDERS = {  # by the name that is shown: the order, and whether it is reversed
    "newest": ("started", True),
    "name": ("name", False),
    "score": ("score", False),
    "time": ("time", False),
}
GUTTER = 4  # cells for the cursor and the pin, left of a run
SIDEWAYS = 8  # columns that a list is scrolled by
ROOT = 32  # letters of the folder that are shown
FULL = 200  # columns of a line that is scrolled sideways


class RunsRead(Message):
    """What a look at the folder told."""

    def __init__(self, runs: tuple[RunSummary, ...]) -> None:
        self.runs = runs
        super().__init__()


class Opened(Message):
    """A run is to be shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__()


class Compared(Message):
    """Runs are to be shown side by side."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        super().__init__()


class RunsView(View, inherit_bindings=True):
    """The list."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(RUNS)
    DEFAULT_CSS = """
    RunsView Input { display: none; padding: 0 1; background: $surface; color: $foreground; }
    RunsView Input:focus { background: $surface; }
    RunsView Input.open { display: block; }
    RunsView.small > Input.open { display: none; }
    """
    hints = (
        ("enter", "open"),
        ("/", "filter"),
        ("s", "sort"),
        ("p", "pin"),
        ("c", "compare"),
        ("?", "all keys"),
        ("q", "quit"),
    )

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.head = Bar(id="head")
        hint = "words of name, space, data, controller, status; enter keeps, esc ends"
        self.words = Input(placeholder=hint, select_on_focus=False, compact=True)
        self.runs: tuple[RunSummary, ...] | None = None
        self.order = next(iter(ORDERS))
        self.pins: set[str] = set()
        self._chosen: str | None = None
        self._reader = Reader(lambda: look_at_runs(root), self._tell_of_runs)

    def middle(self) -> Iterable[Widget]:
        return (self.head, self.page, self.words)

    def on_mount(self) -> None:
        super().on_mount()
        self._reader.start()

    def on_unmount(self) -> None:
        self._reader.stop()

    def _tell_of_runs(self, found: tuple[RunSummary, ...] | RunError) -> None:
        if isinstance(found, RunError):
            self.tell(found)
        else:
            self.post_message(RunsRead(found))

    def on_runs_read(self, message: RunsRead) -> None:
        """Drawn anew where something changed."""
        if message.runs != self.runs:
            self.runs = message.runs
            self.redraw()

    @property
    def stem(self) -> str:
        return "metanas-runs"

    @property
    def seen(self) -> tuple[RunSummary, ...]:
        """The runs that the filter lets through, in their order."""
        return self._sorted(matching(self.runs or (), self.words.value))

    def _sorted(self, runs: tuple[RunSummary, ...]) -> tuple[RunSummary, ...]:
        order, reverse = ORDERS[self.order]
        return ordered(runs, order, reverse=reverse)

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor; where it is gone, the first."""
        seen = self.seen
        return next((run for run in seen if run.name == self._chosen), seen[0] if seen else None)

    def draw(self) -> None:
        paper, seen, chosen = self.paper(self.page), self.seen, self.chosen
        self.title_bar.show(self._title(self.paper(self.title_bar), len(seen)))
        if not seen:
            self.head.show(Text())
            self.page.show([self._nothing()])
        else:
            head, *lines = table(seen, paper.sized(width=max(FULL, paper.width), height=None))
            left = self.page.scroll_offset.x
            self.head.show(Text(" " * GUTTER).append_text(head)[left:])
            marked = [self._marked(run, line, run == chosen, paper) for run, line in zip(seen, lines, strict=True)]
            self.page.show(marked, None if chosen is None else seen.index(chosen))

    def _nothing(self) -> Text:
        if self.runs is None:
            return Text("reading the runs", style=DIM)
        if self.runs:
            return Text("no run matches the filter; esc clears it", style=DIM)
        return table((), Paper())[0]

    def _title(self, paper: Paper, seen: int) -> Text:
        count = len(self.runs or ())
        many = f"{count} run{'' if count == 1 else 's'}"
        words, mark = self.words.value, paper.glyph("…", "~")
        left = Text("metanas", style="bold").append(f"  {f'{seen} of {many}' if words else many}", style="not bold")
        if words:
            left.append(f"  filter: {paper.safe(words)}", style=f"not bold {ACCENT}")
        else:
            left.append(f" in {shorten(paper.safe(self.root), ROOT, mark)}", style="not bold")
        pins = f"{len(self.pins)} pinned  " if self.pins else ""
        note = f"{pins}order: {self.order}"
        left.truncate(max(paper.width - len(note) - 2, 0))
        left.pad_right(max(paper.width - left.cell_len - len(note), 0))
        return left.append(note, style=f"not bold {DIM}")

    def _marked(self, run: RunSummary, line: Text, chosen: bool, paper: Paper) -> Text:
        marked = Text(no_wrap=True).append(paper.glyph("▸ ", "> ") if chosen else "  ", style=f"bold {ACCENT}")
        marked.append(paper.glyph("◆ ", "# ") if run.name in self.pins else "  ", style=f"bold {WARN}")
        return marked.append_text(line)

    def on_pressed(self, message: Pressed) -> None:
        seen = self.seen
        if message.widget is self.page and message.row < len(seen):
            again = seen[message.row] == self.chosen and self._chosen is not None
            self._chosen = seen[message.row].name
            self.action_open() if again else self.redraw()

    def move(self, rows: int) -> None:
        seen, chosen = self.seen, self.chosen
        if chosen is not None:
            place = min(max(seen.index(chosen) + rows, 0), len(seen) - 1)
            self._chosen = seen[place].name
            self.redraw()

    def action_sideways(self, way: int) -> None:
        self.page.sideways(way * SIDEWAYS)
        self.redraw()

    def action_open(self) -> None:
        if (run := self.chosen) is not None:
            self.post_message(Opened(run.path))

    def action_sort(self) -> None:
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.redraw()

    def action_pin(self) -> None:
        if (run := self.chosen) is not None:
            self.pins ^= {run.name}
            self.redraw()

    def action_compare(self) -> None:
        """The pinned; with one pin or none also the run under the cursor."""
        names = set(self.pins)
        if len(names) < 2 and self.chosen is not None:
            names.add(self.chosen.name)
        runs = [run.path for run in self._sorted(self.runs or ()) if run.name in names]
        if not 2 <= len(runs) <= MOST:
            self.say(f"2 to {MOST} runs can be compared, these are {len(runs)}; p pins one", bad=True)
        else:
            self.post_message(Compared(runs))

    def action_filter(self) -> None:
        self.words.add_class("open")
        self.words.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.set_focus(None)
        self.words.remove_class("open")

    def action_back(self) -> None:
        """Out of the filter first."""
        if self.words.has_class("open") or self.words.value:
            self.words.value = ""
            self.set_focus(None)
            self.words.remove_class("open")
            self.redraw()
        else:
            super().action_back()

    def all_lines(self) -> list[Text]:
        return [self.title_bar.line, self.head.line, *self.page.lines]
