"""Side vectors made from the words of a point's text, a second input of a forward map."""

from xbtmigrate.side_information.text_side import (
    LEXICAL,
    WORDS,
    TextSide,
    fit_lexical,
    fit_words,
)
from xbtmigrate.side_information.tokens import split_words
from xbtmigrate.side_information.vocabulary import Vocabulary, collect_vocabulary

__all__ = [
    "LEXICAL",
    "WORDS",
    "TextSide",
    "Vocabulary",
    "collect_vocabulary",
    "fit_lexical",
    "fit_words",
    "split_words",
]
