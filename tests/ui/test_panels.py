"""Every panel as exact text: after epoch 9 of the fake run, in its from-scratch training, and at its end."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from rich.text import Text

from metanas.ui import panels
from metanas.ui.app.tabs import tabs_of
from metanas.ui.paper import Paper, shade
from metanas.ui.state import RunState, described, fold

BEGAN = 1_760_000_000.0
AFTER_EPOCH_9, WHILE_TRAINING = 165, 997  # events

DARTS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def text(lines: list[Text]) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in lines)


def folded(events: list[dict[str, Any]], documents: tuple[object, object]) -> RunState:
    return reduce(fold, events, described(RunState("first"), *documents))


@pytest.fixture(scope="module")
def early(events: list[dict[str, Any]], documents: tuple[object, object]) -> RunState:
    return folded(events[:AFTER_EPOCH_9], documents)


@pytest.fixture(scope="module")
def training(events: list[dict[str, Any]], documents: tuple[object, object]) -> RunState:
    return folded(events[:WHILE_TRAINING], documents)


@pytest.fixture(scope="module")
def finished(events: list[dict[str, Any]], documents: tuple[object, object]) -> RunState:
    return folded(events, documents)


@pytest.fixture(scope="module")
def mixed() -> RunState:
    """A state of choices of three kinds: DARTS's operations, 2 of 4 inputs, 2 of 14 fused candidates."""
    names = {f"normal/{n}": DARTS for n in range(4)}
    names |= {"inputs 2": ("c_{k-2}", "c_{k-1}", "0", "1"), "wide": tuple(f"edge{n}/sep_conv_3x3" for n in range(14))}
    weights: dict[str, list[float]] = {name: [0.1, 0.05, 0.05, 0.2, 0.3, 0.1, 0.1, 0.1] for name in names}
    weights |= {"inputs 2": [0.4, 0.3, 0.2, 0.1], "wide": [n / 91 for n in range(14)]}
    derived: dict[str, Any] = {name: "sep_conv_3x3" for name in names}
    derived |= {"inputs 2": ["c_{k-2}", "1"], "wide": ["edge12/sep_conv_3x3", "edge3/sep_conv_3x3"]}
    space = {"choices": [{"name": name, "candidates": list(candidates)} for name, candidates in names.items()]}
    event = {"kind": "epoch", "epoch": 1, "weights": weights, "architecture": derived}
    return fold(described(RunState("mixed"), None, space), event)


def test_header(early: RunState) -> None:
    assert (
        text(panels.header(early, Paper(width=80, now=BEGAN + 9)))
        == r"""
first  nasbench201 · digits · drnas                            ● running  0s ago
search  ━━━━──────────────────────   9/50 epochs  step 153  elapsed 8s  left 37s
▲ 2 updates skipped (1.3%): not finite, masked; gradient norm 0.9724
"""
    )


def test_header_of_a_killed_run_in_ascii(early: RunState) -> None:
    assert (
        text(panels.header(early, Paper(width=80, now=BEGAN + 400, ascii_only=True)))
        == r"""
first  nasbench201 - digits - drnas                         ! killed  6m 31s ago
search  ######------------------------------   9/50 epochs  step 153  elapsed 8s
! 2 updates skipped (1.3%): not finite, masked; gradient norm 0.9724
"""
    )


def test_curves(early: RunState) -> None:
    assert (
        text(panels.curves(early, Paper(width=60)))
        == r"""
── curves ───────────────────────────────── epochs 1 to 9 ──
  loss   ━ inner 1.131  ━ outer 1.235
 2.143┤⢷⡀
      │⠈⢗⡄
      │ ⠈⢺⡄
      │   ⠹⣆
      │    ⠑⢧⡀
      │     ⠈⠪⡱⡀
 1.131┤       ⠈⢎
accuracy   ━ inner 58.6%  ━ outer 53.4%
 58.6%┤       ⢀⢎
      │     ⢀⢔⠏⠁
      │    ⡠⡺⠁
      │   ⣴⠋
      │ ⢀⢮⠊
      │⢀⡞⠁
 17.5%┤⡞
"""
    )


