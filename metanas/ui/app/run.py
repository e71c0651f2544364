"""One run: its panels as tabs, live or at any past event, and the requests that a running search listens to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

from metanas.errors import RunError
from metanas.run import ask, withdraw
from metanas.ui.app.boxes import BOX, Confirm
from metanas.ui.app.keys import RUN, bindings
from metanas.ui.app.page import Bar, Pressed
from metanas.ui.app.reader import HOLDING, Reader, RunLook, RunTold, aside, busy
from metanas.ui.app.scrubber import Scrubber
from metanas.ui.app.tabs import Tab, drawn, tab_bar, tabs_of
from metanas.ui.app.view import View
from metanas.ui.panels.header import STATUSES
from metanas.ui.paper import BAD, DIM, WARN, Paper
from metanas.ui.state import UNDER_WAY, RunState, status_at
from metanas.ui.units import duration


class RunRead(Message):
    """What a look at the run told."""

    def __init__(self, told: RunTold) -> None:
        self.told = told
        super().__init__()


class RunView(View, inherit_bindings=True):
    """The run in a folder."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(RUN)
    hints = (("tab", "panels"), ("[ ]", "replay"), ("P", "pause"), ("S", "stop"), ("?", "all keys"), ("q", "back"))

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.tab_bar, self.scrub_bar = Bar(id="tabs"), Bar(id="scrubber")
        self.told: RunTold | None = None
        self.scrubber = Scrubber(None, 0)
        self.log_scale = False
        self._tab = "overview"
        self._tab_places: list[tuple[int, int, int]] = []
        self._reader = Reader(RunLook(folder), self._tell_of_run, busy=busy)

    def middle(self) -> Iterable[Widget]:
        return (self.tab_bar, self.page, self.scrub_bar)

    def on_mount(self) -> None:
        super().on_mount()
        self._reader.start()

    def on_unmount(self) -> None:
        self._reader.stop()

    def _tell_of_run(self, found: RunTold | RunError) -> None:
        if isinstance(found, RunError):
            self.tell(found)
        else:
            self.post_message(RunRead(found))

    def on_run_read(self, message: RunRead) -> None:
        """Drawn anew where there is news; a replay stays where it is."""
        self.told = message.told
        self.scrubber = replace(self.scrubber, total=len(self.told.replay), loaded=self.told.loaded)
        if message.told.fresh:
            self.redraw()

    def tick(self) -> None:
        if self.told is None or self.state.status in UNDER_WAY:  # what is over does not age
            self.redraw()
        else:
            super().tick()

    @property
    def live(self) -> RunState:
        """The state that the folder tells now."""
        return self.told.state if self.told else RunState(self.folder.absolute().name)

    @property
    def state(self) -> RunState:
        """The state where the scrubber stands."""
        if self.told is None or self.scrubber.place is None:
            return self.live
        return self.told.replay.at(self.scrubber.place)

    @property
    def tabs(self) -> tuple[Tab, ...]:
        """The tabs of the run."""
        return tabs_of(self.live)

    @property
    def tab(self) -> Tab:
        """The chosen one."""
        return next((tab for tab in self.tabs if tab.title == self._tab), self.tabs[0])

    @property
    def stem(self) -> str:
        return f"metanas-{self.live.name}-{self.tab.title}"

    def draw(self) -> None:
        state, paper = self.state, self._paper()
        bar, self._tab_places = tab_bar(self.tabs, self.tabs.index(self.tab), self.paper(self.tab_bar))
        self.tab_bar.show(bar)
        self.title_bar.show(title_line(self.live, self.told, self.paper(self.title_bar)))
        reading = [Text("reading the run", style=DIM)]
        self.page.show(drawn(self.tab, state, paper) if self.told else reading)
        self.scrub_bar.show(self.scrubber.line(state, self.paper(self.scrub_bar)))

    def _paper(self) -> Paper:
        """A replay is seen at the time of its last event."""
        paper = replace(self.paper(self.page), log=self.log_scale)
        return paper if self.scrubber.place is None else replace(paper, now=self.state.at)

    def all_lines(self) -> list[Text]:
        return [self.title_bar.line, self.tab_bar.line, *self.page.lines, self.scrub_bar.line]

    def on_pressed(self, message: Pressed) -> None:
        if message.widget is self.tab_bar:
            found = [tab for first, last, tab in self._tab_places if first <= message.column <= last]
            self.action_tab(found[0] + 1) if found else None
        elif message.widget is self.scrub_bar:
            self._scrub(self.scrubber.pressed(message.column, self.scrub_bar.size.width, self.state))

    def action_turn(self, way: int) -> None:
        self.action_tab((self.tabs.index(self.tab) + way) % len(self.tabs) + 1)

    def action_tab(self, number: int) -> None:
        if number <= len(self.tabs):
            self._tab = self.tabs[number - 1].title
            self.page.scroll_to(0, 0, animate=False, force=True)
            self.redraw()

    def action_step(self, by: int) -> None:
        self._scrub(self.scrubber.moved(by))

    def action_first(self) -> None:
        self._scrub(self.scrubber.to(0))

    def action_live(self) -> None:
        self._scrub(self.scrubber.to(self.scrubber.total))

    def _scrub(self, scrubber: Scrubber) -> None:
        self.scrubber = scrubber
        self.redraw()

    def action_log(self) -> None:
        self.log_scale = not self.log_scale
        self.redraw()
        self.say(f"curves on a {'logarithmic' if self.log_scale else 'linear'} scale")

    def action_pause(self) -> None:
        if self.told and "pause" in self.told.requests:
            self._request(lambda: withdraw(self.folder, "pause"), f"{self.live.name} goes on")
        elif self._runs("pause"):
            self._request(lambda: ask(self.folder, "pause"), f"asked {self.live.name} to pause; P lets it go on")

    def action_stop(self) -> None:
        if self._runs("stop") and self.told is not None:
            safe = self.paper(self.page).safe
            way = wrap(safe(self.told.resumed_by), min(self.size.width, BOX) - 2, break_on_hyphens=False)
            question = [f"Stop {safe(self.live.name)}?", "", "It writes a checkpoint first, and goes on with", *way]
            self.app.push_screen(Confirm(question), self._stop)

    def _stop(self, sure: bool | None) -> None:
        if sure:
            said = f"asked {self.live.name} to stop; it writes a checkpoint first"
            self._request(lambda: ask(self.folder, "stop"), said)

    def _runs(self, verb: str) -> bool:
        """Whether somebody would hear a request; says so where not."""
        status = status_at(self.live, self.paper(self.page).now)
        if status != "running":
            self.say(f"{self.live.name} is not running ({status}): nothing to {verb}", bad=True)
        return status == "running"

    def _request(self, work: Callable[[], None], said: str) -> None:
        def done() -> str:
            work()
            return said

        aside(done, self.tell)


