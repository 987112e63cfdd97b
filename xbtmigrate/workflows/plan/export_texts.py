"""Write down what has to be embedded, for a model that runs elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.config import Config
from xbtmigrate.documents.plan import ExportedDocument, ExportTextsDocument
from xbtmigrate.errors import ConfigError, GateError
from xbtmigrate.files import write_atomically
from xbtmigrate.types import Modality, PointId
from xbtmigrate.workflows.backfill.backfill import check_run
from xbtmigrate.workflows.backfill.frozen_order import FrozenOrder
from xbtmigrate.workflows.backfill.request import BackfillOptions
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.query_sources import make_questions
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, survey, take
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.train.text_side import collect_words
from xbtmigrate.workflows.workspace import Workspace

FILE = 100_000
"""Rows of a file."""
BATCH = 10_000
MISSING, GALLERY = "missing", "gallery"
PARTS = ("sample", "captions", "queries", "made-queries", "words", GALLERY)
ONE_FILE = f"{MISSING}.parquet"
SCHEMA = pa.schema([("key", pa.string()), ("kind", pa.string()), ("id", pa.string())])
Model: TypeAlias = Literal["old", "new"]
Finder: TypeAlias = Callable[..., Iterable[bool]]
"""Tells which items have no vector, as `PrecomputedEncoder.find_missing` does."""


class _Item(NamedTuple):
    """One thing to embed: a text or an image reference, and the point it is from."""

    key: str
    kind: Modality
    id: PointId | None = None


Part: TypeAlias = tuple[str, Iterator[_Item]]
"""The name of a part, and what it holds."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is written, and where.

    Attributes:
        out: Folder for the files.
        pairs: Points to train on, as `train-projector` will be given; None for all.
        everything: Also write the whole gallery.
        missing: Write only what the vectors of this precomputed model lack, in one file.
        force: Replace the files of an earlier export.
    """

    out: Path
    pairs: int | None = 10_000
    everything: bool = False
    missing: Model | None = None
    force: bool = False


def export_texts(config: Config, options: ExportOptions, *, report: Report) -> ExportTextsDocument:
    """Write everything that `plan` to `backfill` will embed as Parquet files.

    The same collection gives the same files, unless it was written to meanwhile.

    Args:
        config: The settings.
        options: What is written, and where.
        report: Called with progress.

    Raises:
        ConfigError: Files of an earlier export are there, or the model is not precomputed.
        GateError: The plan embeds nothing of the gallery.
        XbtMigrateError: The server, the collection or the model cannot be used.
    """
    earlier = _files_of(options)
    if earlier and not options.force:
        raise ConfigError(
            f"{options.out} has files of an earlier export, such as {earlier[0].name}",
            "give --force to replace them, or another --out",
        )
    with open_store(config) as store:
        models = Models(config)
        find_missing = _finder_of(models, options.missing)
        parts: Iterator[Part] = _parts(store, models, options, report)
        if options.everything and options.missing != "old":
            parts = chain(parts, [(GALLERY, _of_gallery(store, models, report))])
        for path in earlier:
            path.unlink()
        known: set[str] = set()
        # What is noted is held in memory, which is as large as the samples: not the gallery.
        distinct = ((name, _once(items, known, note=name != GALLERY)) for name, items in parts)
        if find_missing is None:
            written = {
                name: _write(options.out, items, partial(_numbered, name), FILE)
                for name, items in distinct
            }
        else:
            lacking = (each for _, items in distinct for each in _lacking(items, find_missing))
            written = {MISSING: _write(options.out, lacking, lambda _: ONE_FILE, sys.maxsize)}
    return {"folder": str(options.out), "parts": written}


def _numbered(part: str, number: int) -> str:
    return f"{part}-{number:05}.parquet"


def _files_of(options: ExportOptions) -> list[Path]:
    """Return the files in the folder that an export with these options may write."""
    names = [ONE_FILE] if options.missing else [f"{part}-?????.parquet" for part in PARTS]
    return sorted(path for name in names for path in options.out.glob(name))


def _parts(store: Store, models: Models, options: ExportOptions, report: Report) -> Iterator[Part]:
    """Yield the name of each part and what it holds, in the order in which commands embed it."""
    workspace, stored = Workspace(store.config, models), models.stored
    judged = workspace.judged_queries
    asked = {point for each in judged for points in each.relevant for point in points}
    # As many as `plan` or `train-projector` draws at most: a smaller sample begins a larger one.
    count = max(store.config.plan.sample, options.pairs or store.facts.points) + len(asked)
    seen = survey(store.reader(), sample=count, seed=store.config.plan.seed, report=report)
    points = take(store.reader(), list(dict.fromkeys([*seen.sample, *sorted(asked)])))
    yield "sample", _of_points(points, stored)
    if stored is Modality.IMAGE:
        yield "captions", _of_points(points, Modality.TEXT)
    for name, found in (
        ("queries", judged),
        ("made-queries", make_questions(store, models, points)),
    ):
        yield name, (_Item(text, each.modality) for each in found for text in each.texts)
    config = store.config
    embeds_words = {"old": config.old_model.words, "new": config.new_model.words}
    # Without a model named, the words are for those that embed them.
    wanted = embeds_words[options.missing] if options.missing else any(embeds_words.values())
    if wanted and (words := collect_words(store)) is not None:
        yield "words", (_Item(word, Modality.TEXT) for word in words.words)


def _of_points(points: Points, kind: Modality) -> Iterator[_Item]:
    for point, content in zip(points.ids, points.content(kind), strict=True):
        if content:
            yield _Item(content, kind, point)


def _of_gallery(store: Store, models: Models, report: Report) -> Iterator[_Item]:
    """Return every point in the order of the backfill, or in the store's before there is a plan.

    Raises:
        GateError: The plan embeds nothing of the gallery.
    """
    workspace = Workspace(store.config, models)
    if not workspace.artefacts.plan_file.exists():
        return _read_gallery(store, None, models.stored, report)
    request, _, order = check_run(store, models, workspace, BackfillOptions(), store.journal.load())
    if not request.fraction:
        raise GateError(
            f"the plan is to {request.plan.strategy}, which embeds nothing of the gallery",
            'leave out --all, or set plan.strategy = "fastfill" or "full" and plan again',
        )
    return _read_gallery(store, order, models.stored, report)


def _read_gallery(
    store: Store, order: FrozenOrder | None, kind: Modality, report: Report
) -> Iterator[_Item]:
    reader, done = store.reader(), 0
    chunks: Iterable[Sequence[PointId] | None] = [None]
    if order is not None:
        # Frozen from here on, so that the backfill asks for the files in their order.
        ids = order()[0]
        chunks = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
    for chunk in chunks:
        for batch in reader.read({"source"}, ids=chunk):
            contents = zip(batch["id"].to_pylist(), batch[kind.value].to_pylist(), strict=True)
            yield from (_Item(content, kind, point) for point, content in contents if content)
            done += len(batch)
            report("reading the gallery", done, store.facts.points)


def _finder_of(models: Models, missing: Model | None) -> Finder | None:
    """Return what finds the items that a model has no vectors of; None where none is named.

    Raises:
        ConfigError: The vectors of this model are not read from files.
    """
    if missing is None:
        return None
    found: Finder | None = getattr(
        models.old if missing == "old" else models.new, "find_missing", None
    )
    if found is None:
        raise ConfigError(
            f"--missing looks into the files of a precomputed model, which {missing}_model is not",
            f'leave it out, or set {missing}_model.encoder = "precomputed"',
        )
    return found


def _lacking(items: Iterator[_Item], find_missing: Finder) -> Iterator[_Item]:
    while some := list(islice(items, BATCH)):
        # The items of a part are all of points, or all without one.
        ids = None if some[0].id is None else [str(item.id) for item in some]
        lacks = find_missing([item.key for item in some], ids=ids)
        yield from compress(some, lacks)


def _once(items: Iterator[_Item], known: set[str], *, note: bool) -> Iterator[_Item]:
    """Leave out the items whose keys are known, and note the keys of the others."""
    for item in items:
        if item.key in known:
            continue
        if note:
            known.add(item.key)
        yield item


def _write(
    folder: Path, items: Iterator[_Item], name: Callable[[int], str], most: int
) -> ExportedDocument:
    """Write items as files of `most` rows."""
    files = rows = 0
    for first in items:
        some = chain([first], islice(items, most - 1))
        path = folder / name(files)
        write_atomically(path, partial(_write_file, items=some))
        rows += pq.read_metadata(path).num_rows
        files += 1
    return {"files": files, "rows": rows}


def _write_file(path: Path, items: Iterator[_Item]) -> None:
    with pq.ParquetWriter(path, SCHEMA) as file:
        while some := list(islice(items, BATCH)):
            columns = zip(*some, strict=True)
            file.write_table(
                pa.table([pa.array(each, pa.string()) for each in columns], schema=SCHEMA)
            )
