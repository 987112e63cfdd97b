"""Write queries made from the collection's own titles, or judged ones by the ids of points."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from xbtmigrate.config import Config
from xbtmigrate.documents.plan import MakeQueriesDocument
from xbtmigrate.errors import ConfigError, EvaluationError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.query_rows import spell_id
from xbtmigrate.files import write_atomically
from xbtmigrate.qdrant.collection.overview import read_overview
from xbtmigrate.qdrant.wire.payload_field import parse_field
from xbtmigrate.types import PointId, content_hash
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.next_step import PLAN, next_step
from xbtmigrate.workflows.store import Store, open_store

FILE = "queries-made.jsonl"
NAMES = ("title", "name", "heading", "headline", "subject", "question", "summary")
PLACES = ("", "metadata.", "meta.")
MOST_ANSWERS = 10
"""Points of one title; a title of more, such as "Introduction", asks for nothing in particular."""


@dataclass(slots=True)
class TitleSample:
    """A uniform sample of distinct titles with their points, in bounded memory.

    Attributes:
        count: Titles in the sample.
        seed: Seed of the sample.
    """

    count: int
    seed: int
    _points: dict[str, list[PointId]] = field(default_factory=dict)
    _rank: dict[str, str] = field(default_factory=dict)
    # Ranks above it have left the sample, and do not come back with another point.
    _bound: str = "g"

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the titles of a batch, in its column `text`."""
        for point, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True):
            title = " ".join((text or "").split())
            rank = self._rank.get(title) or content_hash(f"{self.seed} {title}")
            if not title or rank > self._bound:
                continue
            self._rank[title] = rank
            held = self._points.setdefault(title, [])
            # One more than may be shows that there are too many.
            if len(held) <= MOST_ANSWERS:
                held.append(point)
        # Twice as many as wanted, since some have too many points.
        if len(self._rank) > 4 * self.count:
            self._keep(2 * self.count)

    def _keep(self, most: int) -> None:
        ranked = sorted(self._rank, key=lambda title: self._rank[title])[:most]
        self._bound = self._rank[ranked[-1]]
        self._rank = {title: self._rank[title] for title in ranked}
        self._points = {title: self._points[title] for title in ranked}

    def take(self) -> dict[str, list[PointId]]:
        """Return the sampled titles with the points that have them."""
        ranked = sorted(self._rank, key=lambda title: self._rank[title])
        fit = [title for title in ranked if len(self._points[title]) <= MOST_ANSWERS]
        return {title: self._points[title] for title in fit[: self.count]}


@dataclass(frozen=True, slots=True)
class QueriesFile:
    """Where queries are written.

    Attributes:
        out: The file, relative to the configuration.
        force: Whether to overwrite it.
    """

    out: Path
    force: bool

    def check(self, config: Config) -> Path:
        """Return the path if it may be written.

        Raises:
            ConfigError: It exists, or is no file of queries.
        """
        path = config.base / self.out
        # Somebody may have rewritten the queries, so they are not overwritten unasked.
        if path.exists() and not self.force:
            raise ConfigError(f"{path} exists", "give --force to overwrite it, or another --out")
        if path.suffix != ".jsonl":
            raise ConfigError(f"--out {self.out} does not end in .jsonl", f"write {FILE}")
        return path


