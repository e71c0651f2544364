"""What the panels find out from a state: skips and alarms, ranks and fronts, speeds, and the logarithmic scale."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from rich.text import Text

from metanas.ui import panels
from metanas.ui.panels.health import COLLAPSED, UNDECIDED, alarms, skip_share
from metanas.ui.panels.leaderboard import baseline, ranked
from metanas.ui.panels.pareto import beats
from metanas.ui.paper import Paper
from metanas.ui.points import Choice, Trained
from metanas.ui.state import BEST, RunState, described, fold

OPS = ("none", "skip_connect", "conv")
CHOICES = tuple(Choice(name, OPS) for name in "abcd")


def text(lines: list[Text]) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in lines)


def folded(events: list[dict[str, Any]], state: RunState | None = None) -> RunState:
    return reduce(fold, events, state or RunState("first", choices=CHOICES))


def epoch(number: int, labels: str, **more: Any) -> dict[str, Any]:
    """An epoch whose choices a, b, ... take operations by their first letter."""
    named = {op[0]: op for op in OPS}
    taken = {name: named[letter] for name, letter in zip("abcd", labels, strict=False)}
    return {"kind": "epoch", "epoch": number, "architecture": taken, **more}


def network(name: str, share: float | None, parameters: float | None = 100, labels: str = "cccc") -> dict[str, Any]:
    more = epoch(1, labels)["architecture"]
    return {"kind": "network", "network": name, "test_score": share, "parameters": parameters, "architecture": more}


@pytest.mark.parametrize(
    ("labels", "share", "alarmed"),
    [("cccc", 0.0, False), ("sccc", 0.25, False), ("sscc", 0.5, True), ("ssss", 1.0, True), ("s", 1.0, False)],
)
def test_the_alarm_is_at_half_of_two_choices_or_more(labels: str, share: float, alarmed: bool) -> None:
    state = folded([epoch(1, labels)])
    assert skip_share(state.history[0], state.choices) == share
    assert alarms(state) == (
        [
            f"skip share {share:.2f}: the search may be collapsing to skip connections; derivation by perturbation "
            "(controller darts_pt) may help"
        ]
        if alarmed
        else []
    )
    assert COLLAPSED == 0.5


def test_a_choice_that_cannot_skip_does_not_count_and_one_fused_with_its_edge_does() -> None:
    choices = (Choice("a", ("conv", "pool")), Choice("b", ("edge1/skip", "edge2/conv")), Choice("c", OPS))
    state = folded(
        [{"kind": "epoch", "epoch": 1, "architecture": {"a": "conv", "b": ["edge1/skip"], "c": "none"}}],
        RunState("first", choices=choices),
    )
    assert skip_share(state.history[0], choices) == 0.5


def test_what_skips_is_what_the_space_says_and_names_count_where_it_does_not() -> None:
    labels = ("wire", "skip", "conv")
    entry = {"name": "a", "candidates": list(labels)}
    told, silent = (
        described(RunState("first"), {}, {"choices": [entry | more]}).choices for more in ({"skips": ["wire"]}, {})
    )
    for taken, shares in (("wire", (1.0, 0.0)), ("skip", (0.0, 1.0)), ("conv", (0.0, 0.0))):
        state = folded([{"kind": "epoch", "epoch": 1, "architecture": {"a": taken}}], RunState("first"))
        assert tuple(skip_share(state.history[0], choices) for choices in (told, silent)) == shares
    assert skip_share(state.history[0], (Choice("a", labels, ()),)) is None


def test_a_guard_that_ended_the_search_is_told_of_until_the_epoch_is_repeated() -> None:
    state = folded([epoch(1, "cccc", epochs=9), epoch(2, "cccc", epochs=9, entropy=1.0, eigenvalue=0.25)])
    state = fold(state, {"kind": "guard", "epoch": 2, "back_to": 1, "reason": "skip share 0.50 reached 0.5"})
    assert alarms(state) == ["a guard ended the search: skip share 0.50 reached 0.5"] and state.epochs == 2
    shown = text(panels.health(state, Paper(width=80)))
    assert "1 alarm" in shown and "skip share 0.50 reached 0.5" in shown and "eigenvalue" in shown
    assert "eigenvalue" not in text(panels.health(folded([epoch(1, "cccc", entropy=1.0)]), Paper(width=80)))
    again = fold(state, epoch(2, "cccc", epochs=9))
    assert again.guard is None and again.epochs == 9 and alarms(again) == []


def test_a_guard_that_handed_the_search_over_is_told_of_to_the_end() -> None:
    state = folded([epoch(1, "cccc", epochs=4), epoch(2, "cccc", epochs=4)])
    state = fold(state, {"kind": "guard", "epoch": 2, "instead": "DartsPt", "reason": "skip share 0.50 reached 0.5"})
    said = "a guard handed the search over to DartsPt: skip share 0.50 reached 0.5"
    assert state.guard == said and state.epochs == 4
    for k in (3, 4, 4):  # the last one again, after a resume
        state = fold(state, epoch(k, "cccc", epochs=4, entropy=1.0))
    assert alarms(state) == [said], "and not of weights that are equal"
    assert fold(state, epoch(2, "cccc", epochs=4)).guard is None


def test_weights_that_are_equal_at_the_end_are_told_of_and_before_it_are_not() -> None:
    early = folded([epoch(1, "cccc", entropy=UNDECIDED, epochs=2)])
    assert alarms(early) == []
    late = fold(early, epoch(2, "cccc", entropy=UNDECIDED, epochs=2))
    assert [words.partition(":")[0] for words in alarms(late)] == ["entropy 0.9500 at the end"]
    assert alarms(fold(early, epoch(2, "cccc", entropy=UNDECIDED - 0.01, epochs=2))) == []
    assert alarms(RunState("first")) == []


def test_a_tested_architecture_comes_before_a_better_valued_one_and_is_listed_once() -> None:
    epochs = [epoch(n, labels, derived_score=n / 10) for n, labels in enumerate(("cccc", "sccc", "cccc", "ssss"), 1)]
    state = folded([*epochs, network("derived", 0.75), network("random 1", 0.875, labels="nnnn")])
    found = [(entry.network, entry.test, entry.value, entry.seen) for entry in ranked(state)]
    assert found == [
        ("random 1", 0.875, None, "-"),
        ("derived", 0.75, 0.3, "epoch 3"),
        (None, None, 0.4, "epoch 4"),
        (None, None, 0.2, "epoch 2"),
    ]
    assert baseline(state) == (0.875, 1)
    assert baseline(folded([network("random 1", None), network("random 2", 0.5)])) == (0.5, 1)
    assert baseline(RunState("first")) == (None, 0)
    assert (
        len(ranked(folded([network(f"n{n}", n / 20, labels=f"{'c' * (n % 4)}{'s' * (n // 4)}") for n in range(1, 17)])))
        <= BEST
    )


def test_the_mean_of_the_random_ones_stands_where_it_belongs() -> None:
    nets = [("derived", 0.7, "cccc"), ("random 1", 0.9, "nnnn"), ("random 2", 0.6, "ssss")]
    state = folded([network(name, share, labels=labels) for name, share, labels in nets])
    marks = [line.split()[0] for line in text(panels.leaderboard(state, Paper(width=60))).splitlines()[3:]]
    assert marks == ["1", "┄┄┄┄", "2", "3"]
    lowest = folded([network("random 1", 0.5), network("derived", 0.75, labels="ssss")])
    assert "mean of 1 random" in panels.leaderboard(lowest, Paper(width=60))[-1].plain


def test_values_are_ranked_by_the_length_of_their_training_and_both_are_shown() -> None:
    halved = [("cccc", 0.9, 1), ("ssss", 0.8, 1), ("ssss", 0.5, 9), ("nnnn", 0.4, 9)]
    values = [
        {**epoch(1, labels), "kind": "value", "step": step, "value": value, "epochs": epochs, "best": 0.5}
        for step, (labels, value, epochs) in enumerate(halved, 1)
    ]
    rows = text(panels.leaderboard(folded(values), Paper(width=60))).splitlines()[2:]
    assert [row.split()[:6] for row in rows] == [
        ["rank", "test", "value", "epochs", "seen", "network"],
        ["1", "-", "0.5000", "9", "step", "3"],
        ["2", "-", "0.4000", "9", "step", "4"],
        ["3", "-", "0.9000", "1", "step", "1"],
    ]
    tested = text(panels.leaderboard(folded([*values, network("derived", 0.7)]), Paper(width=70))).splitlines()[3]
    assert tested.split()[:7] == ["1", "70.0%★", "0.9000", "1", "step", "1", "derived"]
    assert "value 0.5000 after 9 epochs" in panels.structure(folded(values), Paper(width=70))[0].plain
    listed = panels.networks(folded(values), Paper(width=70))
    assert [line.plain[:28].split()[1:5] for line in listed[1:3]] == [
        [v, "after", "9", "epochs"] for v in ("0.5000", "0.4000")
    ]
    assert "shorter" in text(panels.curves(folded(values), Paper(width=60)))
    assert "shorter" not in text(panels.curves(folded(values[:2]), Paper(width=60)))


def test_the_front() -> None:
    def net(share: float, parameters: float) -> Trained:
        return Trained("", None, {}, share, None, parameters, None)

    assert beats(net(0.9, 5), net(0.8, 5)) and beats(net(0.9, 4), net(0.9, 5)) and beats(net(0.9, 4), net(0.8, 5))
    assert not beats(net(0.9, 5), net(0.9, 5)) and not beats(net(0.9, 5), net(0.8, 4))
    events = [network(f"n{k}", share, size) for k, (share, size) in enumerate([(0.9, 300), (0.8, 200), (0.7, 250)])]
    assert (
        text(panels.pareto(folded(events), Paper(width=60, height=4)))
        == r"""
