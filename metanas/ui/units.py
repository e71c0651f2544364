"""Numbers as people read them: durations, counts, shares and losses, of fixed and small width.

All of them take None (not measured) and show it as `-`; none of them raises on nan or inf.
"""

from __future__ import annotations

import math

MISSING = "-"
ACCURACY = "accuracy"
THOUSANDS = ("", "k", "M", "G", "T")


def duration(seconds: float | None) -> str:
    """Two units at most, of which the second is padded so that columns stay still.

    >>> [duration(s) for s in (0.42, 41, 187, 7500, 273600, None)]
    ['0s', '41s', '3m 07s', '2h 05m', '3d 04h', '-']
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def seconds(time: float | None) -> str:
    """A short time with its fractions, a long one as a duration.

    >>> [seconds(s) for s in (0.0042, 0.0999999, 0.305, 4.25, 41.3, 187, None)]
    ['4.2ms', '100ms', '0.305s', '4.25s', '41.3s', '3m 07s', '-']
    """
    if time is None or not math.isfinite(time):
        return MISSING
    if abs(time) < 0.1:
        return f"{1000 * time:.3g}ms"
    return f"{time:.3g}s" if time < 60 else duration(time)


def size(number: float | None) -> str:
    """Bytes in decimal units.

    >>> [size(b) for b in (512, 73_412, 2.31e9, None)]
    ['512 B', '73.4 kB', '2.31 GB', '-']
    """
    shown = count(number)
    if shown == MISSING:
        return MISSING
    return f"{shown[:-1]} {shown[-1]}B" if shown[-1].isalpha() else f"{shown} B"


def count(number: float | None) -> str:
    """A count with three digits and its thousands.

    >>> [count(n) for n in (999, 73_412, 2_310_000, 1.2e9, None, 1e300)]
    ['999', '73.4k', '2.31M', '1.20G', '-', '1.00e+300']
    """
    if number is None or not math.isfinite(number):
        return MISSING
    if abs(number) >= 999.5e12:
        return f"{number:.2e}"
    steps = 0
    while abs(number) >= 999.5 and steps < len(THOUSANDS) - 1:
        number /= 1000
        steps += 1
    digits = 0 if not steps or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f}{THOUSANDS[steps]}"


def percent(share: float | None) -> str:
    """A share of one as a percentage.

    >>> percent(0.9722), percent(1), percent(None), percent(math.nan)
    ('97.2%', '100.0%', '-', 'nan')
    """
    if share is None:
        return MISSING
    return f"{100 * share:.1f}%" if math.isfinite(share) else str(share)


def score(value: float | None, metric: str) -> str:
    """A value of a metric: an accuracy as a percentage, anything else as a number.

    >>> score(0.9722, "accuracy"), score(0.4821, "R2")
    ('97.2%', '0.4821')
    """
    return percent(value) if metric == ACCURACY else loss(value)


def lasting(epochs: int | None) -> str:
    """How long what a value is from was trained; "" where all are trained alike.

    >>> lasting(1), lasting(9), lasting(None)
    (' after 1 epoch', ' after 9 epochs', '')
    """
    return "" if epochs is None else f" after {epochs} epoch{'s' * (epochs != 1)}"


def loss(value: float | None) -> str:
    """A loss with four digits; what is not finite is said, not hidden.

    >>> loss(2.302585), loss(0.04512), loss(1234.5), loss(1e-7), loss(1e300), loss(math.nan), loss(None)
    ('2.303', '0.0451', '1234', '1.0e-07', '1.0e+300', 'nan', '-')
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value and not 1e-3 <= size < 1e5:
        return f"{value:.1e}"
    if size < 1:
        return f"{value:.4f}"
    return f"{value:#.4g}" if size < 1000 else f"{value:.0f}"
