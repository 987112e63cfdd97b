"""Read the queries for measuring quality, or make them from the data."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality, PointId, canonical_id, content_hash

EXCERPT = 6
"""Words of an excerpt that is used as a query."""
FREE = 1000
"""Points that answer no query; with this many of them, no fold has to be held out."""
FOLD = 0.2
"""Share of the answers that a fold holds out."""
COLUMNS = "it needs the columns text or image (string) and relevant (list of point ids as strings)"
"""Hint for a file that is not a query file."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries and the points that answer them.

    Attributes:
        texts: n query texts, or image references.
        relevant: Ids of the relevant points, one list per query.
        basis: What stood for queries and relevance, in words.
        provisional: Whether relevance was made up because there are no judgements.
        limits: What figures on them do and do not show; "" for judged queries.
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


def read_questions(path: Path, split: str | None = None) -> list[Questions]:
    """Read judged queries with `text`, `image` or both, and `relevant` (point ids).

    Args:
        path: Parquet, CSV (.csv) or JSON lines (.jsonl). A row asks with its text, and with its
            image where it has one. In a CSV, ids are separated by spaces, and rows without a
            query are left out: they are those of the template that nobody has filled in yet.
        split: Only rows whose column `split` has this value.

    Returns:
        The text queries and the image queries, each only where there are any.

    Raises:
        ConfigError: The file, its columns or its rows are not usable.
    """
    asked, relevant = _read_columns(path, split)
    if not asked:
        raise ConfigError(f"{path} is not a query file: it has no column text or image", COLUMNS)
    if not relevant:
        raise ConfigError(f"{path} has no queries", f"write some, or leave the file out; {COLUMNS}")
    # A row left out silently would change every figure; only the template's CSV has empty rows.
    if not all(relevant) or not all(map(any, zip(*asked.values(), strict=True))):
        raise ConfigError(f"{path} has rows without a query or without a relevant point", COLUMNS)
    basis = f"judged queries of {path.name}"
    found = [
        Questions(items, relevant, basis, provisional=False, modality=modality).select(
            [row for row, item in enumerate(items) if item]
        )
        for modality, items in asked.items()
    ]
    return [questions for questions in found if len(questions)]


def _read_columns(
    path: Path, split: str | None
) -> tuple[dict[Modality, list[Any]], list[list[PointId]]]:
    """Read the queries of each modality and the relevant points, row by row."""
    try:
        table = _read_table(path)
        # Before the checks, so that rows of another split cannot make the file unusable.
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
        relevant = [
            [canonical_id(each) for each in points or () if each is not None]
            for points in table["relevant"].cast(pa.list_(pa.string())).to_pylist()
        ]
        asked = {
            modality: table[modality].cast(pa.string()).to_pylist()
            for modality in Modality
            if modality in table.column_names
        }
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no query file {path}", f"correct plan.queries or --queries; {COLUMNS}"
        ) from error
    except (KeyError, OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise ConfigError(f"{path} is not a query file: {error}", COLUMNS) from error
    return asked, relevant


def _read_table(path: Path) -> pa.Table:
    if path.suffix == ".csv":
        return _read_csv(path)
    return pa.json.read_json(path) if "json" in path.suffix else pq.read_table(path)


def _read_csv(path: Path) -> pa.Table:
    """Read the CSV of a spreadsheet, with or without byte order mark and with any usual separator.

    Raises:
        KeyError: There is no column `relevant`.
    """
    # Excel writes a byte order mark, and semicolons where the comma is the decimal sign.
    text = path.read_text("utf-8-sig")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    # The line ends stay: a quoted field may span lines.
    rows = list(csv.DictReader(text.splitlines(keepends=True), delimiter=separator))
    asked = [row for row in rows if row.get("text") or row.get("image")]
    columns: dict[str, list[str] | list[list[str]]] = {
        name: [row[name] or "" for row in asked]
        for name in ("text", "image", "split")
        if rows and name in rows[0]
    }
    columns["relevant"] = [(row["relevant"] or "").split() for row in asked]
    return pa.table(columns)


def choose_held_out(
    judged: Sequence[Questions], points: Collection[PointId], seed: int
) -> set[PointId]:
    """Choose the points to hold out from fitting: all that answer queries, or a fold.

    Where nearly every point answers a query, too few would be left to fit on. Then a fold of
    the queries is held out with its points, and only these queries can measure a projector.

    Args:
        judged: The queries; made ones leave enough points aside by themselves.
        points: Ids of the points that there are.
        seed: Seed of the fold.
    """
    wanted = [set(points) for each in judged for points in each.relevant]
    asked = set().union(*wanted)
    free = sum(point not in asked for point in points)
    made = any(each.provisional for each in judged)
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
        limits="they show how well a point is found by a description of itself, not how well your "
        "users' words or questions with several answers are served",
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
