"""Format texts, sizes and times for people.

Names, texts and errors come from collections, files and servers that others control. All output
passes through `plain`, so none of it can steer a terminal or look like a line of the tool.
"""

from __future__ import annotations

import re
import unicodedata

# A break is kept only before an indented line, so no text can begin a line like the tool's.
_BREAK = re.compile(r"[\t\v\f\x85\u2028\u2029]|\r?\n(?!  )|\r")
# Bidirectional controls can reorder what a terminal shows (Trojan Source, CVE-2021-42574).
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Hebrew, Arabic and the other scripts written from right to left, by Unicode block.
_RIGHT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff"
_LEFTWARD = re.compile(rf"[{_RIGHT}]+(?:(?:(?!\n)[\W\d_])*[{_RIGHT}]+)*")


def plain(text: str) -> str:
    """Remove characters that would change how, or where, other text is shown.

    Control characters and lone surrogates are left out, and so are marks of direction; words that
    are written from right to left are isolated instead. Of line breaks only those stay that go on
    with an indented line.
    """
    kept = "".join(each for each in _BREAK.sub(" ", text) if _is_shown(each))
    # U+2068 and U+2069 isolate a run: it cannot turn around the text beside it.
    return _LEFTWARD.sub("\u2068\\g<0>\u2069", kept)


def _is_shown(character: str) -> bool:
    if character in _DIRECTIONS:
        return False
    # Cc holds the escape character of terminals; a lone surrogate (Cs) cannot be encoded.
    return character == "\n" or unicodedata.category(character) not in ("Cc", "Cs")


def size(count: float) -> str:
    """Format a number of bytes with a suitable unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Format seconds with a suitable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def remaining(seconds: float) -> str:
    """Format an estimated time left, rounded as coarsely as the estimate is."""
    step = 1 if seconds < 10 else 5
    return duration(max(1, round(seconds / step) * step))
