"""The page of every kind of run: whole, well-formed, and the same content as the terminal's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.run.events import parse_events
from metanas.ui import RunState, fold, read
from metanas.ui.page import page
from metanas.ui.state import described

Check = Callable[[str], Any]
SECTIONS = re.compile(r'<section id="([^"]*)"><h2>(.*?)</h2>')


def folded(events: list[dict[str, Any]], recipe: Any = None, space: Any = None, name: str = "first") -> RunState:
    return reduce(fold, events, described(RunState(name), recipe, space))


def notes(text: str) -> dict[str, str]:
    """The note beside each headline."""
    return {
        name: re.sub("<[^>]*>", "", title).removeprefix(name.replace("-", " ")).strip()
        for name, title in SECTIONS.findall(text)
    }


def test_a_search(events: list[dict[str, Any]], documents: tuple[Any, Any], well_formed: Check) -> None:
    recipe, space = documents
    text = page(folded(events, recipe, space), recipe)
    found = well_formed(text)
    assert notes(text) == {
        "curves": "",
        "structure": "epoch 50: entropy 0.5658, gap 0.0262",
        "derived-architectures": "2 changes, the last at epoch 9",
        "trained-from-scratch": "derived +2.7 points against the mean of 3 random",
        "log": "1 warning",
        "recipe": "",
    }
    assert text.count("<svg") == 8  # loss, accuracy, entropy, gap, skip share; bands; score, parameters
    assert (
        '<h1>first <span class="status good">✓ finished</span></h1><p class="what">nasbench201 · digits · drnas</p>'
        in text
    )
    assert (
        '<p class="result"><b>98.4%</b> test accuracy<span>derived +2.7 points against the mean of 3 random</span></p>'
        in text
    )
    words = "".join(found.words)
    assert "seed0device" in words and "versionspython 3.12.3, torch 2.13.0, metanas 0.1.0" in words
    assert '"controller": "drnas"' in words


def test_a_tuning(tuning_events: list[dict[str, Any]], tuning_recipe: Any, well_formed: Check) -> None:
    text = page(folded(tuning_events, tuning_recipe, name="second"), tuning_recipe)
    well_formed(text)
    assert notes(text) == {
        "curves": "",
        "learned": "from step 1 to step 200",
        "hypergradient": "conjugate gradient, 198 of 200 steps converged (99.0%)",
        "trials": "20 of 20: 15 complete, 4 pruned, 1 failed",
        "trained-from-scratch": "learned +1.2 points against the start values",
        "log": "",
        "recipe": "",
    }
    assert (
        '<p class="notice warn">▲ step 58 had not converged: the Hessian is not positive definite (least curvature '
        "-0.0200); the residual is 0.0030 (allowed: 1.0e-04)</p>" in text
    )
    assert text.count("<svg") == 2 + 4 + 4 + 1
    assert '<tr><td>decay, mean</td><td class="number">1.5e-04</td><td class="number">0.0013</td></tr>' in text


def test_a_few_shot_run(make_few_shot: Callable[[], Path], well_formed: Check) -> None:
    folder = make_few_shot()
    text = page(read(folder), json.loads((folder / "recipe.json").read_text()))
    well_formed(text)
    assert notes(text) == {
        "episodes": "5-way 1-shot, a guess 20.0%",
        "curves": "",
        "learned": "from step 1 to step 60",
        "hypergradient": "60 of 60 steps converged",
        "networks": "learned +49.9 points against its start",
        "recipe": "",
    }
    assert (
        '<p class="result"><b>90.1% ± 0.8%</b> test accuracy<span>learned +49.9 points against its start</span></p>'
        in text
    )
    assert "<tr><td>test, all together</td><td>92.4% ± 0.7%</td><td></td></tr>" in text
    key = "<code>block1.main: conv_3x3, pool1: max_pool</code>"
    assert f'<tr><td>start</td><td class="number">40.2%</td><td>{key}</td></tr>' in text, "what is told of, no more"
    assert ">its start 40.2%</text>" in text
    assert "★ best at step 50</text>" in text
    assert text.count('class="bar second"') == 2 * 4  # an interval for each validation, in both drawings


@pytest.mark.parametrize("over", [False, True])
def test_a_transfer_without_a_search_shows_what_it_carries(over: bool, well_formed: Check) -> None:
    labels = {"a": "conv", "in": ["0", "1"]}
    recipe = {"transfer": {"how": "frozen", "architecture": labels}, "recipe": {"search": {"epochs": 9}}}
    nets = [
        {"kind": "network", "network": name, "architecture": labels, "test_score": share, "parameters": size}
        for name, share, size in (("derived", 0.75, 5), ("scratch", 0.5, 6), ("random 1", 0.25, 7))
    ]
    text = page(folded(nets if over else [], recipe), {})
    well_formed(text)
    beside = {"trained": "derived +25.0 points against the same from scratch"}
    assert notes(text) == {"structure": "as carried over", **(beside if over else {})}
    assert "<tr><td><b>in</b></td><td>0 + 1</td></tr>" in text
    levels = re.findall(r'class="tick middle">((?:same|mean|random)[^<]*)<', text)
    assert levels == (["same from scratch 50.0%", "same from scratch 6"] if over else []), "a random one is not beaten"


@pytest.mark.parametrize(("count", "words"), [(1, "random 1 50.0%"), (2, "mean of 2 random 55.0%")])
def test_the_line_among_the_dots_says_whose_it_is(count: int, words: str, well_formed: Check) -> None:
    names = ["derived", *(f"random {n + 1}" for n in range(count))]
    scores = [0.75, 0.5, 0.6]
    nets = [{"kind": "network", "network": name, "test_score": x} for name, x in zip(names, scores, strict=False)]
    text = page(folded(nets), {})
    well_formed(text)
    assert f">{words}</text>" in text and "others" not in text


def test_an_empty_run(tmp_path: Path, well_formed: Check) -> None:
    (tmp_path / "first").mkdir()
    text = page(read(tmp_path / "first"), {})
    well_formed(text)
    assert notes(text) == {} and "<svg" not in text
    assert '<p class="result"><b>search</b> not begun</p>' in text and "○ waiting" in text


def test_one_step(events: list[dict[str, Any]], documents: tuple[Any, Any], well_formed: Check) -> None:
    steps = [event for event in events if event["kind"] in ("begin", "step")][:2]
    text = page(folded(steps, *documents), documents[0])
    well_formed(text)
    assert list(notes(text)) == ["curves", "recipe"]
    assert text.count('class="dot first"') == 1 and 'class="curve first" d=' not in text  # no line through one point


def test_one_epoch_has_no_slider(events: list[dict[str, Any]], documents: tuple[Any, Any], well_formed: Check) -> None:
    until = next(n for n, event in enumerate(events) if event["kind"] == "epoch")
    text = page(folded(events[: until + 1], *documents), {})
    well_formed(text)
    assert "structure" in notes(text) and 'id="replay"' not in text and 'id="frames"' not in text


def test_values_alone(well_formed: Check) -> None:
    """A controller that needs only values has no weights, and no epochs."""
    values = [
        {"kind": "value", "step": n, "budget": 9, "value": 0.5 + n / 20, "best": 0.5 + n / 20, "key": f"|{n}|",
         "architecture": {"a": "conv", "in": ["0", "1"]}}
        for n in (1, 2, 3)
    ]  # fmt: skip
    text = page(folded(values), {})
    well_formed(text)
    assert notes(text) == {"curves": "", "structure": "value 0.6500", "best-evaluated": "3 evaluated"}
    assert "<tr><td><b>in</b></td><td>0 + 1</td></tr>" in text
    assert '<tr><td class="number">1</td><td class="number">0.6500</td><td class="number">3</td>' in text


def test_values_of_trainings_of_different_length(well_formed: Check) -> None:
    halved = [("p", 0.9, 1), ("q", 0.8, 1), ("p", 0.5, 9)]
    values = [
        {"kind": "value", "step": n, "value": value, "best": value, "epochs": epochs, "key": key,
         "architecture": {"a": key}}
        for n, (key, value, epochs) in enumerate(halved, 1)
    ]  # fmt: skip
    text = page(folded(values), {})
    well_formed(text)
    assert notes(text)["structure"] == "value 0.5000 after 9 epochs"
    row = "".join(f'<td class="number">{cell}</td>' for cell in ("1", "0.5000", "9", "3"))
    assert '<th class="number">epochs</th>' in text and f"<tr>{row}" in text
    assert "shorter 0.8000" in text and "9 epochs 0.5000" in text  # the legend
    assert '<th class="number">epochs</th>' not in page(folded([{**v, "epochs": None} for v in values]), {})


def two_objectives(*rows: tuple[float, float], names: tuple[str, str] = ("score", "-parameters")) -> RunState:
    values = [
        {"kind": "value", "step": n, "value": row[0], "key": f"|{n}|", "architecture": {"a": str(n)},
         "values": dict(zip(names, row, strict=True))}
        for n, row in enumerate(rows, 1)
    ]  # fmt: skip
    return folded(values)


def test_the_front_of_several_objectives_is_drawn(well_formed: Check) -> None:
    """Two of three are on it; the line of what they dominate has one step, at the smaller one's score."""
    state = two_objectives((0.9, 300.0), (0.8, 200.0), (0.7, 250.0))
    text = page(state, {})
    well_formed(text)
    assert notes(text)["front"] == "2 of 3 on the front, hypervolume 0.5000 of what was evaluated"
    drawn = text[text.index('<section id="front">') : text.index('<section id="best-evaluated">')]
    assert drawn.count('class="diamond"') == 3 and drawn.count('class="dot first"') == 2  # one of each in the legend
    corners = re.findall(r'points="([^,]*),([^ ]*) ', drawn)
    _, first, second = ((float(x), float(y) + 6) for x, y in corners)
    assert first[0] > second[0] and first[1] < second[1]  # the best score to the right, and above
    path = f"M{second[0]} {second[1]}L{first[0]} {second[1]}L{first[0]} {first[1]}"
    assert f'<path d="{path}"' in drawn
    assert "<title>step 3: score 70.0%, parameters 250</title>" in drawn
    cells = "".join(f'<td class="number">{cell}</td>' for cell in ("90.0%", "300", "1"))
    assert f"<tr><td><b>a</b></td>{cells}" in drawn


