"""Split a text into words, in any language and script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

MAX_TOKENS = 400
"""Words read of one text; by then a word's weight has halved twenty times."""
MAX_LENGTH = 40
"""Characters of a word; what is longer is a hash, an address or a key."""

# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff"
_FAR = "\U00020000-\U0003ffff"
# Vowel signs and accents of their own code point are no letters to Python, yet parts of words.
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
