"""Every panel of every kind of run as exact text, at three widths; the texts are files in tests/ui/expected.

`METANAS_REWRITE=1 pytest tests/ui/test_expected.py -n0` writes them anew; read them before you keep them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from metanas.ui import panels, read
from metanas.ui.paper import Paper
from metanas.ui.screen import sheet
from metanas.ui.state import RunState, described, fold

BEGAN = 1_760_000_000.0
WIDTHS = (80, 120, 200)
EVIL = "x[/b]\x1b[2J\u202e\n"  # markup, an escape sequence, a mark that turns the reading direction, a new line
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CHAINED = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
RUNS = ("search", "training", "value", "darts", "transfer", "tuning", "fewshot", "empty", "one-step", "nan", "hostile")
Event = dict[str, Any]
States = Mapping[str, RunState]


def edge(source: str, choice: str) -> Event:
    return {"source": source, "content": {"is": "OneOf", "choice": choice, "contents": []}}


def benchmark_cell() -> Event:
    """NAS-Bench-201's graph, as far as a view needs it."""
    nodes = [{"name": str(i), "edges": [edge(str(j), f"{i}<-{j}") for j in range(i)]} for i in (1, 2, 3)]
    inner = {"is": "Graph", "inputs": ["0"], "nodes": nodes}
    return {"nodes": [{"name": "cell0", "edges": [{"source": "image", "content": inner}]}]}


def timed(events: list[Event]) -> list[Event]:
    return [{"at": BEGAN + k, "elapsed": float(k), **event} for k, event in enumerate(events)]


def folded(name: str, events: list[Event], recipe: object = None, space: object = None) -> RunState:
    return reduce(fold, events, described(RunState(name), recipe, space))


def trained(network: str, score: float | None, labels: Mapping[str, Any], **more: Any) -> Event:
    facts = {"test_loss": 0.25, "parameters": 9000, "multiply_adds": 120_000, "seconds": 3.5, **more}
    return {"kind": "network", "network": network, "key": None, "architecture": labels, "test_score": score, **facts}


def by_value() -> RunState:
    """Six architectures that were evaluated, and two that were trained."""
    space = {"name": "tiny", "choices": [{"name": name, "candidates": ["skip", "conv"]} for name in "abc"]}
    seen = [{name: ("skip", "conv")[n >> bit & 1] for bit, name in enumerate("abc")} for n in range(6)]
    values = [round(0.25 + 0.125 * ((5 * n) % 6), 4) for n in range(6)]
    events: list[Event] = [{"kind": "begin", "host": "bench", "pid": 7}]
    for step, (labels, value) in enumerate(zip(seen, values, strict=True), start=1):
        best = max(values[:step])
        facts = {"key": "".join(label[0] for label in labels.values()), "value": value, "best": best}
        events.append({"kind": "value", "step": step, "budget": 6, "architecture": labels, **facts})
    events += [trained("derived", 0.9, seen[5], parameters=12_000), trained("random 1", 0.85, seen[0])]
    recipe = {"recipe": {"search": {"controller": "random"}, "evaluation": {"random": 1}, "device": "cuda"}}
    return folded("value", timed([*events, {"kind": "end", "status": "finished"}]), recipe, space)


def two_cells() -> tuple[Event, list[Event]]:
    """A space with two cells of two nodes, and four epochs in which it collapses to skip connections."""
    nodes, choices, cells = {"2": ("0", "1"), "3": ("0", "1", "2")}, [], []
    for kind in ("normal", "reduce"):
        inner = []
        for name, sources in nodes.items():
            inputs = {"name": f"{kind}.{name}", "candidates": list(sources), "take": 2}
            edges = [f"{kind}.{name}<-{source}" for source in sources]
            inner.append({"name": name, "edges": list(map(edge, sources, edges)), "choice": inputs})
            choices += [inputs, *({"name": one, "candidates": list(CHAINED)} for one in edges)]
        fitted = [
            {"name": n, "edges": [{"source": s, "content": {"kind": "conv"}}]} for n, s in (("0", "a"), ("1", "b"))
        ]
        cells.append({"name": kind, "edges": [], "body": {"inputs": ["a", "b"], "nodes": [*inner[::-1], *fitted]}})
    events = []
    for epoch in (1, 2, 3, 4):
        labels: Event = {}
        for kind in ("normal", "reduce"):
            labels |= {f"{kind}.2": ["0", "1"], f"{kind}.3": ["0", "1"] if epoch < 4 else ["1", "2"]}
            for place, one in enumerate(("2<-0", "2<-1", "3<-0", "3<-1", "3<-2")):
                taken = one[-1] in labels[f"{kind}.{one[0]}"]
                name = "skip_connect" if place < epoch + (kind == "normal") else CHAINED[2 + place % 2]
                labels |= {f"{kind}.{one}": name} if taken else {}
        numbers = {
            "outer_loss": 2.0 / epoch,
            "inner_loss": 1.5 / epoch,
            "entropy": 1 - 0.01 * epoch,
            "gap": 0.1 * epoch,
        }
        facts = {"derived_score": 0.2 * epoch, "memory": 2.5e9, "host_memory": 6.1e8, "architecture": labels}
        events.append({"kind": "epoch", "epoch": epoch, "epochs": 4, "step": 20 * epoch, **numbers, **facts})
    return {"name": "darts", "graph": {"nodes": cells}, "choices": choices}, events


