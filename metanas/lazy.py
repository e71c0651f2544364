"""Names of a package that are loaded when they are first used (PEP 562): who needs little of a package loads little.

    if TYPE_CHECKING:                                   # what mypy and editors read
        from metanas.ui.text import inert as inert
    else:
        __getattr__, __dir__ = lazily(__name__, {"inert": "metanas.ui.text"})

So a search over a table takes controllers and a loop from rooms that know torch, and never imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: each name that it gives -> the module that holds it. No submodule of the package may have such a name: to
            import that would put the module in the name's place.

    `dir()` of it is its `__all__`.

    >>> find, names = lazily("metanas.ui", {"inert": "metanas.ui.text"})
    >>> find("inert").__name__, "inert" in names()
    ('inert', True)
    >>> find("inrt")
    Traceback (most recent call last):
    AttributeError: module 'metanas.ui' has no attribute 'inrt'
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted(import_module(package).__all__)

    return find, names
