"""Read judged queries: lists of answers, rows of judgements, clicks, BEIR and TREC folders."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from xbtmigrate.errors import ConfigError
from xbtmigrate.evaluation.queries import DESCRIBED, Questions
from xbtmigrate.evaluation.query_rows import (
    Row,
    read_id,
    read_rows,
    read_text,
    read_topics,
    spell_id,
    split_ids,
)
from xbtmigrate.types import Modality, PointId

FORMS = (
    "it needs the columns text or image, and relevant (list of point ids), or id (one point a "
    "row, with relevance or clicks if you like); docs/judging.md shows every form"
)
"""Hint for a file that is not a query file."""
MIN_CLICKS = 2
"""Clicks that make a point an answer: one may be a mistake."""
MIN_CLICK_SHARE = 0.1
"""Least share of a query's clicks that an answer has."""
CLICKED = (
    "the queries are judged by clicks, which favour what the old model showed: a new model that is "
    "better by them is better, one that is worse may not be"
)
"""What queries judged by clicks tell."""
QUERY_KEYS = ("query-id", "query_id", "qid", "_id", "id")

Query: TypeAlias = tuple[str, str]
"""Text and image of a query; "" for none."""
Judged: TypeAlias = Sequence[tuple[Query, Sequence[PointId]]]
"""Queries with the points that answer them."""
Grades: TypeAlias = Mapping[Query, Mapping[PointId, float]]
"""How well each point answers a query."""


def read_questions(path: Path, split: str | None = None) -> list[Questions]:
    """Read judged queries, each with its text, its image, or both.

    Args:
        path: A Parquet, CSV, TSV or JSON lines file, or a folder of BEIR or TREC. Rows of a CSV
            without a query are left out: they are those of the template that nobody has filled in
            yet.
        split: Only rows whose column `split` has this value; of BEIR, the file of judgements.

    Returns:
        The text queries and the image queries, each only where there are any.

    Raises:
        ConfigError: The file, its columns or its rows are not usable.
    """
    if path.is_dir():
        return _questions(_read_folder(path, split), f"judged queries of {path.name}")
    rows = read_rows(path, FORMS)
    columns = {key for row in rows for key in row}
    if not {"text", "image"} & columns and rows:
        raise ConfigError(f"{path} is not a query file: it has no column text or image", FORMS)
    if split is not None:
        if "split" not in columns:
            raise ConfigError(f"{path} is not a query file: it has no column split", FORMS)
        # Before the checks, so that rows of another split cannot make the file unusable.
        rows = [row for row in rows if row.get("split") == split]
    if path.suffix in (".csv", ".tsv"):
        rows = [row for row in rows if row.get("text") or row.get("image")]
    if not rows:
        raise ConfigError(f"{path} has no queries", f"write some, or leave the file out; {FORMS}")
    # Rows that somebody has rewritten count alone: the others are what they were made from.
    own = [row for row in rows if not row.get("made")]
    judged, limits = _judged(path, own or rows, columns)
    if not judged:
        raise ConfigError(f"{path} has no query with a point of relevance above 0", FORMS)
    if own:
        return _questions(judged, f"judged queries of {path.name}", limits)
    basis = f"made queries of {path.name}: the field '{rows[0]['made']}' of points asks for them"
    return _questions(judged, basis, DESCRIBED, provisional=True)


def _judged(path: Path, rows: Sequence[Row], columns: Collection[str]) -> tuple[Judged, str]:
    """Return the judged queries of some rows, and what limits the judgements."""
    if "relevant" in columns:
        return _by_list(path, rows), ""
    if "id" not in columns:
        raise ConfigError(f"{path} is not a query file: it has no column relevant or id", FORMS)
    if "clicks" not in columns:
        return _positive(_by_row(path, rows, "relevance")), ""
    clicked = _clicked(_by_row(path, rows, "clicks"))
    if not clicked:
        raise ConfigError(
            f"{path} has no query with a point that was clicked {MIN_CLICKS} times",
            f"give a longer log, or judge queries by hand; {FORMS}",
        )
    return clicked, CLICKED


def _questions(
    judged: Judged, basis: str, limits: str = "", *, provisional: bool = False
) -> list[Questions]:
    found = [
        Questions(
            [query[place] for query, _ in judged if query[place]],
            [points for query, points in judged if query[place]],
            basis,
            provisional,
            limits,
            modality=modality,
        )
        for place, modality in enumerate((Modality.TEXT, Modality.IMAGE))
    ]
    return [questions for questions in found if len(questions)]


def _by_list(path: Path, rows: Sequence[Row]) -> Judged:
    """Read rows that hold all answers of a query in the column `relevant`."""
    judged = [(_query(row), split_ids(row.get("relevant"), path)) for row in rows]
    for number, (query, points) in enumerate(judged, 1):
        _require(path, number, query, points)
    return judged


