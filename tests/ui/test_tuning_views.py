"""The view of a tuning run as exact text: its panels, the whole sheet in several terminals, and plain lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from metanas.run import RunSummary
from metanas.ui import panels, read, show
from metanas.ui.paper import Paper
from metanas.ui.plain import PlainView, lines
from metanas.ui.report import table
from metanas.ui.screen import sheet
from metanas.ui.state import RunState, concluded, described, fold

BEGAN = 1_760_000_000.0
AFTER_TRIALS, IN_STEPS, IN_TRAINING = 22, 142, 249  # events
EVIL = "x[/b]\x1b[2J\u202e"


def text(found: list[Text]) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in found)


def at(events: list[dict[str, Any]], count: int, recipe: Any) -> RunState:
    return reduce(fold, events[:count], described(RunState("second"), recipe, None))


def paper(width: int, height: int | None, count: int = 0, **options: Any) -> Paper:
    """A paper at the time of the last of so many events."""
    return Paper(width=width, height=height, now=BEGAN + 0.1 * count, **options)


def told(events: list[dict[str, Any]], recipe: Any = None) -> list[str]:
    state, found = described(RunState("second"), recipe, None), []
    for event in events:
        state = fold(state, event)
        found += lines(event, state)
    return found


CLASSIC = r"""
second  tunes mlp · digits                                     ● running  0s ago
learns  example weights, decay per parameter · conjugate gradient
tuning  ━━━━━━━━━━━━━━━━━━━━━──────────────  120/200 steps  elapsed 14s  left 8s
── curves ──────────────────────────────────────────────────── steps 1 to 120 ──
outer loss          0.2363  ██▇▇▆▆▅▅▄▄▄▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
hypergradient norm  0.0182  ██████▇▇▇▇▇▇▆▆▆▆▆▅▅▅▅▅▅▄▄▄▄▄▄▃▃▃▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁
── learned ────────────────────────────────────────── from step 1 to step 120 ──
decay, mean              ▁▂▂▃▄▅▅▆▆▆▇▇▇▇███████████████████   1.5e-04 → 0.0013
decay, largest           ▁▂▂▃▄▅▅▆▆▆▇▇▇▇███████████████████   9.4e-04 → 0.0214
weights below 1/2        ▁▁▁▂▂▃▃▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇▇▇█████████    0.0046 → 0.2588
weight of a wrong label  ███▇▇▇▆▆▆▅▅▅▄▄▄▄▃▃▃▃▃▂▂▂▂▂▁▁▁▁▁▁▁    0.4950 → 0.1506
── hypergradient ───── conjugate gradient, 118 of 120 steps converged (98.3%) ──
▲ step 58 had not converged: the Hessian is not positive definite (least
  curvature -0.0200); the residual is 0.0030 (allowed: 1.0e-04); 1 update
  skipped: not finite
norm            0.0182  ██████▇▇▇▇▇▇▇▆▆▆▆▆▅▅▅▅▅▅▄▄▄▄▄▄▄▃▃▃▃▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁
stationarity   1.1e-04  ████▇▇▇▇▆▆▆▆▅▅▅▅▄▄▄▄▄▃▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
residual       1.1e-06  ▅▅▄▄▄▄▄▄▄▃▃▃▃▃▃▃▃▃▂▂▂▂▂▂▂▂█▆▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
curvature       0.1016  ▄▃▅▄█▆▅█▁▅▅▇▃▆▅▄▂▃█▆▅▆▄▆▄▂▆▂▄▄▁▆▄▁▇▅▄▃▄▂▁▄▇▅▂▄▄▁▆▅█▅▄▂▄▆
── trials ───────────────────────── 20 of 20: 15 complete, 4 pruned, 1 failed ──
  3    0.3030  complete  rule adam, width 32
  6    0.3160  complete  rule sgd, width 32
── log ─────────────────────────────────────────────────────────────────────────
     0s  info     digits: 30.0% of the inner labels replaced
