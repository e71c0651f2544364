"""Plain lines: exact, ASCII, without rich, and of no harm to the run they tell of."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metanas.ui.plain import PlainView, lines
from metanas.ui.state import RunState, described, fold

BEGINNING = r"""
first: search nasbench201 on digits with drnas, 50 epochs
info: NAS-Bench-201 on digits: 15625 architectures
epoch  1/50       0s  inner loss  2.121  19.4%  outer loss  2.143  17.5%  entropy 0.9494  |skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|
epoch  2/50       1s  inner loss  1.961  26.1%  outer loss  2.027  24.6%  entropy 0.9501
epoch  3/50       2s  inner loss  1.798  32.7%  outer loss  1.887  28.9%  entropy 0.9491
epoch  4/50       3s  inner loss  1.684  36.8%  outer loss  1.725  32.9%  entropy 0.9467
epoch  5/50       4s  inner loss  1.530  42.3%  outer loss  1.606  39.9%  entropy 0.9428  changed 1  |skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
epoch  6/50       5s  inner loss  1.436  45.8%  outer loss  1.484  43.5%  entropy 0.9376
epoch  7/50       6s  inner loss  1.319  51.1%  outer loss  1.414  47.4%  entropy 0.9311
epoch  8/50       7s  inner loss  1.236  54.1%  outer loss  1.343  51.7%  entropy 0.9236  skipped 2
warning: 2 updates at step 121 were not finite and were skipped
epoch  9/50       8s  inner loss  1.131  58.6%  outer loss  1.235  53.4%  entropy 0.9152  skipped 2  changed 2  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
"""  # noqa: E501
END = r"""
epoch 50/50      45s  inner loss 0.1166  95.7%  outer loss 0.3003  92.5%  entropy 0.5658  skipped 2  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
derived: training for 40 epochs
derived: test accuracy 98.4%, test loss 0.0600, 73.4k parameters, 2.31M multiply-adds  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
random 1: training for 40 epochs
random 1: test accuracy 97.1%, test loss 0.1000, 64.4k parameters, 2.00M multiply-adds  |nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|
random 2: training for 40 epochs
random 2: test accuracy 95.6%, test loss 0.1400, 55.4k parameters, 1.69M multiply-adds  |nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|
random 3: training for 40 epochs
random 3: test accuracy 94.3%, test loss 0.1800, 46.4k parameters, 1.38M multiply-adds  |nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|nor_conv_3x3~2|
first: finished after 53s
"""  # noqa: E501


def told(events: list[dict[str, Any]], documents: tuple[object, object]) -> list[str]:
    state, found = described(RunState("first"), *documents), []
    for event in events:
        state = fold(state, event)
        found += lines(event, state)
    return found


def test_a_run_in_plain_lines(events: list[dict[str, Any]], documents: tuple[object, object]) -> None:
    found = told(events, documents)
    assert found[:12] == BEGINNING.split("\n")[1:-1]
    assert found[-10:] == END.split("\n")[1:-1]


def test_a_run_of_values_and_an_end_with_a_reason() -> None:
    events = [
        {"kind": "begin", "resumed": True},
        {"kind": "value", "step": 3, "budget": 30, "value": 0.5, "best": 0.75, "key": "|a~0|"},
        {
            "kind": "value",
            "step": 4,
            "budget": 30,
            "value": None,
            "value_is": "nan",
            "best": 0.75,
            "key": None,
            "epochs": 1,
        },
        {"kind": "value", "step": 5, "budget": 30, "value": 0.5, "best": 0.75, "key": "|a~0|", "repeated": True},
        {"kind": "log", "level": "error", "message": "disk\x1b[31m full\u202e"},
        {"kind": "end", "status": "failed", "elapsed": 61.0, "message": "No space left on device"},
        {"kind": "never heard of"},
    ]
    assert told(events, (None, None)) == [
        "first: resumed ? on ? with ?",
        "3/30  value 0.5000  best 0.7500  |a~0|",
        "4/30  value nan after 1 epoch  best 0.7500",
        "5/30  value 0.5000 as before  best 0.7500  |a~0|",
        "error: disk^[[31m full\\u202e",
        "first: failed after 1m 01s: No space left on device",
    ]


def test_a_derivation_says_that_it_begins_and_how_far_it_is() -> None:
    found = told([{"kind": "derivation", "done": n, "total": 25, "elapsed": 2.0 * n} for n in range(26)], (None, None))
    assert found[:3] == [
        "derivation: 25 evaluations of the supernet",
        "evaluation  3/25       6s",
        "evaluation  5/25      10s",
    ]
    assert len(found) == 11 and found[-1] == "evaluation 25/25      50s"


def test_an_accuracy_that_was_not_measured_is_left_out() -> None:
    events = [{"kind": "epoch", "epoch": 1, "epochs": 9, "inner_loss": 2.0, "outer_loss": 2.5, "outer_accuracy": 0.25}]
    assert told(events, (None, None)) == ["epoch 1/9       0s  inner loss  2.000  outer loss  2.500  25.0%"]


def test_the_view_tells_all_that_was_written_before_its_end(make_run: Callable[..., Path]) -> None:
    stream = io.StringIO()
    with PlainView(make_run(), stream) as view:
        assert view.wait().status == "finished"
    found = stream.getvalue().splitlines()
    assert found[:12] == BEGINNING.split("\n")[1:-1] and found[-10:] == END.split("\n")[1:-1]


def test_what_is_written_while_it_runs_is_told_once(tmp_path: Path) -> None:
    stream = io.StringIO()
    with PlainView(tmp_path, stream), open(tmp_path / "events.jsonl", "w") as log:
        log.write('{"kind": "log", "message": "one"}\n{"kind": "log", "message": "t')
        log.flush()
        until = time.monotonic() + 10
        while not stream.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        assert stream.getvalue() == "info: one\n"
        log.write('wo"}\n')
    assert stream.getvalue() == "info: one\ninfo: two\n"


def test_nobody_reads_the_lines(make_run: Callable[..., Path]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        with PlainView(make_run(), stream) as view:
            view.wait()


def test_plain_lines_need_neither_rich_nor_torch() -> None:
    code = "import sys, metanas.ui.plain; print([name for name in ('rich', 'torch', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
