"""The whole sheet as exact text in three terminals, and that it fits into every other."""

from __future__ import annotations

import io
from functools import reduce
from typing import Any

import pytest
from rich.console import Console

from metanas.ui.paper import Paper
from metanas.ui.screen import PLACES, SMALLEST, Sheet, sheet
from metanas.ui.state import RunState, described, fold

NOW = 1_760_000_050.0
WHILE_TRAINING = 997  # events
LOW = r"""
first  nasbench201 · digits · drnas                            ● running  0s ago
training  ━━━━━━━━━━━━━━━━━━──────────────   92/160 epochs  elapsed 49s  left 3s
▲ 2 updates skipped (0.2%): not finite, masked; gradient norm 0.5155
── structure ─────────────────── entropy ████▇▇▇▇▆▆▆▆▅▅▅▅ 0.5658   gap 0.0262 ──
            none skip_…nect nor_c…_1x1 nor_c…_3x3 avg_p…_3x3  derived
1<-0        0.11       0.11       0.11      ▸0.56       0.11  nor_conv_3x3
2<-0        0.09       0.09      ▸0.64       0.09       0.09  nor_conv_1x1
2<-1        0.07       0.07       0.07      ▸0.72       0.07  nor_conv_3x3
⋮ 3 more rows
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1…
"""


@pytest.fixture(scope="module")
def state(events: list[dict[str, Any]], documents: tuple[object, object]) -> RunState:
    return reduce(fold, events[:WHILE_TRAINING], described(RunState("first"), *documents))


def text(state: RunState, paper: Paper) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in sheet(state, paper))


def printed(state: RunState, *, encoding: str, width: int, height: int, **console: Any) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    Console(file=stream, width=width, height=height, **console).print(Sheet(state, now=NOW, height=height))
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_a_large_terminal(state: RunState) -> None:
    assert (
        text(state, Paper(width=120, height=40, now=NOW))
        == r"""
first  nasbench201 · digits · drnas                                                                    ● running  0s ago
training  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━──────────────────────────   92/160 epochs  elapsed 49s  left 3s
▲ 2 updates skipped (0.2%): not finite, masked; gradient norm 0.5155
── curves ──────────────────────────────────────────────────────────────────────────────────────────── epochs 1 to 50 ──
  loss   ━ inner 0.1166  ━ outer 0.3003                      accuracy   ━ inner 95.7%  ━ outer 92.5%
 2.143┤⢳⡀                                                     97.4%┤                              ⢀⣀⣀⣀⡠⠤⠤⠤⣒⣒⠒⠒⣒⣒⣒⣉⣒⣒⣉⠭⢖
      │ ⢻⡄                                                         │                     ⢀⣀⣀⡠⢤⡔⡲⢖⡩⠓⠒⠤⠒⠒⠊⠉⠉  ⠉⠉
      │  ⠙⣆                                                        │                 ⣀⢤⡒⣉⠥⠔⠉⠉⠁⠈
      │   ⠘⢵⡀                                                      │              ⡠⡲⠭⠊⠁⠈
      │     ⠹⡒⢄                                                    │           ⡠⡖⠋⠉
      │      ⠈⠢⡣⡀                                                  │        ⡠⢲⠛⠉
      │        ⠈⠪⡒⠢⡀                                               │      ⢀⣜⠔⠁
      │          ⠈⠑⢌⡢⢄⣀                                            │     ⣔⠝
      │             ⠈⠑⠢⣉⠒⠤⣀⡀                                       │   ⣠⠞⠁
      │                 ⠉⠑⠢⠬⣉⠑⠒⠤⠤⣀⣀⣀⣀                              │ ⢀⢔⠏
      │                      ⠉⠉⠑⠒⠤⠤⢄⣀⠉⠒⠒⠤⠤⠔⠒⠢⢄⡠⠤⠤⠤⠤⣀⣀⡀⢀⣀⣀⣀         │⢀⡾⠁
0.1166┤                              ⠉⠉⠉⠉⠒⠒⠒⠒⠒⠒⠢⠤⠤⠤⠤⠤⠬⠥⢄⠤⣀    17.5%┤⡞
── structure ─────────────────────────────────────────────────────────── entropy ████▇▇▇▇▆▆▆▆▅▅▅▅ 0.5658   gap 0.0262 ──
              none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3  derived
1<-0          0.11         0.11         0.11        ▸0.56         0.11  nor_conv_3x3
2<-0          0.09         0.09        ▸0.64         0.09         0.09  nor_conv_1x1
2<-1          0.07         0.07         0.07        ▸0.72         0.07  nor_conv_3x3
3<-0          0.05        ▸0.79         0.05         0.05         0.05  skip_connect
3<-1          0.04         0.04         0.04        ▸0.83         0.04  nor_conv_3x3
3<-2          0.03         0.03         0.03        ▸0.88         0.03  nor_conv_3x3
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
── derived architectures ───────────────────────────────────────────────────────────── 2 changes, the last at epoch 9 ──
    9  kept 42   1<-0 → nor_conv_3x3, 2<-0 → nor_conv_1x1  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_conne…
    5  kept 4    3<-1 → nor_conv_3x3                       |skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor…
    1  kept 4    first                                     |skip_connect~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|avg…
── trained from scratch ──────────────────────────────────────────────────────── derived +1.3 points against random 1 ──
network       test accuracy  test loss  parameters  multiply-adds  architecture
derived              98.4%★     0.0600       73.4k          2.31M  |nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|sk…
random 1             97.1%      0.1000       64.4k          2.00M  |nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|avg_pool_3…
random 2      ━━━━━━──────────────  12/40 epochs  loss 0.3277  training accuracy 91.8%
random 3     waiting
── log ──────────────────────────────────────────────────────────────────────────────────────────────────── 1 warning ──
     0s  info     NAS-Bench-201 on digits: 15625 architectures
     7s  warning  2 updates at step 121 were not finite and were skipped
"""
    )