"""
LARGE = r"""
second  tunes mlp · digits                                                                             ● running  0s ago
learns  example weights, decay per parameter · conjugate gradient · adam 20 steps, restarts
training  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━─────────────────────  1.30k/2.00k steps  elapsed 24s  left 1s
── curves ──────────────────────────────────────────────────────────────────────────────────────────── steps 1 to 200 ──
  loss   ━ outer 0.2402                                        norm   ━ hypergradient 0.0103
 2.164┤⢣                                                     0.9708┤⠑⠢⡀
      │⠈⡆                                                          │  ⠈⠢⢄
      │ ⠸⡀                                                         │     ⠑⠤⡀
      │  ⢣                                                         │       ⠈⠢⢄
      │  ⠈⢆                                                        │          ⠑⠤⡀
      │   ⠈⢆                                                       │            ⠈⠑⠤⡀
      │    ⠈⢆                                                      │               ⠈⠒⢄
      │     ⠈⠢⡀                                                    │                  ⠉⠢⢄
      │       ⠈⠢⡀                                                  │                     ⠉⠢⢄⡀
      │         ⠈⠣⢄⡀                                               │                        ⠈⠑⠢⢄⡀
      │            ⠈⠑⠢⠤⣀⡀                                          │                            ⠈⠉⠒⠤⢄⣀⡀
0.2018┤                 ⠈⠉⠉⠑⠒⠒⠒⠔⠒⠤⠤⠤⠤⠤⠤⠤⠤⡠⠤⡠⠤⠤⠤⡠⣀⢄⢄⠤⠤⠤⡠⡠⠤⠤   0.0103┤                                  ⠈⠉⠑⠒⠒⠒⠤⠤⠤⠤⠤⣀⣀⣀⣀⣀⣀
── learned ────────────────────────────────────────────────────────────────────────────────── from step 1 to step 200 ──
decay, mean              ▁▁▂▃▃▄▄▅▅▅▆▆▆▇▇▇▇▇▇██████████████████████████████████████████████████████   1.5e-04 → 0.0013
decay, largest           ▁▁▂▃▃▄▄▅▅▅▆▆▆▇▇▇▇▇▇██████████████████████████████████████████████████████   9.4e-04 → 0.0216
weights below 1/2        ▁▁▁▁▂▂▂▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇▇▇▇▇▇█████████████████████████████    0.0046 → 0.2946
weight of a wrong label  █████▇▇▇▇▆▆▆▆▆▆▅▅▅▅▅▅▄▄▄▄▄▄▄▄▃▃▃▃▃▃▃▃▃▂▂▂▂▂▂▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁    0.4950 → 0.0677
── hypergradient ───────────────────────────────────────────── conjugate gradient, 198 of 200 steps converged (99.0%) ──
▲ step 58 had not converged: the Hessian is not positive definite (least curvature -0.0200); the residual is 0.0030
  (allowed: 1.0e-04); 1 update skipped: not finite
norm            0.0103  █████▇▇▇▇▆▆▆▆▆▅▅▅▅▄▄▄▄▄▃▃▃▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
stationarity   1.0e-04  ███▇▇▆▆▆▅▅▅▄▄▄▃▃▃▃▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
residual       1.0e-06  ▅▅▄▄▄▄▄▃▃▃▃▃▂▂▂▂▂█▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
curvature       0.1078  ▅▄▇▅█▄▅▇▆▅▂▆▅▇▅▆▃▂▇▁▆▄▄▇▃▁▄▇▃▄▂▆▇▆▁▇▆▂▅▆▅▄▂▁▆▇▂▄▇█▁▆▅▄▆▅▂▆█▄
── trials ───────────────────────────────────────────────────────────────── 20 of 20: 15 complete, 4 pruned, 1 failed ──
  3    0.3030  complete  rule adam, width 32
  6    0.3160  complete  rule sgd, width 32
 12    0.3420  complete  rule sgd, width 32
 18    0.3680  complete  rule sgd, width 32
