"""How the application looks: dark, light, high contrast, and plain without any colour.

Panels name colours of Okabe and Ito that are bright, for a dark ground; on a light one, and for more contrast, each
stands for a darker or a lighter one of the same hue. Shades that bring their own ground stay as they are. Plain takes
the terminal's own two colours, and is what NO_COLOR gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rich.segment import Segment
from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

from metanas.ui.paper import ACCENT, BAD, GOOD, WARN

SCROLLBARS = (
    "scrollbar",
    "scrollbar-hover",
    "scrollbar-active",
    "scrollbar-background",
    "scrollbar-background-hover",
    "scrollbar-background-active",
    "scrollbar-corner-color",
)


@dataclass(frozen=True)
class Look:
    """A theme of textual's, which colours stand for those of the panels, and whether faint text may be faint."""

    name: str
    theme: Theme
    instead: Mapping[str, str] = field(default_factory=dict)
    colour: bool = True
    faint: bool = True

    def painted(self, segments: Iterable[Segment]) -> list[Segment]:
        """The segments in the colours of this look."""
        if self.faint and not self.instead:
            return list(segments)
        return [Segment(text, style and self._painted(style), control) for text, style, control in segments]

    def _painted(self, style: Style) -> Style:
        if style.dim and not self.faint:
            style += Style(dim=False)
        if style.color is None or style.color.triplet is None or style.bgcolor is not None:
            return style
        instead = self.instead.get(style.color.triplet.hex)
        return style + Style(color=instead) if instead else style


def _theme(name: str, ground: str, ink: str, surface: str, panel: str, accent: str, *, dark: bool) -> Theme:
    return Theme(
        name=name,
        primary=accent,
        accent=accent,
        foreground=ink,
        background=ground,
        surface=surface,
        panel=panel,
        dark=dark,
        variables={
            **dict.fromkeys(SCROLLBARS, ground),
            "cursor-ground": panel,
            "scrollbar": panel,
            "scrollbar-hover": accent,
            "scrollbar-active": accent,
        },
    )


DEFAULT = "ansi_default"  # the terminal's own
PLAIN = replace(
    BUILTIN_THEMES["ansi-dark"],
    name="plain",
    primary=DEFAULT,
    secondary=DEFAULT,
    warning=DEFAULT,
    error=DEFAULT,
    success=DEFAULT,
    accent=DEFAULT,
    variables={
        **BUILTIN_THEMES["ansi-dark"].variables,
        **dict.fromkeys(("cursor-ground", *SCROLLBARS), DEFAULT),
    },
)

LOOKS = (
    Look("dark", _theme("dark", "#11151a", "#d5dbe1", "#1a2027", "#232b34", ACCENT, dark=True)),
    Look(
        "light",
        _theme("light", "#fbfbf9", "#1c2126", "#f0f1ee", "#e2e5e4", "#0072b2", dark=False),
        {ACCENT: "#0072b2", WARN: "#8f6200", GOOD: "#00755a", BAD: "#b84a00"},
    ),
    Look(
        "high contrast",
        _theme("high-contrast", "#000000", "#ffffff", "#000000", "#3a3a3a", "#8fd8ff", dark=True),
        {ACCENT: "#8fd8ff", WARN: "#ffbf40", GOOD: "#3cf0ba", BAD: "#ff8a4d"},
        faint=False,
    ),
    Look("plain", PLAIN, colour=False),
)