def make_queries(
    config: Config,
    *,
    name: str | None,
    count: int,
    file: QueriesFile,
    report: Report = lambda *_: None,
) -> MakeQueriesDocument:
    """Write titles as queries for the points that have them.

    Args:
        config: The configuration.
        name: Payload field of the titles; None for `payload.query`, or one of a usual name.
        count: Queries to write, at most.
        file: Where they are written.
        report: Called with progress.

    Raises:
        ConfigError: The file exists, or the field is none to take queries from.
        EvaluationError: No title asks for a few points.
    """
    path = file.check(config)
    with open_store(config) as store:
        chosen = _choose_field(store, name)
        sample, done = TitleSample(count, config.plan.seed), 0
        for batch in store.reader(query_field=chosen).read({"source"}):
            sample.add(batch)
            done += len(batch)
            report("reading titles", done, store.facts.points)
    titles = sample.take()
    if not titles:
        raise EvaluationError(
            f"no text of the field '{chosen}' is that of one to {MOST_ANSWERS} points",
            "name another field with --field",
        )
    _write(path, ({"text": each, "relevant": ids, "made": chosen} for each, ids in titles.items()))
    return {
        "file": str(path),
        "field": chosen,
        "queries": len(titles),
        "answers": sum(map(len, titles.values())),
        "missing": 0,
        **next_step(
            PLAN,
            f'Set plan.queries = "{file.out}" first. The queries measure, but recommend nothing '
            "until you write what your users would type, and remove `made` from those rows.",
        ),
    }


def translate_queries(
    config: Config,
    judged: Sequence[Questions],
    field: str,
    file: QueriesFile,
    report: Report = lambda *_: None,
) -> MakeQueriesDocument:
    """Write judged queries with the ids of points in place of those of a payload field.

    Args:
        config: The configuration.
        judged: The queries; all points that have one of a query's ids answer it.
        field: Payload field of the ids.
        file: Where they are written.
        report: Called with progress.

    Raises:
        ConfigError: The file exists, or no point has any of the ids.
    """
    path = file.check(config)
    wanted = {each for questions in judged for ids in questions.relevant for each in ids}
    points: defaultdict[str, list[PointId]] = defaultdict(list)
    with open_store(config) as store:
        done = 0
        for batch in store.reader(query_field=field).read({"source"}):
            for point, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True):
                if text is not None and (name := spell_id(text)) in wanted:
                    points[name].append(point)
            done += len(batch)
            report("reading ids", done, store.facts.points)
    if not points:
        raise ConfigError(
            f"no point has an id of the judged queries, such as '{min(wanted)}', in the field "
            f"'{field}'",
            "name the payload field of these ids with --id-field",
        )
    rows: list[dict[str, Any]] = [
        {
            questions.modality.value: query,
            "relevant": [p for each in ids for p in points.get(each, ())],
        }
        for questions in judged
        for query, ids in zip(questions.texts, questions.relevant, strict=True)
        if any(each in points for each in ids)
    ]
    _write(path, rows)
    return {
        "file": str(path),
        "field": field,
        "queries": len(rows),
        "answers": sum(len(row["relevant"]) for row in rows),
        "missing": len(wanted - points.keys()),
        **next_step(PLAN, f'Set plan.queries = "{file.out}" first.'),
    }


def _choose_field(store: Store, name: str | None) -> str:
    """Return the field of the titles.

    Raises:
        ConfigError: There is none, or it is what the vectors embed.
    """
    payload = store.config.payload
    chosen = name or payload.query or _find_titles(store)
    if chosen == payload.text:
        raise ConfigError(
            f"'{chosen}' is payload.text, and a text is found by itself with any model",
            "name another field with --field, such as a title",
        )
    return chosen


def _find_titles(store: Store) -> str:
    """Return the field of a usual name that most points have.

    Raises:
        ConfigError: There is none.
    """
    payloads = read_overview(store.connection, store.facts.collection).payloads
    counts = {}
    for each in (f"{place}{name}" for place in PLACES for name in NAMES):
        parsed = parse_field(each)
        counts[each] = sum(parsed is not None and bool(parsed.render(row)) for row in payloads)
    best = max(
        (each for each in counts if each != store.config.payload.text),
        key=lambda each: counts[each],
    )
    if not counts[best]:
        raise ConfigError(
            f"the payloads of '{store.facts.collection}' have no field such as {NAMES[0]} or "
            f"{PLACES[1]}{NAMES[0]}",
            "name the field of the titles with --field",
        )
    return best


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(path, lambda each: each.write_text(text, "utf-8"))