def test_fronts_that_cannot_be_drawn(well_formed: Check) -> None:
    for rows in ([(0.5, 1e200), (0.4, 1e300)], [(0.5, 3.0)]):
        text = page(two_objectives(*rows), {})
        well_formed(text)
        assert "front" in notes(text)
    both = page(two_objectives((1.0, 2.0), (2.0, 1.0), names=("<b>&", "other")), {})
    well_formed(both)
    assert "&lt;b&gt;&amp; against other" in both and "<b>&" not in both
    single = folded([{"kind": "value", "step": 1, "value": 0.5, "architecture": {"a": "b"}, "values": {"score": 0.5}}])
    assert "front" not in notes(page(single, {}))


NAN_EVENTS = [
    {"kind": "begin", "at": 1.0, "elapsed": 0.0},
    *(
        {"kind": "epoch", "epoch": n, "step": n, "inner_loss": None if n in (3, 4) else float(n),
         "inner_loss_is": "nan", "outer_loss": None, "outer_loss_is": "inf", "entropy": None, "entropy_is": "nan",
         "weights": {"a": [None, 0.5]}, "architecture": {"a": "1"}, "key": "k"}
        for n in range(1, 8)
    ),
    {"kind": "network", "network": "derived", "test_score": None, "test_score_is": "nan", "parameters": 1e300},
    {"kind": "network", "network": "random 1", "test_score": 0.5, "parameters": 3},
    {"kind": "end", "status": "failed", "message": "the last 10 updates were not finite"},
]  # fmt: skip