def _by_row(path: Path, rows: Sequence[Row], column: str) -> Grades:
    """Read rows that hold one answer of a query in the column `id`, with a grade or clicks."""
    grades: defaultdict[Query, dict[PointId, float]] = defaultdict(dict)
    for number, row in enumerate(rows, 1):
        query, given = _query(row), row.get("id")
        points = [] if given in (None, "") else [read_id(given, path)]
        _require(path, number, query, points)
        # Rows of the same point add up, as the clicks of several days do.
        grade = _grade(path, number, row, column)
        grades[query][points[0]] = grades[query].get(points[0], 0) + grade
    return grades


def _positive(grades: Grades) -> Judged:
    found = [
        (query, [p for p, grade in points.items() if grade > 0]) for query, points in grades.items()
    ]
    return [(query, points) for query, points in found if points]


def _clicked(clicks: Grades) -> Judged:
    """Keep the points that were clicked often enough to answer a query."""
    least = {
        query: max(MIN_CLICKS, MIN_CLICK_SHARE * sum(points.values()))
        for query, points in clicks.items()
    }
    found = [
        (query, [point for point, count in points.items() if count >= least[query]])
        for query, points in clicks.items()
    ]
    return [(query, points) for query, points in found if points]


def _query(row: Row) -> Query:
    return str(row.get("text") or ""), str(row.get("image") or "")


def _require(path: Path, number: int, query: Query, points: Sequence[PointId]) -> None:
    # A row left out silently would change every figure; only the template's CSV has empty rows.
    if not any(query):
        raise ConfigError(f"{path} has a row without a query: row {number}", FORMS)
    if not points:
        raise ConfigError(f"{path} has a row without a relevant point: row {number}", FORMS)


def _grade(path: Path, number: int, row: Row, column: str) -> float:
    value = row.get(column, 1)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{path} has no number in the column {column} of row {number}: {value!r}", FORMS
        ) from None


def _read_folder(folder: Path, split: str | None) -> Judged:
    """Read queries and judgements of BEIR (queries.jsonl, qrels/test.tsv) or TREC."""
    texts = dict(_read_queries(_one_of(folder, "queries.*", "topics.*")))
    qrels = _qrels_file(folder, split)
    grades: defaultdict[str, dict[PointId, float]] = defaultdict(dict)
    for query, point, grade in _read_qrels(qrels):
        grades[query][point] = grade
    judged = _positive({(texts[each], ""): grades[each] for each in grades if each in texts})
    if not judged:
        known, asked = (", ".join(list(ids)[:3]) for ids in (texts, grades))
        raise ConfigError(
            f"{qrels} judges no query of {folder}: it names {asked or 'none'}, the queries have "
            f"the ids {known or 'of none'}",
            "give judgements of these queries",
        )
    return judged


def _one_of(folder: Path, *patterns: str) -> Path:
    found = sorted(path for each in patterns for path in folder.glob(each) if path.is_file())
    if len(found) == 1:
        return found[0]
    listed = ", ".join(path.name for path in found) or "none"
    raise ConfigError(
        f"{folder} must hold one file {' or '.join(patterns)}; found: {listed}",
        "BEIR has queries.jsonl and qrels/test.tsv, TREC topics and qrels",
    )


def _qrels_file(folder: Path, split: str | None) -> Path:
    held = sorted((folder / "qrels").glob("*.tsv"))
    if not held:
        return _one_of(folder, "qrels.*", "qrels")
    named = {path.stem: path for path in held}
    # BEIR's measured queries are those of the test split.
    wanted = split or ("test" if "test" in named or len(held) > 1 else held[0].stem)
    if wanted not in named:
        raise ConfigError(
            f"{folder} has no judgements of the split '{wanted}'",
            f"name one with --split: {', '.join(named)}",
        )
    return named[wanted]


def _read_queries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield id and text of queries: JSON lines, a table with or without header, or TREC topics."""
    if path.suffix not in (".tsv", ".csv", ".jsonl", ".json", ".parquet"):
        yield from read_topics(path)
        return
    rows = read_rows(path, FORMS, header=("_id", "text"))
    for row in rows:
        query = next((row[key] for key in QUERY_KEYS if row.get(key) is not None), None)
        text = row.get("text")
        if query is None or not text:
            raise ConfigError(
                f"{path} has a query without id or text: {dict(row)}",
                "it needs the columns _id and text",
            )
        yield str(query), str(text)


def _read_qrels(path: Path) -> Iterator[tuple[str, str, float]]:
    """Yield query, point and grade: of BEIR (three columns with a header), or TREC (four)."""
    lines = csv.reader(read_text(path).splitlines(), delimiter="\t")
    for number, cells in enumerate(lines, 1):
        fields = cells if len(cells) > 1 else " ".join(cells).split()
        if not fields or (number == 1 and not fields[-1].strip().lstrip("-").isdecimal()):
            continue
        try:
            # TREC's second column is the iteration, which nothing uses.
            query, point, grade = fields if len(fields) == 3 else (fields[0], *fields[2:])
            yield query.strip(), spell_id(point), float(grade)
        except ValueError:
            raise ConfigError(
                f"{path} is no file of judgements: line {number} is {' '.join(fields)!r}",
                "write query, point and grade, or TREC's query, 0, point and grade",
            ) from None
