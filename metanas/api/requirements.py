"""The version of torch, looked at once where it is first needed: the public functions.

torch 2.11 is the oldest that loads weights safely in every way that metanas does; pip keeps the upper bound.
"""

from __future__ import annotations

from importlib import import_module

from metanas.errors import MissingDependencyError

OLDEST = (2, 11)
INSTALL = 'pip install "torch>=2.11,<2.14"'


def require_torch() -> None:
    """Raises MissingDependencyError, with the pip command, where torch is missing or too old."""
    try:
        version = str(import_module("torch").__version__)
    except ImportError as error:
        raise MissingDependencyError(f"metanas needs torch ({error}): {INSTALL}") from error
    if is_too_old(version):
        oldest = ".".join(map(str, OLDEST))
        raise MissingDependencyError(f"metanas needs torch >= {oldest}, found {version}: {INSTALL}")


def is_too_old(version: str) -> bool:
    """Whether torch of this version is below the oldest that will do; a version that cannot be read is not.

    >>> is_too_old("2.10.1+cu128"), is_too_old("2.11.0"), is_too_old("3.0.0a0"), is_too_old("unknown")
    (True, False, False, False)
    """
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) < OLDEST
