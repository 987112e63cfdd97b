"""What every method is given: the same pairs, the same queries to tune by, one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.retrieval import QueryScores, Relevance, SearchSpace
from xbtmigrate.side_information import TextSide, Vocabulary, collect_vocabulary, fit_lexical
from xbtmigrate.side_information import fit_words as embed_words
from xbtmigrate.training import (
    FitOptions,
    FitReport,
    ModelSpace,
    Pairs,
    PairSource,
    SelectionTask,
    fit,
)
from xbtmigrate.types import Direction, Distance, Vectors
from xbtmigrate_research.corpora import Corpus

Rows = npt.NDArray[np.intp]

MAX_HELD_OUT = 1000
MAX_GALLERY = 5000
"""Points among which the held-out ones are searched for while maps are chosen."""
LEXICAL_TEXTS = 6000
TUNING, TEST = slice(0, None, 2), slice(1, None, 2)
"""Queries of even number choose settings; figures are of those of odd number alone."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A corpus with the pairs of one seed; no query asks for a point of the pairs.

    Attributes:
        corpus: Gallery and queries.
        pairs: How many points may be embedded by the new model.
        seed: Seed of their choice and of every training.
        epochs: Most passes over the pairs that a training may take; None for as many as published.
    """

    corpus: Corpus
    pairs: int
    seed: int = 0
    epochs: int | None = None

    @cached_property
    def rows(self) -> Rows:
        """Gallery rows of the pairs, in random order."""
        corpus = self.corpus
        free = np.setdiff1d(np.arange(len(corpus.old)), corpus.rel)
        return np.random.default_rng(self.seed).permutation(free)[: self.pairs]

    @property
    def split(self) -> tuple[Rows, Rows]:
        """The pairs to choose by, and those to fit on."""
        held, kept = np.split(self.rows, [min(MAX_HELD_OUT, len(self.rows) // 5)])
        return held, kept

    def cut(self, epochs: int) -> int:
        """Shorten a published number of epochs to what this trial allows."""
        return epochs if self.epochs is None else min(epochs, self.epochs)

    def judge(self, space: SearchSpace, queries: slice) -> QueryScores:
        """Judge the answers to a part of the queries."""
        relevance = Relevance.from_rows(self.corpus.rel[queries, None].tolist())
        return evaluate(SearchSpace(space.query[queries], space.gallery), relevance)

    def tune(self, spaces: Sequence[SearchSpace]) -> int:
        """Return which of several spaces answers the queries of even number best."""
        found = [self.judge(each, TUNING).means["recall@10"] for each in spaces]
        return int(np.argmax(found))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the corpus."""
        return collect_vocabulary(self.corpus.texts)

    @cached_property
    def text_sides(self) -> dict[Direction, TextSide]:
        """The tables of words, where words were embedded."""
        made = {}
        embedded = {
            Direction.FORWARD: self.corpus.words,
            Direction.BRIDGE: self.corpus.old_words,
        }
        for direction, of in embedded.items():
            if of is None:
                continue
            kept = [n for n, word in enumerate(self.vocabulary.words) if word in of]
            words = [self.vocabulary.words[n] for n in kept]
            known = Vocabulary(words, self.vocabulary.rarity[kept])
            blocks = {"words": embed_words(np.stack([of[word] for word in known.words]))}
            if direction is Direction.FORWARD:
                texts = [self.corpus.texts[row] for row in self.rows[:LEXICAL_TEXTS]]
                blocks["lexical"] = fit_lexical(known, texts)
            made[direction] = TextSide(known, blocks)
        return made

    @cached_property
    def sides(self) -> dict[Direction, Vectors]:
        """Side vectors of all points, (m, d_side), by direction."""
        return {way: side.embed(self.corpus.texts) for way, side in self.text_sides.items()}

    def pairs_of(self, rows: Rows, *, words: bool, texts: bool = False) -> list[Pairs]:
        """Pair the vectors of rows; pictures with their own new vectors and with captions'.

        Args:
            rows: Gallery rows.
            words: Whether side vectors come with them.
            texts: Whether the captions of pictures are paired with each other instead.
        """
        corpus = self.corpus
        sides_of = {PairSource.TEXT: (corpus.old, corpus.new)}
        if corpus.pictures and texts:
            sides_of = {PairSource.TEXT: corpus.questions}
        elif corpus.pictures:
            sides_of = {
                PairSource.IMAGE: (corpus.old, corpus.new),
                PairSource.CAPTION_IMAGE: (corpus.old, corpus.questions[1]),
            }
        sides = self.sides if words else {}
        given = [
            sides[way][rows] if way in sides else None
            for way in (Direction.FORWARD, Direction.BRIDGE)
        ]
        ids = [str(row) for row in rows]
        return [
            Pairs(ids, [""] * len(rows), old[rows], new[rows], source, *given)
            for source, (old, new) in sides_of.items()
        ]

    def task(self, *, words: bool, texts: bool = False) -> SelectionTask:
        """Make the held-out retrieval that the product chooses its maps by."""
        corpus, (held, kept) = self.corpus, self.split
        gallery = np.concatenate([held, kept])[:MAX_GALLERY]
        forward, bridge = (
            self.sides.get(way) if words else None for way in (Direction.FORWARD, Direction.BRIDGE)
        )
        return SelectionTask(
            queries_new=(corpus.questions[1] if corpus.pictures else corpus.new)[held],
            gallery_old=corpus.old[gallery],
            relevant=[np.array([row]) for row in range(len(held))],
            gallery_new=corpus.new[gallery],
            gallery_side=None if forward is None else forward[gallery],
            queries_side=None if bridge is None else bridge[held],
            self_asked=not corpus.pictures,
            pairs=self.pairs_of(held, words=words, texts=texts),
        )

    def fit(
        self,
        direction: Direction,
        kinds: Sequence[str],
        *,
        words: bool = False,
        texts: bool = False,
    ) -> FitReport:
        """Fit a map as `train-projector` does.

        Args:
            direction: Which way to map.
            kinds: Kinds to try.
            words: Whether the map may look at the words of the texts.
            texts: Whether a map for pictures learns from their captions alone.
        """
        spaces = ModelSpace("old", Distance.COSINE), ModelSpace("new", Distance.COSINE)
        sides = self.text_sides if words else {}
        options = FitOptions(*spaces, kinds, text_sides=sides, seed=self.seed, threads=1)
        _, kept = self.split
        pairs = self.pairs_of(kept, words=words, texts=texts)
        return fit(direction, pairs, self.task(words=words, texts=texts), options)
