"""The page in a browser: it draws, its script runs, it asks for nothing, and it fits a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from metanas.ui.page import write_page

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DARK = "--blink-settings=preferredColorScheme=0"
SECONDS = 60
PROBE = """<script>
const root = document.documentElement, at = (query) => document.querySelector(query);
const slider = at("#replay input");
const said = {
  wide: root.scrollWidth, window: root.clientWidth, plots: document.querySelectorAll("svg").length,
  paper: getComputedStyle(root).backgroundColor, ran: root.dataset.script, last: null,
  widest: Math.max(...Array.from(document.querySelectorAll("svg"), (e) => e.getBoundingClientRect().width)),
};
if (slider) {
  const table = () => Array.from(document.querySelectorAll("#structure .heat tr"), (row) => row.innerText).join("\\n");
  said.last = table();
  slider.value = "0"; slider.dispatchEvent(new Event("input"));
  said.first = table(); said.output = at("#replay output").textContent;
  said.taken = document.querySelectorAll(".taken").length;
  slider.value = slider.max; slider.dispatchEvent(new Event("input"));
  said.again = table() === said.last;
  const toggle = at("button[data-scale]"), log = toggle.closest("figure").querySelector(".by-log");
  const shown = () => getComputedStyle(log).display;
  said.scale = [shown(), (toggle.click(), shown()), toggle.getAttribute("aria-pressed")];
}
if (parent === window) root.dataset.said = JSON.stringify(said); else parent.postMessage(JSON.stringify(said), "*");
</script></body>"""
# A window of the browser is never that narrow, a frame is.
PHONE = """<!DOCTYPE html><html><script>
onmessage = (event) => { document.documentElement.dataset.said = event.data; };
</script><iframe src="page.html" width="400" height="800" style="border: 0"></iframe></html>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")


def browse(page: Path, *options: str) -> tuple[str, list[str]]:
    """What the browser writes, and the lines that the page's console and the loading of pages gave."""
    arguments = [str(BROWSER), *QUIET, f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()]
    with subprocess.Popen(arguments, stdout=-1, stderr=-1, text=True, start_new_session=True) as job:
        try:
            out, errors = job.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            raise
    assert job.returncode == 0, errors
    return out, [line for line in errors.splitlines() if "CONSOLE" in line or "Refused" in line or "net::" in line]


def probed(
    folder: Path, tmp_path: Path, *options: str, phone: bool = False
) -> tuple[dict[str, object], str, list[str]]:
    """What a script at the end of the page saw, the page after all scripts, and the console."""
    page = write_page(folder, tmp_path / "page.html", force=True)
    page.write_text(page.read_text().replace("</body>", PROBE))
    if phone:
        page = tmp_path / "phone.html"
        page.write_text(PHONE)
    text, console = browse(page, "--dump-dom", "--virtual-time-budget=3000", *options)
    said = re.search(r'data-said="([^"]*)"', text)
    assert said is not None, text[:500]
    return json.loads(unescape(said[1])), text, console


def heat(text: str) -> list[str]:
    """The heat maps, shades and all."""
    return [unescape(found) for found in re.findall(r'<table class="heat">.*?</table>', text)]


def row(event: dict[str, Any], choice: str) -> list[str]:
    """A row of the heat map, word by word."""
    taken = OPERATIONS.index(event["architecture"][choice])
    cells = [f"{'▸' if n == taken else ''}{weight:.2f}" for n, weight in enumerate(event["weights"][choice])]
    return [choice, *cells, event["architecture"][choice]]


def test_a_search_in_a_browser(make_run: Callable[..., Path], events: list[dict[str, Any]], tmp_path: Path) -> None:
    said, text, console = probed(make_run(), tmp_path, "--window-size=1200,900")
    assert console == []
    assert 'data-script="ready"' in text and said["ran"] == "ready"
    assert (said["plots"], said["wide"], said["window"]) == (8, 1200, 1200)
    assert said["paper"] == "rgb(255, 255, 255)"
    epochs = [event for event in events if event["kind"] == "epoch"]
    for shown, epoch in (("first", epochs[0]), ("last", epochs[-1])):
        rows = [line.split() for line in str(said[shown]).splitlines()]
        assert rows[0] == ["choice", *OPERATIONS, "derived"]
        assert rows[1:] == [row(epoch, choice) for choice in epoch["weights"]]
    assert said["last"] != said["first"]
    assert (
        said["output"] == f"epoch 1: entropy {epochs[0]['entropy']:.4f}, gap {epochs[0]['gap']:.4f}"
        and said["taken"] == 6
    )
    assert said["again"] is True and heat(text) == heat((tmp_path / "page.html").read_text())  # as without scripts
    assert said["scale"] == ["none", "inline", "true"]


@pytest.mark.parametrize("kind", ["make_run", "make_tuning", "make_few_shot"])
def test_nothing_is_wider_than_a_phone(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    said, _, console = probed(request.getfixturevalue(kind)(), tmp_path, DARK, phone=True)
    assert console == []
    assert said["window"] == 400 and said["wide"] == 400
    assert said["paper"] == "rgb(20, 23, 26)"


def test_the_policy_forbids_what_the_page_does_not_do(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """The look at the console can fail: a picture from elsewhere is refused, and the browser says so."""
    page = write_page(make_run(), tmp_path / "page.html")
    page.write_text(page.read_text().replace("</main>", '<img src="https://example.invalid/x.png"/></main>'))
    _, console = browse(page, "--dump-dom")
    assert len(console) == 1 and "Content Security Policy" in console[0]


def test_a_picture_of_the_page(make_run: Callable[..., Path], tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    browse(write_page(make_run(), tmp_path / "page.html"), f"--screenshot={shot}", "--window-size=1200,900")
    assert shot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and shot.stat().st_size > 30_000