def test_curves_where_rows_are_few(early: RunState) -> None:
    assert (
        text(panels.curves(early, Paper(width=60, height=5)))
        == r"""
── curves ───────────────────────────────── epochs 1 to 9 ──
outer loss        1.235  █▇▆▅▄▃▂▁▁
outer accuracy    53.4%  ▁▂▃▄▅▆▇██
inner loss        1.131  █▇▆▅▄▃▂▁▁
inner accuracy    58.6%  ▁▂▃▄▅▆▇██
"""
    )


def test_curves_beside_each_other_in_ascii(finished: RunState) -> None:
    assert (
        text(panels.curves(finished, Paper(width=100, height=7, ascii_only=True)))
        == r"""
-- curves ------------------------------------------------------------------------ epochs 1 to 50 --
  loss   . inner 0.1166  o outer 0.3003            accuracy   . inner 95.7%  o outer 92.5%
 2.143|oo                                           97.4%|                      ..ooooooooooooooooo
      |  oooo                                            |          oooooooooooooo
      |     .ooooo                                       |     .oooo
      |          .oooooooooooooooo  o                    |  oooo
0.1166|                     ......oo.ooooooooooo    17.5%|oo
"""
    )


def test_structure_without_colour(early: RunState) -> None:
    assert (
        text(panels.structure(early, Paper(width=96, colour=False)))
        == r"""
── structure ────────────────────────────────────────── entropy █████████ 0.9152   gap 0.2089 ──
              none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3  derived
1<-0        0.17 ▃       0.24 ▄       0.21 ▄      ▸0.25 ▄       0.13 ▂  nor_conv_3x3  was skip_…
2<-0        0.22 ▄       0.16 ▃      ▸0.24 ▄       0.15 ▃       0.22 ▄  nor_conv_1x1  was none
2<-1        0.11 ▂       0.12 ▂       0.17 ▃      ▸0.45 ▇       0.15 ▃  nor_conv_3x3
3<-0        0.14 ▃      ▸0.48 █       0.16 ▃       0.11 ▂       0.10 ▂  skip_connect
3<-1        0.19 ▃       0.13 ▂       0.10 ▂      ▸0.38 ▆       0.19 ▃  nor_conv_3x3
3<-2        0.09 ▂       0.10 ▂       0.15 ▃      ▸0.54 █       0.12 ▂  nor_conv_3x3
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
"""
    )


def test_structure_narrow(early: RunState) -> None:
    assert (
        text(panels.structure(early, Paper(width=60)))
        == r"""
── structure ────── entropy █████████ 0.9152   gap 0.2089 ──
        none ski…ct nor…x1 nor…x3 avg…x3  derived
1<-0    0.17   0.24   0.21  ▸0.25   0.13  nor_conv_3x3  was…
2<-0    0.22   0.16  ▸0.24   0.15   0.22  nor_conv_1x1  was…
2<-1    0.11   0.12   0.17  ▸0.45   0.15  nor_conv_3x3
3<-0    0.14  ▸0.48   0.16   0.11   0.10  skip_connect
3<-1    0.19   0.13   0.10  ▸0.38   0.19  nor_conv_3x3
3<-2    0.09   0.10   0.15  ▸0.54   0.12  nor_conv_3x3
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_conne
ct~0|nor_conv_3x3~1|nor_conv_3x3~2|
"""
    )


def test_structure_narrow_low_and_ascii(early: RunState) -> None:
    paper = Paper(width=50, height=6, colour=False, ascii_only=True)
    assert (
        text(panels.structure(early, paper))
        == r"""
-- structure -------------------------------------
         none ski~ect nor~1x1 nor~3x3 avg~3x3
1<-0   0.17 -  0.24 =  0.21 = >0.25 =  0.13 :
2<-0   0.22 =  0.16 - >0.24 =  0.15 -  0.22 =
: 4 more rows
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+~
"""
    )


