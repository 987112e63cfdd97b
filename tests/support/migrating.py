"""A small migration in any stage, with both models' vectors, to be searched by an application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, vectors, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import load_config
from xbtmigrate.evaluation.retrieval import SearchSpace, rank_top_k
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.fusion import CalibratedServing
from xbtmigrate.types import Direction, Distance, Kind
from xbtmigrate.workflows.evaluate.trial import ChannelVectors
from xbtmigrate.workflows.store import open_store
from xbtmigrate.workflows.workspace import artefacts_of


def old_model(items: Sequence[str]) -> np.ndarray:
    return vectors("old", list(items))


def new_model(items: Sequence[str]) -> np.ndarray:
    return vectors("new", list(items))


@dataclass(frozen=True, slots=True)
class Migrating:
    """A planned and trained migration of the small clip-art collection."""

    url: str
    name: str
    folder: Path
    clipart: Clipart

    @classmethod
    def start(
        cls, client: QdrantClient, url: str, folder: Path, *, layout: str, count: int
    ) -> Migrating:
        clipart, name = Clipart.load(count), fresh_name()
        clipart.fill(client, name, both=layout == "in_place")
        write_config(folder, url, name, layout=layout)
        answer_inside("plan", cwd=folder)
        answer_inside("train-projector", "--kind", "procrustes,ridge", cwd=folder)
        return cls(url, name, folder, clipart)

    def backfill(self, fraction: float) -> None:
        answer_inside("backfill", "--online", "--fraction", str(fraction), cwd=self.folder)

    @property
    def shadow(self) -> str:
        """Name of the shadow, "" in place."""
        plan = self.artefacts.load_plan()
        return plan.target.collection if plan.target.layout == "shadow" else ""

    @property
    def artefacts(self) -> Artefacts:
        return Artefacts(self.folder / ".xbtmigrate" / f"{self.name}-old")

    def encoded(self, client: QdrantClient, collection: str) -> np.ndarray:
        """Which points are re-encoded, by the marks in the collection."""
        records = client.retrieve(collection, self.clipart.ids, with_payload=True)
        kinds = {record.id: record.payload["_xbtmigrate"]["kind"] for record in records}
        return np.array([kinds[point] == "encoded" for point in self.clipart.ids])

    def expected(
        self, texts: list[str], encoded: np.ndarray, k: int, *, old_model_runs: bool = True
    ) -> list[list[int]]:
        """The calibrated answers over the whole gallery, computed as an evaluation does."""
        calibration = self.artefacts.load_calibration()
        bridge, forward = (
            Projector.load(self.artefacts.projector_folder(direction)) for direction in Direction
        )
        clipart = self.clipart
        sides = ChannelVectors(
            clipart.old, forward.apply(clipart.old), clipart.new, Distance.COSINE, Distance.COSINE
        )
        hubs = sides.hubness(calibration.bank, [str(each) for each in clipart.ids])
        new = new_model(texts)
        blocks = sides.blocks(old_model(texts), new, bridge.apply(new))
        serving = CalibratedServing(calibration.fusion, hubs)
        if not old_model_runs:
            serving = CalibratedServing(calibration.bridged, {})
        scores = serving.score(blocks, encoded)
        return [[clipart.ids[row] for row in rows] for rows in rank_top_k(scores, k)]

    def nearest(self, queries: np.ndarray, gallery: np.ndarray, k: int) -> list[list[int]]:
        """The nearest points of one space."""
        rows = rank_top_k(SearchSpace(queries, gallery).score(), k)
        return [[self.clipart.ids[row] for row in each] for each in rows]


def marked(folder: Path, kind: Kind) -> int:
    """Points that the tool itself would take for done."""
    config = load_config(folder / "xbtmigrate.toml")
    with open_store(config) as opened:
        plan = artefacts_of(config).load_plan()
        batches = list(opened.gallery(plan).read({"kind"}))
    return sum(batch["kind"].to_pylist().count(kind) for batch in batches)
