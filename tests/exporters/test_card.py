"""The model card: every number of the story is on the page, and no name can become Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import metanas.exporters.card as module
from metanas.exporters import Loss, Source, Story, write
from metanas.exporters.card import card, code, wilson
from metanas.exporters.draft import Draft
from metanas.exporters.latency import Latency, latencies
from metanas.network import Network

Made = tuple[Network, Source]
STORY = Story(
    method={"Controller": "drnas", "Epochs": 1500, "Learning rate": 0.025},
    space_size=15_625,
    data={"Name": "di`gits\n# x", "Test split": 359},
    score=0.9442896842956543,
    tested=359,
    random=(0.9220055937767029, 0.9582172632217407, 0.9080780148506165),
    multiply_adds=242_506,
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    limits=("Trained on scans [of](one) machine.",),
)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that always takes as long."""
    found = (Latency(1, 0.5, 0.25, 1.0), Latency(32, 8.0, 7.5, 9.125))
    monkeypatch.setattr(module, "latencies", lambda network: found)
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 2)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0].strip()


def test_found_data_and_quality(make: Callable[..., Made]) -> None:
    text = card(Draft(*make(), "net", story=STORY))
    assert section(text, "How it was found") == (
        "- Controller: `drnas`\n- Epochs: 1,500\n- Learning rate: 0.025\n- Architectures in the space: 15,625"
    )
    assert section(text, "Data") == "- Name: ``di`gits\\n# x``\n- Test split: 359"
    assert section(text, "How well it does") == (
        "- `accuracy` on the test split: 94.43% (95 % interval for 359 examples: 91.55% to 96.37%; one training, one "
        "seed)\n"
        "- 3 random architectures of the same space, trained the same way: mean 92.94%, standard deviation 2.59%"
    )
    assert section(text, "What it costs").splitlines()[1:] == [
        "- One example, forward: 242,506 multiply-adds = 485,012 FLOPs (2 to a multiply-add)",
        "- Time on the CPU of the export (`x86_64`, 2 threads, torch):",
        "    - batch 1: median 0.50 ms, middle half 0.25 to 1.00 ms",
        "    - batch 32: median 8.00 ms, middle half 7.50 to 9.12 ms",
    ]
    assert text.endswith("numpy `2.4.6`\n") and "torch `2.13.0`" in text
    assert "- Trained on scans of(one) machine." in text


def test_a_metric_of_ones_own_has_no_interval(make: Callable[..., Made]) -> None:
    story = replace(STORY, metric="macro F1", random=(0.5,), scratch=float("nan"))
    assert section(card(Draft(*make(), "net", story=story)), "How well it does") == (
        "- `macro F1` on the test split: 0.9443\n"
        "- 1 random architecture of the same space, trained the same way: mean 0.5000\n"
        "- The same architecture, trained from nothing: not finite"
    )


def test_without_a_story_it_says_what_the_network_itself_says(make: Callable[..., Made], tmp_path: Path) -> None:
    network, source = make()
    formats = ["card", "json", "safetensors", "python"]
    path = write(network, source, folder=tmp_path, formats=formats, name="a-net", verify="here")[0]
    text = path.read_text()
    assert path.name == "a-net.md"
    assert text.startswith("# Model card: `a-net`\n\nA network for 5 classes, with ")
    assert f"- Architecture: `{source.architecture}`\n- Search space: `nasbench201`\n" in text
    assert "- Input: (batch, 3, 8, 8), float32. Output: (batch, 5)" in text
    assert "with mean 120.5, 110, 100.25 and std 60, 61, 62\n- Pixels: from 0 to 255\n" in text
    assert "How it was found" not in text and "How well" not in text and "## Data" not in text
    use = section(text, "How to use it")
    assert use.index("`architecture.json`") < use.index("`a-net.safetensors`: the weights") < use.index("`a-net.py`")
    assert '    import importlib\n    scores = importlib.import_module("a-net").load()(images)' in use
    assert "onnx" not in use and "Weights are stored" not in use


def test_the_loss_of_a_reduced_file(make: Callable[..., Made]) -> None:
    losses = {"onnx": Loss(0.0151, 0.9375, 0.9443, 0.9415)}
    text = card(Draft(*make(), "net", precision="int8", losses=losses, files={"onnx": "net.onnx"}))
    assert section(text, "How to use it").splitlines()[-3:] == [
        "Weights are stored in int8. Linear maps and convolutions are computed in 8 bits. What is lost:",
        "",
        "- onnx: outputs differ by up to 1.5e-02 of the largest, the same class on 93.8% of random inputs, "
        "test 0.9443 -> 0.9415",
    ]


def test_names_stay_names(make: Callable[..., Made]) -> None:
    network, source = make()
    evil = ("`` ` ``", "<script>alert(1)</script>", "a\n\n# head", "\x1b[2J\u202e", "[x](http://y)")
    text = card(Draft(network, replace(source, classes=evil), "net", story=STORY))
    (line,) = (line for line in text.splitlines() if line.startswith("- Classes"))
    shown = r"``` `` ` `` ```, `<script>alert(1)</script>`, `a\n\n# head`, `\x1b[2J\u202e`, `[x](http://y)`"
    assert line == f"- Classes, in the order of the outputs: {shown}"
    assert all(c.isprintable() or c == "\n" for c in text)


def test_many_classes_and_long_names() -> None:
    assert code("x" * 1000) == f"`{'x' * 399}…`"
    with pytest.raises(ZeroDivisionError):
        wilson(0.5, 0)


def test_wilson_against_its_equation() -> None:
    """The ends are the shares at which the observed one is z standard deviations away."""
    for share, count in ((0.9442896842956543, 359), (0.5, 10), (0.0, 7)):
        for end in wilson(share, count):
            assert abs(share - end) == pytest.approx(module.Z * (end * (1 - end) / count) ** 0.5, abs=1e-7)


def test_latency_is_the_median_of_passes(make: Callable[..., Made]) -> None:
    ticks = itertools.accumulate(itertools.cycle([0.0, 0.001, 0.0, 0.003, 0.0, 0.002]))
    (found,) = latencies(make()[0], (2,), lambda: next(ticks))
    assert (found.batch, round(found.median, 9)) == (2, 2.0)
    assert round(found.low, 9) == 1.0 and round(found.high, 9) == 3.0
    slow = itertools.count(0.0, 10.0)
    (found,) = latencies(make()[0], (1,), lambda: next(slow))
    assert found.median == 10_000.0