def test_structure_of_choices_of_several_kinds(mixed: RunState) -> None:
    assert (
        text(panels.structure(mixed, Paper(width=100, colour=False)))
        == r"""
── structure ───────────────────────────────────────────────────────────────────────────────────────
              none max_…3x3 avg_…3x3 skip…ect sep_…3x3 sep_…5x5 dil_…3x3 dil_…5x5  derived
normal/0    0.10 ▃   0.05 ▂   0.05 ▂   0.20 ▆  ▸0.30 █   0.10 ▃   0.10 ▃   0.10 ▃  sep_conv_3x3
normal/1    0.10 ▃   0.05 ▂   0.05 ▂   0.20 ▆  ▸0.30 █   0.10 ▃   0.10 ▃   0.10 ▃  sep_conv_3x3
normal/2    0.10 ▃   0.05 ▂   0.05 ▂   0.20 ▆  ▸0.30 █   0.10 ▃   0.10 ▃   0.10 ▃  sep_conv_3x3
normal/3    0.10 ▃   0.05 ▂   0.05 ▂   0.20 ▆  ▸0.30 █   0.10 ▃   0.10 ▃   0.10 ▃  sep_conv_3x3
          c_{k-2} c_{k-1}       0       1  derived
inputs 2  ▸0.40 ▇  0.30 ▅  0.20 ▄ ▸0.10 ▂  c_{k-2} + 1
wide  ▸edge12/sep_conv_3x3 0.13 ▸edge3/sep_conv_3x3 0.03  edge13/sep_conv_3x3 0.14  edge11/sep_conv…
"""
    )


def test_structure_of_choices_of_several_kinds_narrow(mixed: RunState) -> None:
    assert (
        text(panels.structure(mixed, Paper(width=60)))
        == r"""
── structure ───────────────────────────────────────────────
normal/0  ▸sep_conv_3x3 0.30  skip_connect 0.20  none 0.10 …
normal/1  ▸sep_conv_3x3 0.30  skip_connect 0.20  none 0.10 …
normal/2  ▸sep_conv_3x3 0.30  skip_connect 0.20  none 0.10 …
normal/3  ▸sep_conv_3x3 0.30  skip_connect 0.20  none 0.10 …
          c_{k-2} c_{k-1}       0       1  derived
inputs 2    ▸0.40    0.30    0.20   ▸0.10  c_{k-2} + 1
wide  ▸edge12/sep_conv_3x3 0.13 ▸edge3/sep_conv_3x3 0.03  e…
"""
    )


def test_shades_follow_the_weights(early: RunState) -> None:
    row = next(line for line in panels.structure(early, Paper(width=96)) if line.plain.startswith("3<-2"))
    shades = [str(span.style) for span in row.spans if " on " in str(span.style)]
    assert shades == [shade(weight / 0.54) for weight in (0.09, 0.10, 0.15, 0.54, 0.12)]


def test_timeline(early: RunState) -> None:
    assert (
        text(panels.timeline(early, Paper(width=96)))
        == r"""
── derived architectures ───────────────────────────────────── 2 changes, the last at epoch 9 ──
    9  kept 1    1<-0 → nor_conv_3x3, 2<-0 → nor_conv_1x1  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor…
    5  kept 4    3<-1 → nor_conv_3x3                       |skip_connect~0|+|none~0|nor_conv_3x…
    1  kept 4    first                                     |skip_connect~0|+|none~0|nor_conv_3x…
"""
    )


def test_timeline_narrow_and_low(early: RunState) -> None:
    assert (
        text(panels.timeline(early, Paper(width=60, height=3)))
        == r"""
── derived architectures ───────────────────────────────────
    9  kept 1    1<-0 → nor_conv_3x3, 2<-0 → nor_conv_1x1
    5  kept 4    3<-1 → nor_conv_3x3
"""
    )


