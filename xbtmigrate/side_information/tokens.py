"""Split a text into words, in any language and script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

MAX_TOKENS = 400
"""Words that are read of a text; at the last, the weight has halved twenty times."""
MAX_LENGTH = 40
"""Longest word in characters; longer ones are hashes, addresses or keys."""

# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff"
_FAR = "\U00020000-\U0003ffff"
# Python does not count vowel signs and combining accents as letters, but they are parts of words.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"
_LETTER = rf"(?:[^\W{_UNSPACED}{_FAR}]|[{_MARKS}])"
# A single letter is too common to be a word; a single Han character may be one.
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}{_FAR}]+)|{_LETTER}{{2,}}")


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words; scripts without spaces into pairs of characters.

    Args:
        text: Any text.

    Returns:
        At most `MAX_TOKENS` words, in the text's order.
    """
    return list(islice(_words(text), MAX_TOKENS))


def _words(text: str) -> Iterator[str]:
    for match in _RUN.finditer(text):
        run = match.group()
        if match.lastgroup is None:
            if len(run) <= MAX_LENGTH:
                yield run.casefold()
        elif len(run) == 1:
            yield run
        else:
            # Overlapping pairs: without a dictionary it is unknown where words begin.
            yield from (run[start : start + 2] for start in range(len(run) - 1))