── accuracy against parameters ────── 2 of 3 on the front ──
a ● n0               90.0%       300
b ● n1               80.0%       200
c ○ n2               70.0%       250  b is better
"""
    )
    assert panels.pareto(folded(events[:1]), Paper()) == []
    assert panels.pareto(folded([events[0], network("x", 0.5, None), network("y", None, 3)]), Paper()) == []
    huge = folded([network("a", 1e308, 1e308), network("b", -1e308, -1e308)])
    assert len(panels.pareto(huge, Paper())) == 11


def test_speeds_are_those_between_the_first_epoch_and_the_last() -> None:
    events = [epoch(n, "", step=10 * n, elapsed=5.0 + n) for n in (1, 2, 3)]
    state = folded([{"kind": "begin", "elapsed": 0.0}, *events], RunState("first", batch_size=8))
    assert (
        text(panels.resources(state, Paper(width=50)))
        == r"""
── resources ─────────────────────────────────────
per epoch         1s  ▅▅  median of 2
per second    10 steps  80 images
time          search 8s
"""
    )
    assert panels.resources(folded([epoch(1, "", step=10, elapsed=5.0)]), Paper()) == []
    back = folded([epoch(1, "", step=10, elapsed=5.0), epoch(2, "", step=20, elapsed=5.0)])
    assert "steps" not in text(panels.resources(back, Paper())), "no time went by"


def test_memory_is_the_last_that_was_told() -> None:
    told = [epoch(1, "", memory=2e9, host_memory=1e9), epoch(2, "", memory=3e9), epoch(3, "")]
    state = folded(told)
    assert (state.memory, state.host_memory) == (3e9, 1e9)
    assert panels.resources(state, Paper())[-1].plain == "memory        device 3.00 GB  host 1.00 GB, at most"


def test_losses_on_a_logarithmic_scale_are_what_is_written_at_the_axis() -> None:
    state = folded([{"kind": "step", "step": n, "outer_loss": 10.0**-n} for n in range(4)])
    assert (
        text(panels.curves(state, Paper(width=40, log=True)))
        == r"""
