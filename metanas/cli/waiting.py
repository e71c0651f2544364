"""Runs that were started a moment ago, in another terminal: their folder is waited for before they count as missing."""

from __future__ import annotations

import time

from metanas.errors import RunError

PATIENCE = 2.0  # seconds: about what a search needs until it makes its folder
PERIOD = 0.1  # seconds between two looks
WRITTEN = ("recipe.json", "events.jsonl")  # with one of them a folder is a run


def wait_for(run: str) -> None:
    """Returns when there is such a run, or after PATIENCE; what is no name of a run is not waited for.

    >>> wait_for("/nowhere")
    """
    from metanas.run import run_path

    try:
        folder = run_path(run)
    except RunError:  # whoever opens it says why
        return
    end = time.monotonic() + PATIENCE
    while not any((folder / name).is_file() for name in WRITTEN) and time.monotonic() < end:
        time.sleep(PERIOD)
