"""A user of the application: presses keys, reads the screen, and waits until it says something."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from metanas.ui.app import MetanasApp

PATIENCE = 8.0  # seconds that a screen may take on a machine under load


class User:
    """What a person sees and does."""

    def __init__(self, app: MetanasApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def lines(self) -> list[str]:
        """The screen as it is, one string a row, without the blanks at its right."""
        compositor = self.app.screen._compositor
        strips = compositor.render_strips() or [[]] * self.app.size.height  # none before the first layout
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def press(self, *keys: str) -> None:
        """As the terminal's driver does it; what a key leads to is waited for, not how long it may take."""
        for key in keys:
            character = key if len(key) == 1 else None
            self.app._driver.process_message(events.Key(key, character))
            await asyncio.sleep(0)

    async def until(self, wanted: str | Callable[[], bool]) -> None:
        """Waits until the screen holds a text, or something is so."""
        given_up = time.monotonic() + PATIENCE
        while not (wanted in self.text if isinstance(wanted, str) else wanted()):
            assert time.monotonic() < given_up, f"{wanted} did not come; the screen is\n{self.text}"
            await asyncio.sleep(0.005)

    async def loaded(self) -> None:
        """Waits until the log of the run can be replayed."""
        await self.until(lambda: self.app.screen.told is not None and self.app.screen.told.loaded == 1.0)
        await self.pilot.pause()


Play = Callable[[User], Awaitable[None]]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the application in a terminal of some size while somebody uses it."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(
        play: Play, root: Path, opened: Path | None = None, *, size: tuple[int, int] = (80, 24), **more: Any
    ) -> None:
        async def session() -> None:
            app = MetanasApp(root, opened, **more)
            async with app.run_test(size=size) as pilot:
                await play(User(app, pilot))

        asyncio.run(session())

    return run


@pytest.fixture
def three_runs(make_run: Callable[..., Path], events: list[dict[str, Any]], tmp_path: Path) -> Path:
    """A folder with a finished run, one that was killed in its tenth epoch, and one that has said nothing."""
    make_run(name="runs/first")
    make_run(events[:183], name="runs/second")
    make_run([], name="runs/third")
    for number, name in enumerate(("first", "second", "third"), start=1):
        path = tmp_path / "runs" / name / "recipe.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"created": f"2025-10-0{number}T00:00:00+00:00"}))
    return tmp_path / "runs"
