"""Publish what applications need for queries: store it in Qdrant, beside the journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.serve import PublishDocument
from xbtmigrate.migration.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.gallery.store_hubness import (
    index_numbers,
    scroll_points_without,
    store_numbers,
)
from xbtmigrate.qdrant.journal.published import Published, fetch, publish
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.scoring.hubness import StoredHubness, compute_stored_hubness, key_of
from xbtmigrate.serving.artefact_source import names_of
from xbtmigrate.types import MADE, Channel, Direction, Kind, Layout, vectors_of
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.trial import ChannelVectors
from xbtmigrate.workflows.next_step import next_step
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.workspace import artefacts_of

PUBLISHED = next_step(None, "Applications find it by themselves (docs/serving.md).")
BANK_ROWS = 256
"""Most known queries that are published; they translate score thresholds."""


def run(config: Config, *, yes: bool) -> PublishDocument:
    """Publish the artefacts that serving needs.

    Args:
        config: The settings.
        yes: Whether to act; otherwise only returns what would be stored.

    Raises:
        ArtefactError: There is no plan.
    """
    with open_store(config) as store:
        artefacts = artefacts_of(config)
        plan = artefacts.load_plan()
        files = _files(artefacts, plan)
        sizes = {name: len(data) for name, data in files.items()}
        published = _published(store.connection, plan, files) if yes else None
    return {
        "published": yes,
        "digest": published.digest if published else None,
        "files": sizes,
        "bytes": sum(sizes.values()),
        **(PUBLISHED if yes else next_step("xbtmigrate publish --yes")),
    }


def publish_artefacts(connection: Connection, artefacts: Artefacts, plan: Plan) -> None:
    """Publish plan, projectors, calibration and hubness, if they exist."""
    _published(connection, plan, _files(artefacts, plan))


def find_lost_files(connection: Connection, artefacts: Artefacts, digest: str) -> dict[Path, bytes]:
    """Return published files of a plan that the folder of artefacts lacks, by their places.

    Args:
        connection: The open Qdrant.
        artefacts: The migration's folder.
        digest: Digest of the plan that the migration was begun under.
    """
    with TemporaryDirectory(prefix="xbtmigrate-") as name:
        # Into a temporary folder first: files of another plan must not mix with those here.
        published = Artefacts(Path(name))
        found = fetch(connection, artefacts.folder.name, published.folder)
        if not found or published.load_plan().digest != digest:
            return {}
        files = [each for each in published.folder.rglob("*") if each.is_file()]
        places = {artefacts.folder / each.relative_to(published.folder): each for each in files}
        return {place: file.read_bytes() for place, file in places.items() if not place.exists()}


def store_hubness(store: Store, artefacts: Artefacts, plan: Plan, report: Report) -> None:
    """Store, on each point that this plan has marked, the calibration's correction for its hubness.

    Points that have one are skipped. Nothing is done if no calibration belongs to the projectors,
    or if it does not correct for hubness.
    """
    calibration = artefacts.load_calibration()
    if calibration is None or not _corrects(calibration):
        return
    key, collection = key_of(calibration), plan.target.collection
    before = artefacts.load_hubness()
    # Corrections of another calibration have another key, so their means do not count either.
    if before is None or before.key != key:
        before = StoredHubness(key)
    gallery, connection = store.gallery(plan), store.connection
    # A formula reads the number in place; strict mode filters on nothing that has no index.
    needed = plan.target.layout == Layout.IN_PLACE or not store.facts.unindexed_filters
    if needed and not connection.embedded:
        index_numbers(connection, collection, key)
    # The means stand in for points that have no number yet, such as those written since.
    sums = {kind: [0.0, 0] for kind in MADE}
    # Under custom sharding a write must name the shard key, so points are read by key.
    shards = store.facts.shard_keys or (None,)
    for shard, ids in scroll_points_without(connection, collection, plan.digest, key, shards):
        found = _numbers(store, gallery, calibration, ids)
        # These points lack a vector or have changed since their mark: a later run stores theirs.
        if not len(found[0]):
            continue
        store_numbers(connection, collection, plan.digest, key, found, shard=shard)
        for kind, number in zip(found[1], found[2], strict=True):
            sums[kind][0] += float(number)
            sums[kind][1] += 1
        done = int(sum(count for _, count in sums.values()))
        report("storing hubness", done, max(done, store.facts.points))
    means = {kind: total / count for kind, (total, count) in sums.items() if count}
    projected = means.get(Kind.PROJECTED, before.projected)
    # Until there are re-encoded points, the other state's mean is the best guess for theirs.
    encoded = means.get(Kind.ENCODED, before.encoded or projected)
    artefacts.save_hubness(StoredHubness(key, encoded, projected))


def _numbers(
    store: Store, gallery: Gallery, calibration: Calibration, ids: list[str]
) -> tuple[list[str], list[Kind], Any]:
    """Return ids, kinds and numbers of the points with both vectors and a current mark."""
    made = pa.array([kind.value for kind in MADE])
    batches = [
        batch.filter(pc.and_(pc.is_in(batch["kind"], made), pc.is_valid(batch["old"])))
        for batch in gallery.read({"kind", "old", "new"}, ids=ids)
    ]
    members: list[str] = []
    kinds: list[Kind] = []
    numbers: list[Any] = []
    for batch in (each for each in batches if each.num_rows):
        old, new = vectors_of(batch, "old"), vectors_of(batch, "new")
        # The stored vector serves both channels: a point is either projected or encoded.
        sides = ChannelVectors(old, new, new, store.facts.distance, store.new_distance)
        those = [Kind(kind) for kind in batch["kind"].to_pylist()]
        names = batch["id"].to_pylist()
        scored = sides.scored(calibration.bank, (Channel.OLD, Channel.NEW))
        members += names
        kinds += those
        numbers.append(compute_stored_hubness(calibration, names, scored, those))
    return members, kinds, np.concatenate(numbers) if numbers else []


def _corrects(calibration: Calibration) -> bool:
    fusion = calibration.fusion
    return any(each.hubness for each in (*fusion.waiting.values(), *fusion.encoded.values()))


def _published(connection: Connection, plan: Plan, files: dict[str, bytes]) -> Published:
    names = sorted(names_of(plan))
    return publish(connection, plan.migration, names, plan.collection.vector, files)


def _files(artefacts: Artefacts, plan: Plan) -> dict[str, bytes]:
    """Collect the files, without what only training and ordering need."""
    with TemporaryDirectory(prefix="xbtmigrate-") as name:
        fresh = Artefacts(Path(name))
        fresh.save_plan(plan)
        for direction in Direction:
            folder = artefacts.projector_folder(direction)
            if folder.exists():
                projector = Projector.load(folder)
                if direction is Direction.BRIDGE:
                    # Neither an order nor a query needs a bridge's error estimate.
                    projector = replace(projector, error=None)
                # The forward one stays whole: the journal names it, and it may have to be restored.
                projector.save(fresh.projector_folder(direction))
        fresh.save_centring(Centring.load(artefacts.serving_folder))
        calibration = artefacts.load_calibration()
        if calibration is not None:
            # Hubness is stored on the points, so searchers need the bank only for thresholds.
            fresh.save_calibration(replace(calibration, bank=calibration.bank.first(BANK_ROWS)))
            hubness = artefacts.load_hubness()
            # Compared with the full bank: its queries are part of the key, and the cut one differs.
            if hubness is not None and hubness.key == key_of(calibration):
                fresh.save_hubness(hubness)
        paths = sorted(path for path in fresh.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(fresh.folder)): path.read_bytes() for path in paths}