def test_what_is_not_finite_leaves_a_gap(well_formed: Check) -> None:
    text = page(folded(NAN_EVENTS), {})
    well_formed(text)
    lines = re.findall(r'<path d="([^"]*)" class="curve first"', text)
    assert [line.count("M") for line in lines] == [2, 2]  # two parts, in the linear and in the logarithmic drawing
    assert [len(re.findall("[ML]", line)) for line in lines] == [5, 5]
    assert "outer inf</text>" in text  # the newest value is said, not hidden
    assert '<td class="wnone" data-top="100" title="a: 0">-</td>' in text
    assert '<p class="notice bad">the last 10 updates were not finite</p>' in text
    assert "<b>nan</b> test accuracy" in text
    rows = re.findall(r"<tr><td><b>derived</b>.*?</tr>|<tr><td>random 1.*?</tr>", text)
    assert '<td class="number">nan</td>' in rows[0] and '<td class="number">1.0e+300</td>' in rows[0]
    assert '<td class="number">50.0% ★</td>' in rows[1]


HOSTILE = "<script>alert(1)</script>\"'\x1b[2J\u202e[/b]&amp;</script><!--"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;␛[2J&lt;U+202E&gt;[/b]&amp;amp;&lt;/script&gt;&lt;!--"


def hostile(value: Any) -> Any:
    """Every word of a record replaced, in names as well."""
    if isinstance(value, dict):
        return {
            (key if key in KEEP else HOSTILE + key): (item if key in KEPT else hostile(item))
            for key, item in value.items()
        }
    return (
        [hostile(item) for item in value] if isinstance(value, list) else HOSTILE if isinstance(value, str) else value
    )


KEPT = {"kind", "inner_loss_is", "outer_loss_is", "entropy_is", "test_score_is"}
KEEP = KEPT | {
    "recipe", "search", "evaluation", "data", "choices", "name", "candidates", "versions", "controller", "estimator",
    "created", "device", "metric", "network", "weights", "architecture", "key", "message", "level", "status", "epoch",
    "epochs", "step", "steps", "at", "elapsed", "host", "inner_loss", "outer_loss", "inner_score", "outer_score",
    "entropy", "gap", "test_score", "parameters", "seed", "learned", "values", "value", "state", "reason", "trial",
    "outer_gradient_norm", "residual", "converged", "learn", "outer", "inner", "rule", "accuracy", "ways", "shots",
    "learner", "transductive", "start", "interval",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["search", "tuning", "few-shot"])
def test_hostile_words_are_words(
    kind: str,
    events: list[dict[str, Any]],
    documents: tuple[Any, Any],
    tuning_events: list[dict[str, Any]],
    tuning_recipe: Any,
    make_few_shot: Callable[[], Path],
    well_formed: Check,
) -> None:
    recipe, space = documents
    if kind == "tuning":
        events, recipe, space = tuning_events, tuning_recipe, None
    if kind == "few-shot":
        folder = make_few_shot()
        recipe, space = json.loads((folder / "recipe.json").read_text()), None
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    state = folded([hostile(event) for event in events], hostile(recipe), hostile(space), name=HOSTILE)
    text = page(state, hostile(recipe), now=2e9)
    found = well_formed(text)
    assert f"<h1>{SHOWN} " in text
    assert [tag for tag, _ in found.tags].count("script") == text.count("<script")
    assert text.count("<script") == (2 if kind == "search" else 1)  # ours, and the numbers of the slider
    assert "alert(1)</script>" not in text and "\x1b" not in text


def test_names_of_a_search_are_hostile_everywhere(well_formed: Check) -> None:
    weights = {HOSTILE: [0.25, 0.75]}
    space = {"name": HOSTILE, "choices": [{"name": HOSTILE, "candidates": [HOSTILE, HOSTILE + "2"]}]}
    epochs = [
        {
            "kind": "epoch",
            "epoch": n,
            "weights": weights,
            "architecture": {HOSTILE: HOSTILE if n == 1 else "b"},
            "key": HOSTILE,
        }
        for n in (1, 2)
    ]
    text = page(folded(epochs, {"metric": HOSTILE}, space), {"recipe": {HOSTILE: HOSTILE}})
    well_formed(text)
    assert f'<th class="number">{SHOWN}2</th>' in text and f"<b>{SHOWN}</b>" in text
    data = re.search(r'id="frames">(.*?)</script>', text)
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])["words"][0] == HOSTILE.replace("\x1b", "␛").replace("\u202e", "<U+202E>")