def test_a_transfer_without_a_search_shows_what_it_carries(documents: tuple[Any, Any]) -> None:
    """From its first moment; once it is trained, what was."""
    edge = {"source": "0", "content": {"choice": "1<-0", "contents": []}}
    space = {"name": "tiny", "graph": {"nodes": [{"name": "1", "edges": [edge]}]}}
    recipe = {**documents[0], "transfer": {"how": "frozen", "architecture": {"1<-0": "conv"}}}
    state = described(RunState("moved"), recipe, space)
    assert [line.plain for line in panels.cell(state, Paper(width=40))] == [
        "── cell ───────────── as carried over ──", "0", "└──▶1   conv",
    ]  # fmt: skip
    board = [line.plain.rstrip() for line in panels.leaderboard(state, Paper(width=40))]
    assert board[1:] == ["rank      test  network     architecture", "   1         -  derived     1<-0: conv"]
    state = fold(state, {"kind": "network", "network": "derived", "architecture": {"1<-0": "conv"}, "test_score": 0.5})
    state = fold(state, {"kind": "network", "network": "scratch", "architecture": {"1<-0": "conv"}, "test_score": 0.25})
    board = [line.plain.rstrip() for line in panels.leaderboard(state, Paper(width=40))]
    assert board[2:] == ["   1     50.0%★ derived     1<-0: conv", "┄┄┄┄     25.0%   the same from scratch"]
    assert "timeline" not in [tab.title for tab in tabs_of(state)] and not state.searches


def test_networks_while_they_train(training: RunState) -> None:
    assert (
        text(panels.networks(training, Paper(width=96)))
        == r"""
── trained from scratch ──────────────────────────────── derived +1.3 points against random 1 ──
network       test accuracy  test loss  parameters  multiply-adds  architecture
derived              98.4%★     0.0600       73.4k          2.31M  |nor_conv_3x3~0|+|nor_conv_1…
random 1             97.1%      0.1000       64.4k          2.00M  |nor_conv_3x3~0|+|nor_conv_3…
random 2      ━━━━━━──────────────  12/40 epochs  loss 0.3277  training accuracy 91.8%
random 3     waiting
"""
    )


def test_networks_at_the_end_in_ascii(finished: RunState) -> None:
    assert (
        text(panels.networks(finished, Paper(width=70, ascii_only=True)))
        == r"""
-- trained from scratch ----------------------------------------------
network       test accuracy  test loss  parameters  multiply-adds  ar~
derived              98.4%*     0.0600       73.4k          2.31M  |n~
random 1             97.1%      0.1000       64.4k          2.00M  |n~
random 2             95.6%      0.1400       55.4k          1.69M  |n~
random 3             94.3%      0.1800       46.4k          1.38M  |n~
"""
    )


def test_log_keeps_the_newest_lines(finished: RunState) -> None:
    assert (
        text(panels.log(finished, Paper(width=60, height=2)))
        == r"""
── log ──────────────────────────────────────── 1 warning ──
     7s  warning  2 updates at step 121 were not finite and…
"""
    )


def test_nothing_from_a_run_is_taken_for_markup_or_obeyed() -> None:
    evil = "x[/b]\x1b[2J\u202e"
    space = {"name": evil, "choices": [{"name": evil, "candidates": [evil, "b"]}]}
    state = described(RunState(evil), {"data": {"name": evil}}, space)
    for event in (
        {"kind": "epoch", "epoch": 1, "weights": {evil: [0.5, 0.5]}, "architecture": {evil: "b"}, "key": evil},
        {"kind": "epoch", "epoch": 2, "weights": {evil: [0.6, 0.4]}, "architecture": {evil: evil}, "key": evil},
        {"kind": "train", "network": evil, "epoch": 1},
        {"kind": "network", "network": evil, "key": evil},
        {"kind": "log", "level": evil, "message": evil},
        {"kind": "end", "status": evil, "message": evil},
    ):
        state = fold(state, event)
    for panel in (panels.header, panels.structure, panels.timeline, panels.networks, panels.log):
        shown = text(panel(state, Paper(width=200)))
        assert "x[/b]␛[2J<U+202E>" in shown or panel is panels.networks
        assert "\x1b" not in shown and "\u202e" not in shown
