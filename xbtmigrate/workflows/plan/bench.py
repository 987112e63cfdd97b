"""Run `bench`: measure each stage on the user's server, and predict whole runs from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.goal import Goal
from xbtmigrate.backfill.order_file import write_sorted
from xbtmigrate.config import Config
from xbtmigrate.documents.plan import BenchDocument, PredictionDocument
from xbtmigrate.errors import CollectionError, PluginError
from xbtmigrate.files import read_json, write_json
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.layout import NewSpace
from xbtmigrate.qdrant.gallery.scratch import scratch_gallery
from xbtmigrate.qdrant.wire.connect import check_writable
from xbtmigrate.types import (
    Kind,
    Layout,
    PointId,
    make_batch,
    vector_array,
    vectors_of,
)
from xbtmigrate.workflows.backfill.frozen_order import score_all_points
from xbtmigrate.workflows.encode_points import Report, encode_readable
from xbtmigrate.workflows.evaluate.rates import Rates
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.plan.bench_loop import BenchMap, load_map, run_loop
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.workspace import Workspace

ENCODED = 256
"""Most points encoded to measure the encoder, in at most `SECONDS`."""
SECONDS = 20.0
WARMING = 16
"""Points written before anything is timed."""
MIN_POINTS = 32
"""Fewest points re-encoded to measure the loop with the encoder in it."""


@dataclass(frozen=True, slots=True)
class _StoredBench:
    """The keys of a stored bench that a plan reads."""

    points_per_second: Rates
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Sample:
    """Points that were read, and the projector that makes their new vectors."""

    batches: Sequence[pa.RecordBatch]
    projector: BenchMap

    @property
    def ids(self) -> list[PointId]:
        return [point for batch in self.batches for point in batch["id"].to_pylist()]

    def projected(self) -> list[pa.RecordBatch]:
        """Return the points with new vectors, ready to be written."""
        return [_to_write(self.projector, each) for each in self.batches]


def bench(config: Config, *, write: bool, sample: int, report: Report) -> BenchDocument:
    """Measure on part of the collection.

    Args:
        config: The settings.
        write: Also write, into collections that are created for it and deleted afterwards.
        sample: Points to measure on, at most.
        report: Called with progress.

    Raises:
        CollectionError: No point has an old vector.
        XbtMigrateError: The server, the collection or a model cannot be used.
    """
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        batches, read = _read(store, sample, report)
        projector = load_map(store.facts, models, workspace.artefacts)
        project = _project(projector, batches)
        layout = store.layout(models.new.dimension, resuming=True).layout
        alone = Rates(read, project, _encode(models, batches))
        rates = alone
        if write:
            check_writable(store.connection, store.facts.collection)
            rates = _writing(
                store,
                models,
                workspace,
                _Sample(batches, projector),
                layout,
                alone=alone,
                report=report,
            )
        measured: BenchDocument = {
            "points": store.facts.points,
            "sample": sum(map(len, batches)),
            "layout": layout,
            "projector": projector.name,
            "points_per_second": rates.document(),
            "predicted_seconds": _predict(rates, store.facts.points),
        }
        if write:
            write_json(_file(workspace.artefacts), measured)
    return measured


def _predict(rates: Rates, points: int) -> list[PredictionDocument]:
    return [
        {
            "strategy": strategy,
            "fraction": spec.fraction,
            "seconds": rates.seconds(strategy, points, round(spec.fraction * points)),
        }
        for strategy, spec in STRATEGIES.items()
    ]


def load_measured_rates(artefacts: Artefacts, layout: Layout) -> Rates | None:
    """Return the rates of the last `bench --yes` in this layout; None without one."""
    try:
        found = read_json(_file(artefacts), _StoredBench, "delete it, or run bench --yes again")
    except FileNotFoundError:
        return None
    # A bench without --yes writes nothing, so it has no rate for most stages.
    whole = None not in found.points_per_second.document().values()
    return found.points_per_second if whole and found.layout is layout else None


def _file(artefacts: Artefacts) -> Path:
    return artefacts.folder / "bench.json"


def _read(store: Store, sample: int, report: Report) -> tuple[list[pa.RecordBatch], float]:
    """Read at most `sample` points; returns those with an old vector, and the rate.

    Raises:
        CollectionError: No point has an old vector.
    """
    batches: list[pa.RecordBatch] = []
    seen, start = 0, time.monotonic()
    for batch in store.reader().read({"source", "old"}):
        batches.append(batch)
        seen += len(batch)
        report("reading", min(seen, sample), sample)
        if seen >= sample:
            break
    rate = seen / max(time.monotonic() - start, 1e-9)
    # After computing the rate: points without a vector take time to read too.
    batches = [batch.filter(pc.is_valid(batch["old"])) for batch in batches]
    if not sum(map(len, batches)):
        raise CollectionError(
            f"no point of '{store.facts.collection}' has an old vector", "check qdrant.vector"
        )
    return batches, rate


def _project(projector: BenchMap, batches: Sequence[pa.RecordBatch]) -> float:
    # The first call loads libraries and starts threads, so it is not timed.
    projector.apply(vectors_of(batches[0], "old"))
    seconds = _timed(lambda: [projector.apply(vectors_of(batch, "old")) for batch in batches])
    return sum(map(len, batches)) / seconds


def _encode(models: Models, batches: Sequence[pa.RecordBatch]) -> float:
    """Encode some points, after a few that only warm the model up."""
    table = pa.Table.from_batches(batches)
    contents = table[models.stored.value].to_pylist()
    usable = [row for row, content in enumerate(contents) if content][: ENCODED + 4]
    ids = table["id"].to_pylist()

    def encode(rows: Sequence[int]) -> int:
        _, done = encode_readable(
            models.new,
            [contents[row] for row in rows],
            models.stored,
            ids=[ids[row] for row in rows],
        )
        return int(done.sum())

    encode(usable[:4])
    encoded, start = 0, time.monotonic()
    # In small parts, so that the time limit also holds for a slow model.
    for first in range(4, len(usable), 32):
        encoded += encode(usable[first : first + 32])
        if time.monotonic() - start > SECONDS:
            break
    # One at least: a rate of 0 would predict a run without an end.
    return max(encoded, 1) / max(time.monotonic() - start, 1e-9)


def _writing(
    store: Store,
    models: Models,
    workspace: Workspace,
    sample: _Sample,
    layout: Layout,
    *,
    alone: Rates,
    report: Report,
) -> Rates:
    """Measure the stages that write, on copies of the points in temporary collections."""
    ids, ready = sample.ids, sample.projected()
    points = len(ids)
    few = max(1, min(points // 2, max(MIN_POINTS, round(alone.encode * SECONDS / 2))))
    space = NewSpace("new", ready[0]["new"].type.list_size, store.new_distance)
    scratch = partial(
        scratch_gallery,
        *(store.connection, store.facts, layout, space, sample.batches),
        stored=models.stored,
    )

    def loop(gallery: Gallery, fraction: float, *, projects: bool) -> float:
        goal = Goal(fraction, projects, max_quarantined=1.0)
        run = partial(run_loop, models, gallery, sample.projector, goal, ids=ids)
        return _timed(partial(run, batch_size=ENCODED, report=report))

    # The first write opens the connection, so it is not timed.
    with scratch() as gallery:
        gallery.write(ready[0].slice(0, WARMING), Kind.ENCODED)
        fill = loop(gallery, few / points, projects=False)
        fill -= min(_sweep(gallery, Kind.ENCODED, ids[:few]), fill / 2)
        write = _timed(lambda: [gallery.write(each, Kind.ENCODED) for each in ready])
        swept = _sweep(gallery, Kind.ENCODED)
    with scratch() as gallery:
        gallery.write(ready[0].slice(0, WARMING), Kind.PROJECTED)
        forward = loop(gallery, 0.0, projects=True)
        order = _timed(lambda: _put_into_order(workspace, gallery, sample.projector.projector))
        reencode = loop(gallery, few / points, projects=True)
        reencode -= min(_sweep(gallery, Kind.PROJECTED), reencode / 2)
    return replace(
        alone,
        write=points / write,
        sweep=points / swept,
        order=points / order,
        forward=points / forward,
        fill=few / fill,
        reencode=few / reencode,
    )


def _sweep(gallery: Gallery, made: Kind, ids: Sequence[PointId] | None = None) -> float:
    """Read once more as the last passes of a backfill do; returns the seconds."""
    return _timed(lambda: list(gallery.read({"source", "kind"}, ids=ids, expected=made)))


def _put_into_order(workspace: Workspace, gallery: Gallery, projector: Projector | None) -> None:
    """Put all points into the order of the plan, as a backfill does, or into a random one."""
    name = "random"
    if projector is not None and workspace.artefacts.plan_file.exists():
        name = workspace.artefacts.load_plan().ordering
    # The plan's ordering may need a projector or a plugin that is not there yet.
    try:
        ordering = workspace.ordering(name, projector)
    except PluginError:
        ordering = workspace.ordering("random", None)
    with TemporaryDirectory(prefix="xbtmigrate-") as folder:
        batches = score_all_points(gallery, ordering, workspace.cache)
        write_sorted(Path(folder) / "order.parquet", batches, name)


def _timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return max(time.monotonic() - start, 1e-9)


def _to_write(projector: BenchMap, batch: pa.RecordBatch) -> pa.RecordBatch:
    new = vector_array(projector.apply(vectors_of(batch, "old")))
    ids, hashes = batch["id"].to_pylist(), batch["content_hash"]
    return make_batch(ids, content_hash=hashes, old=batch["old"], new=new)
