"""Markup, axes and figures as exact text."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as xml

import pytest

from metanas.ui import RunState, fold
from metanas.ui.page.chart import POINTS, STRIPS, Chart, Curve, figure
from metanas.ui.page.dots import MOST, Dot, dot_plot
from metanas.ui.page.markup import facts, safe, section, table, tag
from metanas.ui.page.scales import Linear, Log, drawable, tick_text
from metanas.ui.page.structure import FRAMES, structure
from metanas.ui.page.timeline import timeline
from metanas.ui.panels.health import skip_share
from metanas.ui.points import Choice, EpochPoint
from metanas.ui.state import described
from metanas.ui.units import percent


def test_text_of_a_run_cannot_become_markup() -> None:
    assert safe("<a href='x'>\x1b\u202e\n") == "&lt;a href=&#x27;x&#x27;&gt;␛&lt;U+202E&gt;␊"
    assert tag("td", safe("&"), title='"><b>', cls="x") == '<td title="&quot;&gt;&lt;b&gt;" class="x">&amp;</td>'
    assert facts([("<ours>", "<theirs>")]) == "<dl><div><dt><ours></dt><dd>&lt;theirs&gt;</dd></div></dl>"


def test_a_table_with_nothing_in_it_is_no_table() -> None:
    assert table(("a", "b"), []) == ""
    assert section("log", table(("a",), [])) == ""
    assert table(("a", "b"), [("x", '<td class="bad">y</td>')], numbers=[0]) == (
        '<div class="scrolls"><table><thead><tr><th class="number">a</th><th>b</th></tr></thead>'
        '<tbody><tr><td class="number">x</td><td class="bad">y</td></tr></tbody></table></div>'
    )


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.97, 0.99, ["0.97", "0.975", "0.98", "0.985", "0.99"]),
        (1.0, 50.0, ["10", "20", "30", "40", "50"]),
        (0.0, 73_412.0, ["0", "20k", "40k", "60k"]),
        (1e-5, 9e-5, ["2e-5", "4e-5", "6e-5", "8e-5"]),
        (-2.0, 2.0, ["-2", "-1", "0", "1", "2"]),
        (0.0, 1e140, ["0", "2e139", "4e139", "6e139", "8e139", "1e140"]),
    ],
)
def test_ticks_are_round(low: float, high: float, shown: list[str]) -> None:
    ticks = Linear(low, high).ticks()
    assert [tick_text(value, ticks) for value in ticks] == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.0009, 12.0, ["0.001", "0.01", "0.1", "1", "10"]),
        (1e-9, 1e3, ["1e-9", "1e-7", "1e-5", "0.001", "0.1", "10", "1000"]),
        (0.3, 7.0, ["0.5", "1", "2", "5"]),
        (0.11, 0.19, ["0.12", "0.14", "0.16", "0.18"]),
    ],
)
def test_logarithmic_ticks_are_powers(low: float, high: float, shown: list[str]) -> None:
    ticks = Log(low, high).ticks()
    assert [tick_text(value, ticks) for value in ticks][: len(shown)] == shown
    assert ticks == sorted(ticks) and all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_places_on_an_axis() -> None:
    assert [Linear(2.0, 4.0).share(x) for x in (2.0, 3.0, 5.0)] == [0.0, 0.5, 1.5]
    assert [Log(1.0, 100.0).share(x) for x in (1.0, 10.0, 100.0)] == [0.0, 0.5, 1.0]
    assert math.isnan(Log(1.0, 100.0).share(0.0)) and math.isnan(Log(1.0, 100.0).share(-3.0))
    assert [drawable(x) for x in (0.0, None, math.nan, -math.inf, 1e200)] == [True, False, False, False, False]


def pictures(text: str) -> list[xml.Element]:
    return [xml.fromstring(picture) for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_a_figure_with_two_curves() -> None:
    inner, outer = Curve("inner", ((1, 1.0), (2, 10.0))), Curve("outer", ((1, 4.0), (2, 5.5), (3, 100.0)), "second")
    text = figure(Chart("loss", (inner, outer)))
    assert text.startswith(
        '<figure class="chart"><figcaption>loss<button type="button" data-scale="" aria-pressed="false" hidden="">log'
        '</button></figcaption><svg viewBox="0 0 460 236" role="img" aria-label="loss by epoch">'
        '<line x1="66.0" x2="86.0" y1="12" y2="12" class="curve first"/>'
        '<text x="91.0" y="16" class="legend">inner 10.00</text>'
    )
    linear, log = re.findall(r'<g class="(by-[a-z]*)">(.*?)</g>', text)
    assert (linear[0], log[0]) == ("by-linear", "by-log")
    assert '<path d="M66.0 189.9L256.0 175.9" class="curve first"/>' in linear[1]  # 1 and 10, of 1 to 100
    assert '<path d="M66.0 189.9L256.0 113.0" class="curve first"/>' in log[1]  # 10 is in the middle
    strips = [element for element in pictures(text)[0].iter("rect")]
    assert [strip.findtext("title") for strip in strips] == [
        "epoch 1: inner 1.000, outer 4.000",
        "epoch 2: inner 10.00, outer 5.500",
        "epoch 3: outer 100.0",
    ]
    assert [strip.get("x") for strip in strips] == ["66", "161.0", "351.0"]


def test_a_gap_parts_a_curve_and_a_single_point_is_a_dot() -> None:
    points = ((1, 1.0), (2, 2.0), (3, None), (4, math.nan), (5, 3.0), (6, math.inf), (7, 4.0), (8, 5.0))
    text = figure(Chart("loss", (Curve("outer", points, "second"),), within=(0.0, 5.0)))
    path = re.search(r'<path d="([^"]*)"', text)
    assert path is not None and path[1].count("M") == 2 and path[1].count("L") == 2
    assert text.count("<circle") == 1
    assert "by-log" not in text and "<button" not in text  # its range is given


@pytest.mark.parametrize(
    ("values", "both"),
    [((1.0, 2.0), True), ((0.0, 1.0, 3.0), True), ((-1.0, 2.0), False), ((1.0, 1.1), False), ((5e-324, 1e-310), False)],
)
def test_a_logarithmic_drawing_where_it_is_of_use(values: tuple[float, ...], both: bool) -> None:
    text = figure(Chart("loss", (Curve("outer", tuple(enumerate(values))),), log=True))
    assert ('<g class="by-log">' in text, 'class="chart log"' in text) == (both, both)


def test_many_points_are_a_short_text() -> None:
    points = tuple((float(n), math.sin(n / 2e3) + 2) for n in range(20_000))
    text = figure(Chart("loss", (Curve("outer", points),)))
    assert len(text) < 60_000 and text.count("<rect") == STRIPS
    path = re.search(r'<path d="([^"]*)"', text)
    assert path is not None and path[1].count("L") < POINTS
    assert f"epoch {19_999}: " in text  # the last is kept


def test_no_percentage_is_above_all() -> None:
    text = dot_plot("test accuracy", [Dot("learned", 0.981, first=True), Dot("start", 0.981)], percent)
    assert "105%" not in text and "100%" in text


def test_dots() -> None:
    dots = [Dot("derived", 0.75, first=True), Dot("random 1", 0.5), Dot("<b>", 0.625), Dot("lost", None)]
    text = dot_plot("test <accuracy>", dots, percent, "mean")
    assert text.startswith(
        '<figure class="chart"><figcaption>test &lt;accuracy&gt;</figcaption><svg viewBox="0 0 460 132"'
    )
    assert '<text x="187.6" y="16" class="tick middle">mean 56.2%</text>' in text
    picture = pictures(text)[0]
    assert [element.findtext("title") for element in picture.iter("polygon")] == ["derived: 75.0%"]
    assert [element.findtext("title") for element in picture.iter("circle")] == ["random 1: 50.0%", "<b>: 62.5%"]


def test_many_rivals_share_a_row() -> None:
    dots = [Dot("derived", 0.9, first=True), *(Dot(f"random {n}", 0.5 + n / 100) for n in range(MOST))]
    text = dot_plot("score", dots, percent)
    assert f"{MOST} others</text>" in text and text.count("<circle") == MOST and 'viewBox="0 0 460 110"' in text


def epochs(count: int, weights: dict[str, list[float]], labels: list[str]) -> RunState:
    space = {"name": "s", "choices": [{"name": "op", "candidates": ["none", "conv"]}]}
    state = described(RunState("first"), None, space)
    for n in range(1, count + 1):
        event = {"kind": "epoch", "epoch": n, "step": n, "weights": weights, "entropy": 0.5}
        label = labels[min(n, len(labels)) - 1]
        state = fold(state, event | {"architecture": {"op": label}, "key": f"|{label}|"})
    return state


def test_the_heat_map_and_the_data_of_its_slider() -> None:
    text = structure(epochs(2, {"op": [0.25, 0.75]}, ["none", "conv"]))
    assert (
        '<tr><td><b>op</b></td><td class="w2" data-top="100" title="op: none">0.25</td>'
        '<td class="w7 taken" data-top="100" title="op: conv">▸0.75</td><td data-text="">conv, was none</td></tr>'
        in text
    )
    assert '<p class="key"><code data-text="">|conv|</code></p>' in text
    data = re.search(r'<script type="application/json" id="frames">(.*?)</script>', text)
    assert data is not None
    assert json.loads(data[1]) == {
        "words": ["none", "|none|", "entropy 0.5000", "conv, was none", "|conv|"],
        "frames": [
            {"e": 1, "n": 2, "w": [25, 75], "k": [0], "t": [0, 1]},
            {"e": 2, "n": 2, "w": [25, 75], "k": [1], "t": [3, 4]},
        ],
    }


def test_a_long_search_is_replayed_in_bounded_data() -> None:
    text = structure(epochs(1000, {"op": [0.25, 0.75]}, ["conv"]))
    frames = json.loads(re.findall(r'id="frames">(.*?)</script>', text)[0])["frames"]
    assert len(frames) == 200 <= FRAMES and (frames[0]["e"], frames[-1]["e"]) == (5, 1000)
    assert 'max="199" value="199"' in text


def test_a_choice_with_many_candidates_is_told_in_words() -> None:
    names = [f"op{n}" for n in range(20)]
    space = {
        "name": "s",
        "choices": [{"name": "wide", "candidates": names}, {"name": "bare", "candidates": ["a", "b"]}],
    }
    state = described(RunState("first"), None, space)
    weights = [0.01] * 20
    weights[7] = 0.5
    state = fold(
        state, {"kind": "epoch", "epoch": 1, "weights": {"wide": weights}, "architecture": {"wide": "op7", "bare": "b"}}
    )
    text = structure(state)
    assert (
        '<tr><td><b>wide</b></td><td data-text="">▸op7 0.50, op0 0.01, op1 0.01, op2 0.01</td>'
        '<td data-text="">op7</td></tr>' in text
    )
    assert '<tr><td><b>bare</b></td><td data-text="">b</td></tr>' in text and "data-top" not in text


def test_bands_and_changes() -> None:
    text = timeline(epochs(3, {}, ["none", "conv"]))
    rows = [
        ["".join(cell.itertext()) for cell in row] for row in xml.fromstring(re.findall("<tbody>.*?</tbody>", text)[0])
    ]
    assert rows == [["2", "2", "op → conv", "|conv|"], ["1", "1", "first", "|none|"]]
    bands = list(pictures(text)[0].iter("rect"))
    assert [(band.findtext("title"), band.get("class")) for band in bands] == [
        ("op: none, epochs 1 to 1", "hue0"),
        ("op: conv, epochs 2 to 3", "hue1"),
    ]


def test_what_is_left_out_of_a_timeline_is_counted() -> None:
    text = timeline(epochs(60, {}, ["none", "conv"] * 30))
    assert text.endswith('<p class="quiet">10 earlier changes are not listed</p></section>')
    assert text.count("<tr>") == 1 + 50
    wide = {f"choice {n}": "a" for n in range(45)}
    state = RunState("first")
    for n in (1, 2):
        state = fold(state, {"kind": "epoch", "epoch": n, "architecture": wide})
    assert '</div><p class="quiet">5 more choices are not drawn</p></figure>' in timeline(state)


def test_skip_share_counts_choices_that_could_skip() -> None:
    choices = [Choice("a", ("skip_connect", "conv")), Choice("b", ("skip", "x")), Choice("c", ("conv", "pool"))]
    taken = {"a": "skip_connect", "b": ("x", "skip"), "c": "conv"}
    point = EpochPoint(1, *[None] * 1, 0.0, *[None] * 7, {}, taken, {}, ())
    assert skip_share(point, choices) == 1.0
    assert skip_share(point, choices[2:]) is None
