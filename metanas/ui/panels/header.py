"""What is running and how far it is: name, status, heartbeat, progress with the time left, and alarms."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.text import Text

from metanas.ui.few_shot import FewShot
from metanas.ui.paper import ACCENT, BAD, DIM, GOOD, OUTER, WARN, Paper
from metanas.ui.progress import Phase, phase
from metanas.ui.state import QUIET, UNDER_WAY, RunState, age_at, status_at
from metanas.ui.tuning import Tuning
from metanas.ui.units import count, duration, loss, percent

SKIPPED = 0.05  # share of masked updates above which the count is an alarm

STATUSES = {  # glyph, ASCII, style
    "waiting": ("○", "o", DIM),
    "new": ("○", "o", DIM),  # of a summary: it has no events
    "running": ("●", "*", f"bold {ACCENT}"),
    "finished": ("✓", "=", f"bold {GOOD}"),
    "interrupted": ("■", "#", f"bold {WARN}"),
    "failed": ("✗", "!", f"bold {BAD}"),
    "killed": ("✗", "!", f"bold {BAD}"),  # it never wrote its end
    "damaged": ("✗", "!", f"bold {BAD}"),
}


def header(state: RunState, paper: Paper) -> list[Text]:
    """Two lines, and one more for each of: what a tuning or a few-shot run learns, why it ended, updates of a search
    that were skipped.

    >>> from metanas.ui.state import fold
    >>> state = fold(RunState("first", space="nasbench201"), {"kind": "begin", "at": 9.0, "elapsed": 0.0})
    >>> for line in header(state, Paper(width=50, now=10.0)): print(line.plain.rstrip())
    first  nasbench201               ● running  1s ago
    search  no epoch yet  elapsed 0s
    """
    lines = [_title(state, paper)]
    if state.few_shot:
        lines.append(_task(state.few_shot, paper))
    elif state.tuning and (state.tuning.learn or state.tuning.method):
        lines.append(_learns(state.tuning, paper))
    lines.append(_progress(state, paper))
    if state.message and state.status != "running":
        lines.append(Text(paper.safe(state.message), style=STATUSES.get(state.status, ("", "", WARN))[2]))
    if state.skipped and not state.tuning:  # the panel of the hypergradient tells of them
        lines.append(_skipped(state, paper))
    return paper.rows(lines)


def _title(state: RunState, paper: Paper) -> Text:
    status = _status(state, paper)
    room = max(paper.width - status.cell_len - 2, 0)
    dot = paper.glyph(" · ", " - ")
    what = (state.space, state.data, state.controller)
    if state.tuning:
        what = (f"tunes {state.tuning.network or 'a network'}", state.data, None)
    if state.few_shot:
        what = (f"{state.few_shot.learner or 'few-shot'} on {state.few_shot.network or 'a network'}", state.data, None)
    about = dot.join(paper.safe(part) for part in what if part)
    left = Text(paper.safe(state.name), style="bold").append(f"  {about}", style="not bold")
    left.truncate(room)
    left.pad_right(room + 2 - left.cell_len)
    return left.append_text(status)


def _status(state: RunState, paper: Paper) -> Text:
    status, age = status_at(state, paper.now), age_at(state, paper.now)
    fine, plain, style = STATUSES.get(status, ("?", "?", WARN))
    shown = Text(f"{paper.glyph(fine, plain)} {paper.safe(status)}", style=style)
    if status == "running" and state.writer == "elsewhere" and state.host:
        shown.append(f" on {paper.safe(state.host)}")
    if age is not None and status in ("running", "killed"):
        shown.append(f"  {duration(age)} ago", style=WARN if age >= QUIET else f"not bold {DIM}")
    return shown


def _task(few_shot: FewShot, paper: Paper) -> Text:
    """What is learned to do, whether with a structure, and from which tasks."""
    structure = few_shot.structure if few_shot.structure not in (None, "fixed") else None
    parts = (structure and f"structure {spaced(structure)}", few_shot.training)
    return _with_details(Text("learns  ", style="bold").append(few_shot.task, style="not bold"), parts, paper)


def _learns(tuning: Tuning, paper: Paper) -> Text:
    """What is learned, by which estimator, through which training."""
    line = Text("learns  ", style="bold").append(paper.safe(", ".join(tuning.learn) or "-"), style="not bold")
    steps, rule = tuning.used("inner.steps", tuning.inner_steps), tuning.used("inner.rule", tuning.rule)
    training = f"{rule or ''}{f' {steps} steps' if steps else ''}{', restarts' if tuning.restart else ''}".strip()
    return _with_details(line, (tuning.method and spaced(tuning.method), training), paper)


def _with_details(line: Text, parts: Iterable[str | None], paper: Paper) -> Text:
    """The line with those parts that it has room for."""
    dot = paper.glyph(" · ", " - ")
    for part in parts:
        more = f"{dot}{paper.safe(part)}" if part else ""
        if line.cell_len + cell_len(more) <= paper.width:  # a whole name or none
            line.append(more, style=f"not bold {DIM}")
    return line


def spaced(name: str) -> str:
    """A name of a recipe as words.

    >>> spaced("conjugate_gradient")
    'conjugate gradient'
    """
    return name.replace("_", " ")


def _progress(state: RunState, paper: Paper) -> Text:
    now = phase(state)
    if not now.total:
        far = "no epoch yet" if not state.tuning else f"{int(now.done)} {now.unit}" if now.done else "no step yet"
        return Text(f"{now.name}  {far}  elapsed {duration(state.elapsed)}", style=DIM)
    parts = [_done(now), f"elapsed {duration(state.elapsed)}"]
    if status_at(state, paper.now) in UNDER_WAY:
        parts.append(f"left {duration(now.seconds_left)}")
    if state.step is not None and now.unit == "epochs" and now.name == "search":
        parts.insert(1, f"step {state.step}")
    if state.tuning and state.tuning.winner and now.name == "trials":
        parts.append(f"best {loss(state.tuning.winner.value)}")
    tail = "  ".join(parts)
    label = Text(f"{now.name}  ", style="bold")
    room = max(paper.width - label.cell_len - len(tail) - 2, 0)
    full = state.status == "finished"
    return label.append_text(progress_bar(1.0 if full else now.share, min(room, 60), paper)).append(f"  {tail}")


def _done(now: Phase) -> str:
    total = count(now.total)
    done = count(float(int(now.done)))
    return f"{done.rjust(len(total))}/{total} {now.unit}"


def progress_bar(share: float, width: int, paper: Paper) -> Text:
    """A bar of exactly `width` cells.

    >>> progress_bar(0.5, 8, Paper()).plain, progress_bar(0.5, 8, Paper(ascii_only=True)).plain
    ('━━━━────', '####----')
    """
    full = int(min(max(share, 0.0), 1.0) * width)
    bar = Text(paper.glyph("━", "#") * full, style=GOOD if share >= 1 else ACCENT)
    return bar.append(paper.glyph("─", "-") * (width - full), style=DIM)


def _skipped(state: RunState, paper: Paper) -> Text:
    share = state.skipped / state.step if state.step else 1.0
    text = f"{state.skipped} updates skipped ({percent(share)}): not finite, masked"
    if state.gradient_norm is not None:
        text += f"; gradient norm {loss(state.gradient_norm)}"
    return Text(f"{paper.glyph('▲', '!')} {text}", style=f"bold {BAD}" if share > SKIPPED else OUTER)
