"""Text from a run made harmless: what a terminal would obey becomes something that it shows.

A run name, an operation, a class or a log line may hold escape sequences, control characters or marks that turn the
reading direction. rich passes them on to the terminal (inside `Text` too, and `rich.markup.escape` looks at brackets
only), so every string that was read from a run goes through `inert` first, and then into `rich.text.Text`, never into
markup: `x[/b]` is three letters and some brackets here, not a closing tag.

    ESC [31m       ->  ␛[31m          ^[[31m         in ASCII
    U+202E         ->  <U+202E>       \\u202e
    café           ->  café           caf\\xe9
"""

from __future__ import annotations

PICTURES = 0x2400  # Unicode's control pictures: the visible twin of control character n is U+2400 + n


def inert(text: object, *, ascii_only: bool = False) -> str:
    """The text with every character that is not printable replaced by visible ones.

    Not printable are, by Unicode's categories: control, format (all bidirectional and zero-width marks), surrogate,
    private, unassigned, and separators other than the space. With `ascii_only` the result is ASCII as well: control
    characters in caret notation, all others as Python writes them.

    >>> inert("\\x1b[2Jrun\\u202e[/b]")
    '␛[2Jrun<U+202E>[/b]'
    >>> inert("\\x1b[2Jcafé\\n", ascii_only=True)
    '^[[2Jcaf\\\\xe9^J'
    """
    text = str(text)
    if text.isprintable() and (text.isascii() or not ascii_only):
        return text
    return "".join(map(_ascii if ascii_only else _visible, text))


def _visible(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < 0x20:
        return chr(PICTURES + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"


def _ascii(letter: str) -> str:
    code = ord(letter)
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return letter if letter.isascii() else letter.encode("ascii", "backslashreplace").decode("ascii")


def shorten(text: str, width: int, mark: str = "…") -> str:
    """At most `width` characters, cut in the middle: the endings of operations tell them apart.

    >>> shorten("sep_conv_3x3", 8), shorten("sep_conv_5x5", 8)
    ('sep_…3x3', 'sep_…5x5')
    >>> shorten("none", 8)
    'none'
    """
    if len(text) <= width:
        return text
    if width <= len(mark):
        return text[: max(width, 0)]
    tail = (width - len(mark)) // 2
    head = width - len(mark) - tail
    return text[:head] + mark + (text[-tail:] if tail else "")