def test_the_classic_terminal(state: RunState) -> None:
    assert (
        text(state, Paper(width=80, height=24, now=NOW))
        == r"""
first  nasbench201 · digits · drnas                            ● running  0s ago
training  ━━━━━━━━━━━━━━━━━━──────────────   92/160 epochs  elapsed 49s  left 3s
▲ 2 updates skipped (0.2%): not finite, masked; gradient norm 0.5155
── curves ──────────────────────────────────────────────────── epochs 1 to 50 ──
outer loss       0.3003  ██▇▇▆▆▅▅▅▄▄▄▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
outer accuracy    92.5%  ▁▁▂▂▃▃▄▄▄▅▅▅▆▆▆▆▆▇▇▇▇▇▇▇▇█▇███████████████████████
── structure ─────────────────── entropy ████▇▇▇▇▆▆▆▆▅▅▅▅ 0.5658   gap 0.0262 ──
            none skip_…nect nor_c…_1x1 nor_c…_3x3 avg_p…_3x3  derived
1<-0        0.11       0.11       0.11      ▸0.56       0.11  nor_conv_3x3
2<-0        0.09       0.09      ▸0.64       0.09       0.09  nor_conv_1x1
2<-1        0.07       0.07       0.07      ▸0.72       0.07  nor_conv_3x3
3<-0        0.05      ▸0.79       0.05       0.05       0.05  skip_connect
3<-1        0.04       0.04       0.04      ▸0.83       0.04  nor_conv_3x3
3<-2        0.03       0.03       0.03      ▸0.88       0.03  nor_conv_3x3
|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1…
── derived architectures ───────────────────── 2 changes, the last at epoch 9 ──
    9  kept 42   1<-0 → nor_conv_3x3, 2<-0 → nor_conv_1x1
── trained from scratch ──────────────── derived +1.3 points against random 1 ──
network       test accuracy  test loss  parameters  multiply-adds  architecture
derived              98.4%★     0.0600       73.4k          2.31M  |nor_conv_3x…
random 1             97.1%      0.1000       64.4k          2.00M  |nor_conv_3x…
random 2      ━━━━━━──────────────  12/40 epochs  loss 0.3277  training accurac…
── log ──────────────────────────────────────────────────────────── 1 warning ──
     7s  warning  2 updates at step 121 were not finite and were skipped
"""
    )


