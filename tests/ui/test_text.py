"""Text from a run cannot command a terminal, nor rich."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from metanas.ui.text import inert, shorten


@pytest.mark.parametrize(
    ("text", "shown", "ascii_shown"),
    [
        ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m", "^[[31mred^[[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇", "^[]0;title^G"),
        ("a\nb\tc\x7f", "a␊b␉c␡", "a^Jb^Ic^?"),
        ("\x9b2J", "<U+009B>2J", "\\x9b2J"),
        ("\u202eevil\u2066", "<U+202E>evil<U+2066>", "\\u202eevil\\u2066"),
        ("zero\u200bwidth", "zero<U+200B>width", "zero\\u200bwidth"),
        ("line\u2028separator", "line<U+2028>separator", "line\\u2028separator"),
        ("lone\ud800surrogate", "lone<U+D800>surrogate", "lone\\ud800surrogate"),
        ("café 猫", "café 猫", "caf\\xe9 \\u732b"),
        ("x[/b][bold]", "x[/b][bold]", "x[/b][bold]"),
        (7, "7", "7"),
    ],
)
def test_inert_shows_what_a_terminal_would_obey(text: object, shown: str, ascii_shown: str) -> None:
    assert inert(text) == shown
    assert inert(text, ascii_only=True) == ascii_shown


@given(st.text())
def test_inert_text_is_printable_and_stays_as_it_is(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable() and inert(shown) == shown
    assert inert(text, ascii_only=True).isascii() and inert(text, ascii_only=True).isprintable()
    shown.encode()


def test_inert_text_reaches_the_terminal_letter_by_letter() -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, color_system="truecolor", width=80).print(
        Text(inert("\x1b[2Jx[/b]\u202e"))
    )
    assert stream.getvalue() == "␛[2Jx[/b]<U+202E>\n"


@given(st.text(), st.integers(0, 30))
def test_shorten_never_exceeds_the_width(text: str, width: int) -> None:
    assert len(shorten(text, width)) <= width
    assert len(text) > width or shorten(text, width) == text
