"""The top of the page: what the run is, how it went, its result in one line, and the facts it can be repeated by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from metanas.ui.few_shot import plus_minus
from metanas.ui.fields import Record, as_record, string
from metanas.ui.page.markup import facts, safe, tag
from metanas.ui.panels.header import STATUSES, spaced
from metanas.ui.progress import phase
from metanas.ui.state import UNDER_WAY, RunState, age_at, status_at
from metanas.ui.units import count, duration, loss, percent, score
from metanas.ui.verdict import verdict

TONES = {"finished": "good", "failed": "bad", "killed": "bad", "interrupted": "warn", "damaged": "bad"}


def overview(state: RunState, recipe: Record, now: float | None) -> str:
    """The header element.

    Args:
        state: of the run.
        recipe: the content of recipe.json; empty where there is none.
        now: unix seconds; None: nobody asks how old the last event is.
    """
    title = tag("h1", safe(state.name), " ", _status(state, now))
    what = tag("p", safe(" · ".join(_what(state))), cls="what")
    return tag("header", title, what, _result(state), *_notices(state, now), facts(_facts(state, recipe)))


def _status(state: RunState, now: float | None) -> str:
    status = status_at(state, now)
    glyph = STATUSES.get(status, ("?", "", ""))[0]
    return tag("span", safe(f"{glyph} {status}"), cls=f"status {TONES.get(status, 'plain')}")


def _what(state: RunState) -> list[str]:
    """As the terminal's header says it."""
    parts: tuple[str | None, ...] = (state.space, state.data, state.controller)
    if state.tuning:
        parts = (f"tunes {state.tuning.network or 'a network'}", state.data, None)
    if state.few_shot:
        few_shot = state.few_shot
        parts = (f"{few_shot.learner or 'few-shot'} on {few_shot.network or 'a network'}", state.data, few_shot.task)
    return [part for part in parts if part]


def _result(state: RunState) -> str:
    """The score of what was found, large, and what it beats; what is under way where there is none."""
    first = next((net for net in state.networks if net.network == state.planned[0]), None)
    if first is None or first.test_score is None:
        return _progress(state)
    shown = plus_minus(state.few_shot.test) if state.few_shot else score(first.test_score, state.metric)
    return tag("p", tag("b", safe(shown)), safe(f" test {state.metric}"), _beside(state), cls="result")


def _beside(state: RunState) -> str:
    words = verdict(state)
    return tag("span", safe(words)) if words else ""


def _progress(state: RunState) -> str:
    now = phase(state)
    done = f"{count(float(int(now.done)))} of {count(now.total)} {now.unit}" if now.total else "not begun"
    left = f", {duration(now.seconds_left)} left" if now.seconds_left is not None and state.status in UNDER_WAY else ""
    return tag("p", tag("b", safe(now.name)), safe(f" {done}{left}"), cls="result")


def _notices(state: RunState, now: float | None) -> Iterator[str]:
    """Why it ended, whether it is still heard of, and updates that were skipped."""
    status, age = status_at(state, now), age_at(state, now)
    if state.message and state.status != "running":
        yield tag("p", safe(state.message), cls=f"notice {TONES.get(state.status, 'plain')}")
    if status in ("running", "killed") and age is not None:
        yield tag("p", safe(f"last heard of {duration(age)} before this page was written"), cls="notice warn")
    if state.guard:
        yield tag("p", safe(state.guard), cls="notice warn")
    if state.skipped:
        share = f" ({percent(state.skipped / state.step)})" if state.step else ""
        text = f"{state.skipped} update{'' if state.skipped == 1 else 's'} skipped{share}: not finite, masked"
        yield tag("p", safe(text), cls="notice warn")


def _facts(state: RunState, recipe: Record) -> list[tuple[str, object]]:
    versions = as_record(recipe.get("versions"))
    shown = ", ".join(f"{name} {version}" for name, version in list(versions.items())[:12] if name != "device")
    tuning, by_value = state.tuning, bool(state.values and not state.history)
    return [
        ("seed", state.seed),
        ("device", string(versions, "device") or state.device),
        ("host", state.host),
        ("created", _created(recipe)),
        ("last event", _moment(state.at)),
        ("time of work", duration(state.elapsed)),
        ("resumed", f"{state.resumes} times" if state.resumes > 1 else "once" if state.resumes else None),
        ("epochs", None if tuning or by_value else state.epochs),
        ("evaluations", state.budget if by_value else None),
        ("outer steps", tuning.steps if tuning else None),
        ("batch size", state.batch_size),
        ("estimator", None if by_value else spaced(state.estimator or (tuning and tuning.method) or "")),
        ("learns", ", ".join(tuning.learn) if tuning else None),
        ("training tasks", state.few_shot.training if state.few_shot else None),
        ("gradient norm", None if state.gradient_norm is None else loss(state.gradient_norm)),
        ("versions", shown),
    ]


def _created(recipe: Record) -> str | None:
    """When the run was made, as the other moments are written; as it stands where that is no time.

    >>> _created({"created": "2025-10-09T08:53:20+00:00"}), _created({"created": "today"})
    ('2025-10-09 08:53:20 UTC', 'today')
    """
    text = string(recipe, "created")
    try:
        return _moment(datetime.fromisoformat(text or "").timestamp()) or text
    except (ValueError, OverflowError, OSError):
        return text


def _moment(at: float | None) -> str | None:
    """
    >>> _moment(1_760_000_000.0), _moment(1e300), _moment(None)
    ('2025-10-09 08:53:20 UTC', None, None)
    """
    if at is None:
        return None
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return None