def test_a_log_cut_at_every_byte_still_gives_a_page(
    events: list[dict[str, Any]], documents: tuple[Any, Any], well_formed: Check
) -> None:
    few = [event for event in events if event["kind"] != "step" or event["step"] in (1, 2)]
    few = [event for event in few if event["kind"] not in ("epoch", "train") or event["epoch"] in (1, 2)]
    whole = "".join(json.dumps(event) + "\n" for event in few[:6] + few[-3:]).encode()
    asked = described(RunState("first"), *documents)
    before, drawn = None, 0
    for size in range(len(whole) + 1):
        state = reduce(fold, parse_events(whole[:size]).events, asked)
        if state != before:  # a cut inside a line tells what the last whole line told
            before, drawn = state, drawn + 1
            well_formed(page(state, documents[0]))
    assert drawn == 10  # after every line, and before the first


numbers = st.one_of(st.none(), st.floats(), st.integers(-3, 10**6), st.text(max_size=3))
records = st.fixed_dictionaries(
    {"kind": st.sampled_from(
        ["epoch", "step", "derivation", "value", "trial", "validation", "network", "train", "log", "begin", "end"]
    )},
    optional={
        **{name: numbers for name in (
            "epoch", "epochs", "step", "steps", "trial", "inner_loss", "outer_loss", "outer_score", "entropy", "gap",
            "value", "best", "accuracy", "interval", "test_score", "parameters", "outer_gradient_norm", "residual",
            "curvature", "at", "elapsed", "loss", "score", "skipped", "done", "total",
        )},
        "weights": st.dictionaries(st.text(max_size=2), st.lists(numbers, max_size=3), max_size=2),
        "architecture": st.dictionaries(
            st.text(max_size=2), st.one_of(st.text(max_size=2), st.lists(st.text(max_size=1)))
        ),
        "learned": st.dictionaries(st.text(max_size=2), numbers, max_size=2),
        "network": st.sampled_from(["derived", "random 1", "learned", "start"]),
        "key": st.text(max_size=3), "message": st.text(max_size=5), "level": st.text(max_size=5),
        "converged": st.booleans(), "state": st.sampled_from(["complete", "pruned"]), "status": st.text(max_size=3),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(records, max_size=8))
def test_whatever_a_run_says_there_is_a_page(well_formed: Check, found: list[dict[str, Any]]) -> None:
    well_formed(page(folded(found), {}, now=0.0))