── trained from scratch ────────────────────────────────────────────────────────────────────────────────────────────────
network       test accuracy  test loss  parameters  multiply-adds  time
learned              97.2%★     0.1278       9.61k              -  3s
start         ━━━━━━──────────────  300/1000 steps  loss 0.4963  training accuracy 78.2%
── log ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     0s  info     digits: 30.0% of the inner labels replaced
"""
TRIALS = r"""
second  tunes mlp · digits                                     ● running  0s ago
learns  example weights, decay per parameter · conjugate gradient
trials  ━━━━━━━━━━━━────────────  10/20 trials  elapsed 1s  left 1s  best 0.3030
── curves ───────────────────────────────────────────────────────── 10 trials ──
trials   ━ value 0.4200  ━ best 0.3030
0.4980┤                                ⡀                       ⠁
      │        ⠄
      │
      │
      │                                                                        ⢀
      │                                                ⠄
      │                        ⠂
      │⠉⠉⠉⠉⠉⠉⠉⠉⠑⡄
      │         ⠈⠢⡀
      │           ⠈⢆
      │             ⠑⢄
0.3030┤               ⠣⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣁⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀
── trials ────────────────────────── 10 of 20: 7 complete, 2 pruned, 1 failed ──
  3    0.3030  complete  rule adam, width 32
  6    0.3160  complete  rule sgd, width 32
  1    0.3810  complete  rule adam, width 64
  4    0.3940  complete  rule sgd, width 64
── log ─────────────────────────────────────────────────────────────────────────
     0s  info     digits: 30.0% of the inner labels replaced
"""
ASCII = r"""
second  tunes mlp - digits                                            = finished
learns  example weights, decay per parameter - conjugate gradient
training  ######################################  2.00k/2.00k steps  elapsed 26s
-- curves ---------------------------------------------------- steps 1 to 200 --
outer loss          0.2402  #%**+==---::::......................................
hypergradient norm  0.0103  ####%%%%****++++====-----::::::.....................
-- learned ------------------------------------------ from step 1 to step 200 --
decay, mean              .:=++*%%%########################   1.5e-04 -> 0.0013
decay, largest           .:=++*%%%########################   9.4e-04 -> 0.0216
weights below 1/2        ..:--===++****%%%%%%#############    0.0046 -> 0.2946
weight of a wrong label  ##%%%**+++===----::::::..........    0.4950 -> 0.0677
-- hypergradient ----- conjugate gradient, 198 of 200 steps converged (99.0%) --
! step 58 had not converged: the Hessian is not positive definite (least
  curvature -0.0200); the residual is 0.0030 (allowed: 1.0e-04); 1 update
  skipped: not finite
norm            0.0103  #####%%%%****++++====------:::::::......................
-- trials ------------------------- 20 of 20: 15 complete, 4 pruned, 1 failed --
  3    0.3030  complete  rule adam, width 32
-- trained from scratch -------- learned +1.2 points against the start values --
network       test accuracy  test loss  parameters  multiply-adds  time
learned              97.2%*     0.1278       9.61k              -  3s
start                96.0%      0.1398       9.61k              -  3s
-- log -------------------------------------------------------------------------
     0s  info     digits: 30.0% of the inner labels replaced