def title_line(state: RunState, told: RunTold | None, paper: Paper) -> Text:
    """The name and the status at the left; at the right what was asked of the run, or that its folder is gone.

    >>> told = RunTold(RunState("first"), None, requests=frozenset({"pause"}), held=0.5)
    >>> title_line(RunState("first", writer="alive", status="running"), told, Paper(width=60)).plain
    'first  ● running                  pause asked, P takes it back'
    """
    status = status_at(state, paper.now)
    fine, plain, style = STATUSES.get(status, ("?", "?", WARN))
    note, noted = _note(told, status)
    left = Text(paper.safe(state.name), style="bold")
    left.append(f"  {paper.glyph(fine, plain)} {paper.safe(status)}", style=f"not bold {style}")
    left.truncate(max(paper.width - len(note) - 2, 0))
    left.pad_right(max(paper.width - left.cell_len - len(note), 0))
    return left.append(note, style=f"bold {noted}")


def _note(told: RunTold | None, status: str) -> tuple[str, str]:
    if told is None:
        return "", ""
    if told.gone:
        return "the run folder is gone; this is what it told last", BAD
    if "stop" in told.requests and status == "running":  # the file stays until the run is resumed
        return "stop asked", WARN
    if told.held is None:
        return "", ""
    if told.held < HOLDING:
        return "pause asked, P takes it back", WARN
    return f"paused, quiet for {duration(told.held)}; P goes on", WARN