── curves ────────────── log, 4 steps ──
  loss   ━ outer 0.0010
 1.000┤⠉⠒⠤⢄⡀
      │    ⠈⠑⠒⠤⣀⡀
      │         ⠈⠑⠢⠤⣀
      │              ⠉⠑⠢⢄⣀
      │                   ⠉⠒⠢⢄⡀
      │                       ⠈⠉⠒⠤⢄⡀
0.0010┤                            ⠈⠑⠒⠤⣀
"""
    )


def test_what_is_not_positive_is_no_reason_for_a_logarithmic_scale() -> None:
    values = [{"kind": "value", "step": n, "value": -1.0 - n, "best": -1.0} for n in (1, 2)]
    for events in (values, [{"kind": "step", "step": n, "outer_loss": 0.0} for n in (1, 2)]):
        plain, logged = (panels.curves(folded(events), Paper(width=60, log=log)) for log in (False, True))
        assert text(plain) == text(logged) and "log" not in text(logged)
    mixed = folded([{"kind": "step", "step": n, "outer_loss": loss} for n, loss in ((1, 1.0), (2, 0.0), (3, 0.1))])
    shown = text(panels.curves(mixed, Paper(width=60, log=True)))
    assert " 1.000┤" in shown and "0.1000┤" in shown and "log, 3 steps" in shown


def test_scores_stay_linear() -> None:
    both = [epoch(n, "", outer_loss=1 / n, outer_score=n / 4) for n in (1, 2, 3)]
    shown = text(panels.curves(folded(both), Paper(width=60, log=True)))
    assert " 75.0%┤" in shown and " 25.0%┤" in shown


def test_what_was_asked_for_is_kept_by_its_path() -> None:
    recipe = {"recipe": {"search": {"lr": 0.1, "options": {}}, "seed": 0, "logs": ["a"]}}
    asked = {"search.lr": "0.1", "search.options": "{}", "seed": "0", "logs": "[a]"}
    assert described(RunState("first"), recipe, None).recipe == asked
    assert len(described(RunState("first"), {"recipe": {str(n): n for n in range(10_000)}}, None).recipe) == 500