"""
LOW = r"""
second  tunes mlp · digits                                     ● running  0s ago
learns  example weights, decay per parameter · conjugate gradient
tuning  ━━━━━━━━━━━━━━━━━━━━━──────────────  120/200 steps  elapsed 14s  left 8s
── learned ────────────────────────────────────────── from step 1 to step 120 ──
decay, mean     ▁▁▂▃▃▄▅▅▅▆▆▆▇▇▇▇▇▇████████████████████████   1.5e-04 → 0.0013
decay, largest  ▁▁▂▃▃▄▅▅▅▆▆▆▇▇▇▇▇▇████████████████████████   9.4e-04 → 0.0214
⋮ 2 more
── hypergradient ───── conjugate gradient, 118 of 120 steps converged (98.3%) ──
▲ step 58 had not converged: the Hessian is not positive definite (least
"""
ONE_STEP = r"""
second  tunes a network · digits                               ● running  0s ago
tuning  ───────────────────────────────────    1/200 steps  elapsed 2s  left 19s
── curves ────────────────────────────────────────────────────── steps 1 to 1 ──
  loss   ━ outer 2.164
 2.164┤
      │
      │
      │⠂
      │
      │
 2.164┤
  norm   ━ hypergradient 0.9708
0.9708┤
      │
      │
      │⠂
      │
      │
0.9708┤
── learned ──────────────────────────────────────────── from step 1 to step 1 ──
decay, mean              ▅   1.5e-04 → 1.5e-04
decay, largest           ▅   9.4e-04 → 9.4e-04
weights below 1/2        ▅    0.0046 → 0.0046
weight of a wrong label  ▅    0.4950 → 0.4950
── hypergradient ───────────────────────────────────── 1 of 1 steps converged ──
norm            0.9708  ▅
stationarity   8.7e-04  ▅
residual       1.1e-05  ▅
curvature       0.1152  ▅
── trials ───────────────────────── 20 of 20: 15 complete, 4 pruned, 1 failed ──
  3    0.3030  complete  rule adam, width 32
  6    0.3160  complete  rule sgd, width 32
 12    0.3420  complete  rule sgd, width 32
 18    0.3680  complete  rule sgd, width 32
  1    0.3810  complete  rule adam, width 64
  4    0.3940  complete  rule sgd, width 64
  7    0.4070  complete  rule adam, width 64
 13    0.4330  complete  rule adam, width 64
 16    0.4460  complete  rule sgd, width 64
 19    0.4590  complete  rule adam, width 64
── log ─────────────────────────────────────────────────────────────────────────
     0s  info     digits: 30.0% of the inner labels replaced
"""
EMPTY = r"""
second  tunes mlp · digits                                             ○ waiting
learns  example weights, decay per parameter · conjugate gradient
trials  ──────────────────────────────────────   0/20 trials  elapsed 0s  left -
"""


def test_the_classic_terminal(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    assert text(sheet(at(tuning_events, IN_STEPS, tuning_recipe), paper(80, 24, IN_STEPS))) == CLASSIC


def test_a_large_terminal(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    assert text(sheet(at(tuning_events, IN_TRAINING, tuning_recipe), paper(120, 40, IN_TRAINING))) == LARGE


def test_while_trials_run(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    assert text(sheet(at(tuning_events, 12, tuning_recipe), paper(80, 24, 12))) == TRIALS


def test_the_end_in_ascii(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, len(tuning_events), tuning_recipe)
    assert text(sheet(state, paper(80, 24, ascii_only=True, colour=False))) == ASCII
    assert ASCII.isascii()


def test_a_low_terminal_keeps_what_is_most_important(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    assert text(sheet(at(tuning_events, IN_STEPS, tuning_recipe), paper(80, 9, IN_STEPS))) == LOW


def test_one_step_of_a_recipe_that_says_nothing(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, AFTER_TRIALS + 1, {**tuning_recipe, "recipe": {}})
    assert text(sheet(state, paper(80, None, AFTER_TRIALS))) == ONE_STEP


def test_a_run_that_has_not_begun(tuning_recipe: Any) -> None:
    assert text(sheet(at([], 0, tuning_recipe), paper(80, 24))) == EMPTY


def test_a_tiny_terminal(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, IN_STEPS, tuning_recipe)
    assert text(sheet(state, paper(20, 5))) == "\ntoo small\n20x5, needs 40x9\nrunning 120/200\n"


@pytest.mark.parametrize("count", [0, 2, 12, AFTER_TRIALS + 1, IN_STEPS, IN_TRAINING, 263])
def test_it_fits_every_terminal(tuning_events: list[dict[str, Any]], tuning_recipe: Any, count: int) -> None:
    state = at(tuning_events, count, tuning_recipe)
    for width in (1, 20, 40, 41, 57, 80, 99, 200):
        for height in (1, 5, 9, 12, 18, 24, 33, 100, None):
            for ascii_only in (False, True):
                found = sheet(state, paper(width, height, count, ascii_only=ascii_only))
                assert all(line.cell_len <= width for line in found)
                assert height is None or 0 < len(found) <= height
                assert not ascii_only or all(line.plain.isascii() for line in found)


def test_more_height_never_shows_fewer_panels(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, IN_TRAINING, tuning_recipe)
    titles = [text(sheet(state, paper(80, height))).count("\n── ") for height in range(9, 60)]
    assert titles == sorted(titles) and titles[0] >= 2 and titles[-1] == 6


NOT_MEASURED = r"""
── hypergradient ───────────────────────────── 2 of 3 steps converged (66.7%) ──
▲ step 3 has not converged: the outer loss is nan
norm            0.2500  █▁▁
not measured: stationarity, residual, curvature
"""
CLIPPED = r"""
── hypergradient ───────── conjugate gradient, 1 of 2 steps converged (50.0%) ──
▲ step 2 has not converged: the Hessian is not positive definite (least
  curvature -0.5000)
norm             12.00  ▅▅  clipped to 0.5000
stationarity    0.0020  ▅▅
residual             -  ▅   not measured at step 2
curvature      -0.5000  ▅   not positive
"""
LOST = r"""
── learned ──────────────────────────────────────────── from step 0 to step 1 ──
decay                       ▅     0.2500 → nan
a name that i…r its column  ▁█     3.000 → 2.0e+06
gone                        ▅      1.000 → not told
still                       ▅▅     2.000 → 2.000
"""


def unmeasured() -> RunState:
    steps = [
        {"kind": "step", "step": n, "outer_gradient_norm": 0.5 / n, "converged": True, "learned": {}} for n in (1, 2)
    ]
    steps[1] |= {"stationarity_is": "nan", "residual": None, "outer_loss": None, "outer_loss_is": "nan"}
    return reduce(fold, [*steps, {**steps[1], "step": 3, "converged": False}], RunState("second"))


def clipped(recipe: Any) -> RunState:
    event = {"kind": "step", "learned": {}, "outer_gradient_norm": 12.0, "stationarity": 2e-3, "residual": 1e-2}
    numbers = ({"converged": True, "curvature": 0.5}, {"converged": False, "curvature": -0.5, "residual": None})
    events = [{**event, **more, "step": n} for n, more in enumerate(numbers, start=1)]
    return reduce(fold, events, described(RunState("second"), recipe, None))


def lost() -> RunState:
    values = [{"decay": 0.25, "a name that is far too long for its column": 3, "gone": 1.0, "still": 2}]
    values += [{"decay": None, "a name that is far too long for its column": 2e6, "gone": "x", "still": 2}]
    events = [{"kind": "step", "step": n, "learned": one, "learned_is": "nan"} for n, one in enumerate(values)]
    return reduce(fold, events, RunState("second"))


def test_what_was_not_measured_is_said_in_words() -> None:
    assert text(panels.hypergradient(unmeasured(), Paper(width=80))) == NOT_MEASURED


def test_a_norm_that_was_clipped_and_what_is_wrong(tuning_recipe: Any) -> None:
    assert text(panels.hypergradient(clipped(tuning_recipe), Paper(width=80))) == CLIPPED


def test_learned_numbers_that_were_lost() -> None:
    assert text(panels.learned(lost(), Paper(width=80))) == LOST


def test_learned_numbers_that_find_no_room_are_counted(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, IN_STEPS, tuning_recipe)
    found = [line.plain for line in panels.learned(state, Paper(width=60, height=3))]
    assert len(found) == 3 and found[1].startswith("decay, mean ") and found[2] == "⋮ 3 more"
    many = fold(RunState("second"), {"kind": "step", "step": 1, "learned": {f"decay {n}": n for n in range(30)}})
    assert text(panels.learned(many, Paper(width=60))).endswith("decay 22  ▅     22.00 → 22.00\n⋮ 7 more\n")


def test_the_start_is_that_of_the_result_where_there_is_one() -> None:
    state = RunState("second")
    for event in ({"kind": "step", "step": 1, "learned": {"decay": 0.5}}, {"kind": "end"}):
        state = fold(state, event)
    shown = text(panels.learned(concluded(state, {"shown_at_start": {"decay": 0.25}}), Paper(width=50)))
    assert shown == "\n── learned ─────────── from the start to step 1 ──\ndecay  ▁█    0.2500 → 0.5000\n"


def test_trials_in_short_words() -> None:
    values = {"inner.lr": 0.123456, "outer.lr": 1e-5, "network.options.widths": [32, 64], "inner.rule": "adam"}
    trial = {"kind": "trial", "trial": 1, "value": 0.5, "state": "complete", "values": values}
    shown = text(panels.trials(fold(RunState("second"), trial), Paper(width=96)))
    assert "  1    0.5000  complete  inner.lr 0.123, outer.lr 1e-05, widths 32, 64, rule adam\n" in shown
    assert "── 1 of ?: 1 complete ──" in shown


def test_a_metric_that_is_no_share(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    state = at(tuning_events, len(tuning_events), {**tuning_recipe, "metric": "R2"})
    shown = text(panels.networks(state, Paper(width=80)))
    assert "learned +0.0120 against the start values" in shown and "%" not in shown


def test_nothing_from_a_run_is_taken_for_markup_or_obeyed() -> None:
    parts = {"network": {"name": EVIL}, "learn": {EVIL: {"per": EVIL}}, "outer": {"estimator": EVIL}}
    recipe = {"kind": "tune", "metric": EVIL, "data": {"name": EVIL}, "recipe": {**parts, "inner": {"rule": EVIL}}}
    events = [
        {"kind": "begin"},
        {"kind": "trial", "trial": 1, "state": EVIL, "reason": EVIL, "values": {EVIL: EVIL}},
        {"kind": "step", "step": 1, "converged": False, "learned": {EVIL: 1.0}},
        {"kind": "train", "network": EVIL, "epoch": 1},
        {"kind": "network", "network": EVIL},
        {"kind": "end", "status": EVIL, "message": EVIL},
    ]
    state = reduce(fold, events, described(RunState(EVIL), recipe, None))
    for panel in (panels.header, panels.learned, panels.hypergradient, panels.trials, panels.networks):
        shown = text(panel(state, Paper(width=200)))
        assert "x[/b]␛[2J<U+202E>" in shown or panel is panels.networks
        assert "\x1b" not in shown and "\u202e" not in shown
    for line in told(events, recipe):
        assert line.isascii() and line.isprintable()


def test_the_reduced_panel_of_a_search() -> None:
    recipe = {"recipe": {"search": {"estimator": "first_order"}}}
    events = [{"kind": "step", "step": n, "outer_gradient_norm": 2.0**-n} for n in range(1, 9)]
    state = reduce(fold, events, described(RunState("first"), recipe, None))
    shown = "\n── hypergradient ────────────────── first order ──\nnorm            0.0039  █▇▆▅▄▃▂▁\n"
    assert text(panels.hypergradient(state, Paper(width=50))) == shown
    assert shown in text(sheet(state, Paper(width=50, height=24)))
    assert panels.hypergradient(fold(RunState("first"), {"kind": "step", "step": 1}), Paper()) == []


PLAIN = r"""
second: tune mlp on digits, learns example weights, decay per parameter with conjugate_gradient, 20 trials, 200 steps
info: digits: 30.0% of the inner labels replaced
trial  1/20  complete  value  0.3810  best  0.3810  rule adam, width 64
trial  2/20  complete  value  0.4720  best  0.3810  rule sgd, width 64
trial  3/20  complete  value  0.3030  best  0.3030  rule adam, width 32
trial  4/20  complete  value  0.3940  best  0.3030  rule sgd, width 64
trial 10/20  pruned    value  0.4200  best  0.3030  rule sgd, width 64
step   1/200       2s  outer loss  2.164  hypergradient  0.9708  decay, mean 1.5e-04  decay, largest 9.4e-04  weights below 1/2 0.0046  weight of a wrong label 0.4950
step  57/200: not converged: the Hessian is not positive definite (least curvature -0.0200); the residual is 0.0030 (allowed: 1.0e-04)
step  60/200       8s  outer loss 0.4155  hypergradient  0.1007  converged 5 of 7  skipped 1  decay, mean 0.0012  decay, largest 0.0197  weights below 1/2 0.1840  weight of a wrong label 0.2744
"""  # noqa: E501
PLAIN_END = r"""
step 190/200      21s  outer loss 0.2175  hypergradient  0.0105  converged 188 of 190  skipped 1  decay, mean 0.0013  decay, largest 0.0216  weights below 1/2 0.2921  weight of a wrong label 0.0748
step 200/200      22s  outer loss 0.2402  hypergradient  0.0103  converged 198 of 200  skipped 1  decay, mean 0.0013  decay, largest 0.0216  weights below 1/2 0.2946  weight of a wrong label 0.0677
learned: training from scratch for 1000 steps
learned: test accuracy 97.2%, test loss 0.1278, 9.61k parameters
start: training from scratch for 1000 steps
start: test accuracy 96.0%, test loss 0.1398, 9.61k parameters
learned +1.2 points against the start values
second: finished after 26s
"""  # noqa: E501


def test_plain_lines(tuning_events: list[dict[str, Any]], tuning_recipe: Any) -> None:
    some = tuning_events[:6] + tuning_events[11:12] + tuning_events[22:24] + tuning_events[77:84]
    assert told(some, tuning_recipe) == PLAIN.split("\n")[1:-1]
    every = told(tuning_events, tuning_recipe)
    assert every[-8:] == PLAIN_END.split("\n")[1:-1]
    assert sum(line.startswith("step ") for line in every) == 22, "the first, 20 that tell how far, one that failed"


def test_plain_lines_where_the_end_is_not_known() -> None:
    steps = [
        {"kind": "step", "step": n, "outer_loss": 1.0, "learned": {f"decay {k}": k for k in range(6)}}
        for n in range(50)
    ]
    assert [line.partition("  ")[0] for line in told(steps)] == ["step 0/?", "step 20/?", "step 40/?"]
    assert told(steps)[0] == (
        "step 0/?       0s  outer loss  1.000  hypergradient       -  decay 0 0.0000  decay 1 1.000  decay 2 2.000  "
        "decay 3 3.000  and 2 more"
    )
    resumed = [{"kind": "begin", "resumed": True}, {"kind": "trial", "trial": 1}, {"kind": "trial"}]
    assert told(resumed, {"kind": "tune"}) == [
        "second: resumed ? on ?, learns ? with ?",
        "trial 1/?  unknown   value       -  best       -",
    ]


def test_the_views_of_a_folder(make_tuning: Callable[..., Path]) -> None:
    folder, stream = make_tuning(), io.StringIO()
    Console(file=stream, width=100).print(show(read(folder)))
    for part in ("✓ finished", "learned", "hypergradient", "trials", "trained from scratch", "97.2%★", "log"):
        assert part in stream.getvalue()
    plain = io.StringIO()
    with PlainView(folder, plain) as view:
        assert view.wait().status == "finished"
    assert plain.getvalue().splitlines()[-8:] == PLAIN_END.split("\n")[1:-1]


RUNS = r"""
run     status               epoch      test  elapsed  search
first   ✓ finished           50/50         -      53s  nasbench201 digits drnas
second  ● running     step 120/200         -       9s  tune mlp digits unrolled
third   ✓ finished  step 2000/2000     97.2%        -  tune x[/b]␛[2J<U+202E>
fourth  ✗ killed        trial 3/20         -        -  tune ?
fifth   ○ new                    -         -        -  tune ?
"""
SUMMARIES = (
    RunSummary("first", Path(), "finished", "2025", "nasbench201", "digits", "drnas", 50, 50, elapsed=53.4),
    RunSummary(
        "second", Path(), "running", data="digits", step=120, elapsed=9.0, kind="tune", network="mlp",
        estimator="unrolled", steps=200,
    ),
    RunSummary("third", Path(), "finished", step=2000, test_score=0.9722, kind="tune", network=EVIL, steps=2000),
    RunSummary("fourth", Path(), "killed", kind="tune", trial=3, trials=20),
    RunSummary("fifth", Path(), "new", kind="tune"),
)  # fmt: skip


def test_tunings_among_the_runs() -> None:
    assert text(table(SUMMARIES, Paper(width=110))) == RUNS
