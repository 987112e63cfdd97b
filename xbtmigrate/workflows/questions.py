"""Workflows: the queries that quality is measured with, judged or made from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import PointId


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries and the points that answer them.

    Attributes:
        texts: n query texts.
        relevant: Ids of the relevant points, one list per query.
        basis: What stood for queries and relevance, in words.
        provisional: Whether relevance was made up for want of judgements.
    """

    texts: Sequence[str]
    relevant: Sequence[Sequence[PointId]]
    basis: str
    provisional: bool

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.texts)

    def sampled(self, count: int, seed: int) -> Questions:
        """Keep at most `count` queries, drawn with a seed, in file order."""
        if len(self) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        return self.kept(rows)

    def kept(self, rows: Sequence[int] | np.ndarray) -> Questions:
        """Keep the queries of these rows."""
        return Questions(
            [self.texts[row] for row in rows],
            [self.relevant[row] for row in rows],
            self.basis,
            self.provisional,
        )

    def answerable(self, present: set[PointId]) -> Questions:
        """Keep the queries of which some relevant point is present."""
        return self.kept(
            [row for row, points in enumerate(self.relevant) if not present.isdisjoint(points)]
        )


def read_questions(path: Path, split: str | None = None) -> Questions:
    """Read judged queries: Parquet with `text` (string) and `relevant` (list of point ids).

    Args:
        path: The file.
        split: Only rows whose column `split` has this value.

    Raises:
        ConfigError: The file, its columns or its rows are not usable.
    """
    hint = "it needs the columns text (string) and relevant (list of point ids as strings)"
    try:
        table = pq.read_table(path)
        if split is not None:
            table = table.filter(pa.compute.equal(table["split"], split))
        texts = table["text"].cast(pa.string()).to_pylist()
        relevant = table["relevant"].cast(pa.list_(pa.string())).to_pylist()
    except FileNotFoundError as error:
        raise ConfigError(f"there is no query file {path}", hint) from error
    except (KeyError, OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is not a query file: {error}", hint) from error
    if not texts:
        raise ConfigError(f"{path} has no queries", hint)
    if None in texts or any(not points for points in relevant):
        raise ConfigError(f"{path} has rows without a text or without a relevant point", hint)
    return Questions(texts, relevant, f"judged queries of {path.name}", provisional=False)


def known_items(ids: Sequence[PointId], queries: Sequence[str | None], field: str) -> Questions:
    """Make known-item queries: another field's text asks for its own point."""
    rows = [row for row, text in enumerate(queries) if text]
    return Questions(
        [str(queries[row]) for row in rows],
        [[ids[row]] for row in rows],
        f"known items: the field '{field}' of a point asks for the point itself",
        provisional=True,
    )


def excerpts(ids: Sequence[PointId], texts: Sequence[str | None], seed: int) -> Questions:
    """Make known-item queries out of the texts: a stretch of half the words asks for the whole."""
    rng, queries = np.random.default_rng(seed), []
    for text in texts:
        words = (text or "").split()
        length = max(1, len(words) // 2)
        start = int(rng.integers(0, len(words) - length + 1)) if words else 0
        queries.append(" ".join(words[start : start + length]) if len(words) >= 6 else None)
    made = known_items(ids, queries, "text")
    return replace(made, basis="excerpts: half the words of a text ask for the whole text")