def transfer() -> RunState:
    """A network that was fine-tuned on other data, beside the same from scratch."""
    space, events = two_cells()
    labels = events[-1]["architecture"]
    transfer = {"how": "finetune", "rate": 0.1, "architecture": labels, "weights": "5f1d"}
    recipe = {"data": {"name": "letters"}, "transfer": transfer, "recipe": {"search": {"controller": "drnas"}}}
    told: list[Event] = [{"kind": "begin", "host": "bench", "pid": 7}]
    told += [{"kind": "train", "network": "derived", "epoch": 2, "epochs": 2, "loss": 0.5, "score": 0.75}]
    told += [trained("derived", 0.75, labels), trained("scratch", 0.8125, labels, test_loss=0.5)]
    return folded("moved", timed([*told, {"kind": "end", "status": "finished"}]), recipe, space)


def few_shot() -> RunState:
    asked = {"learner": {"name": "maml"}, "network": {"name": "conv4"}, "structure": {"mode": "fixed"},
             "episodes": {"ways": 5, "shots": 1, "queries": 5, "tasks": 8}, "outer": {"steps": 6},
             "evaluation": {"ways": 5, "shots": 1, "every": 2, "episodes": 600}}  # fmt: skip
    recipe = {"kind": "fewshot", "metric": "accuracy", "data": {"name": "omniglot"}, "recipe": asked}
    events: list[Event] = [{"kind": "begin", "host": "bench", "pid": 7}]
    for step in range(1, 7):
        numbers = {"outer_loss": 2 / step, "outer_gradient_norm": 1 / step, "converged": True, "learned": {}}
        events.append({"kind": "step", "step": step, "steps": 6, **numbers})
        if step % 2 == 0:
            events.append({"kind": "validation", "step": step, "accuracy": 0.3 + 0.1 * step, "interval": 0.02})
    events += [trained("learned", 0.875, {}), trained("start", 0.25, {}), {"kind": "end", "status": "finished"}]
    return folded("fewshot", timed(events), recipe)


def not_finite(documents: tuple[Event, Event]) -> RunState:
    """Losses, weights, scores and sizes that are not numbers."""
    events: list[Event] = [{"kind": "begin", "host": "bench", "pid": 7}]
    for epoch in (1, 2, 3):
        numbers = {"inner_loss": None, "inner_loss_is": "nan", "outer_loss": None, "outer_loss_is": "inf"}
        numbers |= {"outer_score": None, "outer_score_is": "nan", "entropy": None, "entropy_is": "nan"}
        weights = {"1<-0": [math.nan] * 5, "2<-0": [math.inf, 0.0, 0.0, 0.0, 0.0]}
        labels = {"1<-0": "none", "2<-0": OPERATIONS[epoch]}
        facts = {"weights": weights, "architecture": labels, "gap_is": "-inf", "gap": None, "memory_is": "nan"}
        events += [{"kind": "step", "step": epoch, "skipped": epoch, **numbers, "gradient_norm_is": "nan"}]
        events += [{"kind": "epoch", "epoch": epoch, "step": epoch, **numbers, **facts}]
    lost = {"test_score_is": "nan", "parameters_is": "inf"}
    events += [trained("derived", None, {"1<-0": "none"}, **lost, parameters=None), trained("random 1", 0.5, {})]
    events[-2] |= {"test_loss": None, "test_loss_is": "nan"}
    failed = {"kind": "end", "status": "failed", "message": "the loss of step 3 is nan"}
    return folded("nan", timed([*events, failed]), *documents)