def test_a_low_terminal_keeps_what_is_most_important(state: RunState) -> None:
    assert text(state, Paper(width=80, height=10, now=NOW)) == LOW


def test_a_tiny_terminal(state: RunState) -> None:
    assert (
        text(state, Paper(width=20, height=5, now=NOW))
        == r"""
too small
20x5, needs 40x9
running 92/160
"""
    )


def test_a_run_that_has_not_begun() -> None:
    assert (
        text(RunState("first"), Paper(width=80, height=24, now=NOW))
        == r"""
first                                                                  ○ waiting
search  no epoch yet  elapsed 0s
"""
    )


@pytest.mark.parametrize("width", [1, 5, 20, 39, 40, 41, 57, 80, 99, 200])
@pytest.mark.parametrize("height", [1, 3, 5, 7, 8, 9, 12, 18, 24, 33, 100, None])
def test_it_fits_every_terminal(state: RunState, width: int, height: int | None) -> None:
    for ascii_only, colour in ((False, True), (True, False)):
        lines = sheet(state, Paper(width=width, height=height, now=NOW, ascii_only=ascii_only, colour=colour))
        assert all(line.cell_len <= width for line in lines)
        assert height is None or 0 < len(lines) <= height


@pytest.mark.parametrize("width", [40, 80, 120])
def test_extra_panels_get_only_what_the_others_leave(
    state: RunState, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them, every line of the others is where it was; with 80x24 there is no room for one."""
    heights = range(SMALLEST[1], 90)
    drawn = {height: text(state, Paper(width=width, height=height, now=NOW)).splitlines() for height in heights}
    assert "── health ──" in "\n".join(drawn[89]) and "── health ──" not in "\n".join(drawn[24])
    monkeypatch.setattr("metanas.ui.screen.PLACES", tuple(place for place in PLACES if not place.extra))
    for height in heights:
        others = text(state, Paper(width=width, height=height, now=NOW)).splitlines()
        left = iter(drawn[height])
        assert all(line in left for line in others), f"{height}: {others}"


def test_more_height_never_shows_fewer_panels(state: RunState) -> None:
    titles = [text(state, Paper(width=80, height=height)).count("\n── ") for height in range(9, 50)]
    assert titles == sorted(titles) and titles[0] >= 1 and titles[-1] == 5


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_stream_that_cannot_carry_the_glyphs_gets_ascii(state: RunState, encoding: str) -> None:
    for name in ("first", "caf\xe9 \u732b \x1b[31m"):
        shown = printed(fold(RunState(name), {"kind": "begin"}), encoding=encoding, width=80, height=24)
        assert shown.isascii() and "running" in shown
    assert printed(state, encoding=encoding, width=80, height=24).isascii()


def test_colours_only_where_they_are_wanted(state: RunState, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = {"encoding": "utf-8", "width": 80, "height": 24, "force_terminal": True, "color_system": "truecolor"}
    assert "48;2;" in printed(state, **terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    shown = printed(state, **terminal)
    assert "38;2;" not in shown and "48;2;" not in shown
    assert "▸0.88 █" in shown, "the shade is told by a bar instead"


def test_printed_to_a_pipe_it_is_the_text_alone(state: RunState) -> None:
    shown = printed(state, encoding="utf-8", width=80, height=24)
    assert "\x1b" not in shown
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines == text(state, Paper(width=80, height=24, now=NOW, colour=False))[1:].splitlines()
