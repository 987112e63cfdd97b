"""Queries for measuring quality, and making them from the data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.types import Modality, PointId, content_hash

EXCERPT = 6
"""Words of an excerpt that is used as a query."""
FREE = 1000
"""Points that answer no query; with this many of them, no fold has to be held out."""
FOLD = 0.2
"""Share of the answers that a fold holds out."""
DESCRIBED = (
    "they show how well a point is found by a description of itself, not how well your users' "
    "words or questions with several answers are served"
)
"""What queries made of another field tell."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries and the points that answer them.

    Attributes:
        texts: n query texts, or image references.
        relevant: Ids of the relevant points, one list per query.
        basis: What stood for queries and relevance, in words.
        provisional: Whether relevance was made up because there are no judgements.
        limits: What figures on them do and do not show; "" for queries that people judged.
        by_definition: Whether the answers are what the new model finds, so that full is perfect
            even for a bad model.
        modality: What the queries are.
    """

    texts: Sequence[str]
    relevant: Sequence[Sequence[PointId]]
    basis: str
    provisional: bool
    limits: str = ""
    by_definition: bool = False
    modality: Modality = Modality.TEXT

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.texts)

    @property
    def wording(self) -> Sequence[str | None]:
        """The texts of the queries, None for each that is an image."""
        return self.texts if self.modality is Modality.TEXT else [None] * len(self)

    def sample(self, count: int, seed: int) -> Questions:
        """Keep at most `count` queries, drawn with a seed, in file order."""
        if len(self) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        return self.select(rows)

    def select(self, rows: Sequence[int] | np.ndarray) -> Questions:
        """Keep the queries of these rows."""
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            relevant=[self.relevant[row] for row in rows],
        )

    def find_within(self, points: AbstractSet[PointId]) -> Sequence[int]:
        """Return the rows of the queries that only these points answer."""
        return [row for row, asked in enumerate(self.relevant) if points >= set(asked)]

    def keep_answerable(self, present: set[PointId]) -> Questions:
        """Keep the queries with a relevant point that is present."""
        return self.select(
            [row for row, points in enumerate(self.relevant) if not present.isdisjoint(points)]
        )


def choose_held_out(
    judged: Sequence[Questions], points: Collection[PointId], seed: int
) -> set[PointId]:
    """Choose the points to hold out from fitting: all that answer queries, or a fold.

    Where nearly every point answers a query, too few would be left to fit on. Then a fold of
    the queries is held out with its points, and only these queries can measure a projector.

    Args:
        judged: The queries; neighbours leave enough points aside by themselves.
        points: Ids of the points that there are.
        seed: Seed of the fold.
    """
    wanted = [set(points) for each in judged for points in each.relevant]
    asked = set().union(*wanted)
    free = sum(point not in asked for point in points)
    made = any(each.by_definition for each in judged)
    # Enough is left to fit on: FREE points, or as many as the queries ask for.
    if made or free >= min(FREE, len(asked)):
        return asked
    held: set[PointId] = set()
    # Whole queries, so that no point of a held-out query is trained on.
    for row in np.random.default_rng(seed).permutation(len(wanted)):
        if len(held) >= FOLD * len(asked):
            break
        held |= wanted[row]
    return held


def make_known_items(
    ids: Sequence[PointId], queries: Sequence[str | None], field: str
) -> Questions:
    """Make known-item queries: another field's text is the query, its own point the answer."""
    rows = [row for row, text in enumerate(queries) if text]
    return Questions(
        [str(queries[row]) for row in rows],
        [[ids[row]] for row in rows],
        f"known items: the field '{field}' of a point asks for the point itself",
        provisional=True,
        limits=DESCRIBED,
    )


def make_excerpts(ids: Sequence[PointId], texts: Sequence[str | None], seed: int) -> Questions:
    """Make known-item queries from the texts: a few consecutive words are the query for the text.

    Longer excerpts are found by their exact words, unlike real queries. A text gives the same
    excerpt in every command and sample, so that it has to be embedded once.
    """
    queries = []
    for text in texts:
        words = (text or "").split()
        # Never more than half of a text, or a short text would be its own query. Six words
        # calibrate best on Debian (docs/benchmarks.md).
        length = max(1, min(EXCERPT, len(words) // 2))
        start = int(content_hash(f"{seed} {text}"), 16) % (len(words) - length + 1) if words else 0
        queries.append(" ".join(words[start : start + length]) if len(words) >= 6 else None)
    return replace(
        make_known_items(ids, queries, "text"),
        basis=f"excerpts: {EXCERPT} words of a text, or half of fewer, ask for the whole text",
        limits="they share their words with the answer, which favours models that match words and "
        "makes every figure too good; they cannot tell how well a meaning in other words is found",
    )