def hostile() -> RunState:
    """Every text that a run may bring is one that a terminal would obey."""
    nodes = [{"name": EVIL, "edges": [edge("\x1b]0;t\x07", EVIL)]}]
    space = {"name": EVIL, "graph": {"nodes": nodes}, "choices": [{"name": EVIL, "candidates": [EVIL, "skip"]}]}
    asked = {"search": {"controller": EVIL}, "device": EVIL, "evaluation": {"random": 1}}
    recipe = {"metric": EVIL, "data": {"name": EVIL}, "recipe": asked}
    events: list[Event] = [{"kind": "begin", "host": EVIL, "pid": 7}]
    for epoch, label in ((1, "skip"), (2, EVIL)):
        facts = {"weights": {EVIL: [0.5, 0.5]}, "architecture": {EVIL: label}, "key": EVIL, "derived_score": 0.5}
        events.append({"kind": "epoch", "epoch": epoch, "epochs": 2, "outer_score": 0.5 * epoch, **facts})
    events += [trained(EVIL, 0.75, {EVIL: EVIL}), trained("derived", 0.5, {EVIL: "skip"}, parameters=1)]
    events += [{"kind": "train", "network": "y" + EVIL, "epoch": 1}, {"kind": "log", "level": EVIL, "message": EVIL}]
    return folded(EVIL, timed([*events, {"kind": "end", "status": EVIL, "message": EVIL}]), recipe, space)


@pytest.fixture(scope="module")
def states(
    events: list[Event], documents: tuple[Event, Event], tuning_events: list[Event], tuning_recipe: Event
) -> States:
    recipe, space = documents
    with_graph = {**space, "graph": benchmark_cell()}
    cells, collapsing = two_cells()
    one = [
        {"kind": "begin", "host": "bench", "pid": 7},
        {"kind": "step", "step": 1, "outer_loss": 2.5, "inner_loss": 2.0},
    ]
    return {
        "search": folded("first", events, recipe, with_graph),
        "training": folded("first", events[:997], recipe, with_graph),
        "value": by_value(),
        "darts": folded("collapsing", timed(collapsing), {"recipe": {"search": {"batch_size": 64}}}, cells),
        "transfer": transfer(),
        "tuning": folded("second", tuning_events, tuning_recipe),
        "fewshot": few_shot(),
        "empty": RunState("empty"),
        "one-step": folded("one", timed(one), recipe, with_graph),
        "nan": not_finite((recipe, with_graph)),
        "hostile": hostile(),
    }


def drawn(panel: str, state: RunState, **paper: Any) -> list[Any]:
    return getattr(panels, panel)(state, Paper(now=BEGAN + 70, **paper))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("panel", panels.__all__)
def test_panel(panel: str, run: str, states: States, expected: Callable[[str, str], None]) -> None:
    for width in WIDTHS:
        lines = drawn(panel, states[run], width=width)
        assert all(line.cell_len <= width and line.plain.isprintable() for line in lines)
        expected(f"{panel}-{run}-{width}", "".join(line.plain.rstrip() + "\n" for line in lines))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("panel", panels.__all__)
def test_panel_without_colour_or_unicode_tells_the_same(panel: str, run: str, states: States) -> None:
    for width in (1, 7, 20, 40, 79):
        for height in (None, 1, 3, 6):
            shown = drawn(panel, states[run], width=width, height=height, ascii_only=True, colour=False)
            assert all(line.cell_len <= width and line.plain.isascii() and line.plain.isprintable() for line in shown)
            assert height is None or len(shown) <= height
    assert bool(drawn(panel, states[run], ascii_only=True)) == bool(drawn(panel, states[run]))


def test_every_text_is_that_of_a_panel() -> None:
    names = {f"{panel}-{run}-{width}" for panel in panels.__all__ for run in RUNS for width in WIDTHS}
    found = {path.stem for path in (Path(__file__).parent / "expected").glob("*.txt")}
    assert {name for name in found - names if not name.startswith("compare-")} == set()
    for panel in panels.__all__:
        assert any(name.startswith(f"{panel}-") for name in found), f"no run shows {panel}"


def test_a_log_cut_at_every_byte_never_makes_a_panel_raise(tmp_path: Path) -> None:
    space, events = two_cells()
    labels = events[-1]["architecture"]
    short = [events[0], events[-1], trained("derived", 0.9, labels), trained("random 1", 0.8, {}, parameters=2)]
    log = "".join(json.dumps(event) + "\n" for event in timed(short)).encode()
    (tmp_path / "space.json").write_text(json.dumps(space))
    shown: dict[int, list[str]] = {}
    for cut in range(len(log) + 1):
        (tmp_path / "events.jsonl").write_bytes(log[:cut])
        whole = log[:cut].count(b"\n")
        if whole not in shown or log[cut - 1 : cut] in b'{"\n':  # the state is that of the whole lines
            lines = [line.plain for line in sheet(read(tmp_path), Paper(now=BEGAN))][1:]
            assert shown.setdefault(whole, lines) == lines
    assert [len(shown[whole]) for whole in range(5)] == sorted(len(lines) for lines in shown.values())
    titles = " ".join(line for line in shown[4] if line.startswith("── "))
    for title in ("structure", "cells", "health", "leaderboard", "against parameters", "resources"):
        assert title in titles
