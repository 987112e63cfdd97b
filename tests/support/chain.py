"""One collection that moves from model to model, and the application that uses it all the while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.corpus import write_vectors
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

SIZE, COUNT = 16, 120
NAMES = ("v1", "v2", "v3", "v4")


class Chain:
    """Named vectors v1, v2 and so on in place; in shadows the unnamed one behind an alias."""

    def __init__(self, url: str, layout: str, folder: Path) -> None:
        self.url, self.shadow, self.folder = url, layout == "shadow", folder
        self.layout, self.name = layout, fresh_name()
        self.live = f"live-{self.name}" if self.shadow else self.name
        self.texts = [f"entry {number} of a list" for number in range(COUNT)]
        self.vectors = [
            FakeEncoder(dimension=SIZE, seed=seed).encode(self.texts, Modality.TEXT)
            for seed in range(len(NAMES))
        ]
        for name, rows in zip(NAMES, self.vectors, strict=True):
            write_vectors(folder / f"{name}.parquet", self.texts, rows)
        self._fill()

    def open(self) -> QdrantClient:
        """Open the database for a moment: an embedded one can be open once."""
        if self.url:
            return QdrantClient(url=self.url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def folder_of(self, step: int) -> Path:
        """Folder of the configurations; migrations of one name share it."""
        folder = self.folder / ("one" if self.shadow else f"step-{step}")
        folder.mkdir(exist_ok=True)
        return folder

    def configure(self, step: int, *, strategy: str, **changed: str) -> Path:
        """Write the configuration of the migration from model `step` to the next.

        Args:
            step: Number of the old model.
            strategy: The strategy.
            changed: `collection` and `folder` in place of the usual ones.
        """
        old, new = NAMES[step], NAMES[step + 1]
        folder = self.folder / changed.get("folder", self.folder_of(step).name)
        folder.mkdir(exist_ok=True)
        names = f'vector = "{old}"\nnew_vector = "{new}"\n'
        if self.shadow:
            names = 'vector = ""\n'
        url = self.url or f"path:{self.folder / 'qdrant'}"
        (folder / "xbtmigrate.toml").write_text(
            f'[qdrant]\nurl = "{url}"\ncollection = "{changed.get("collection", self.live)}"\n'
            f'{names}[payload]\ntext = "text"\n'
            f'[old_model]\nencoder = "precomputed"\npath = "../{old}.parquet"\nstored = "text"\n'
            f'[new_model]\nencoder = "precomputed"\npath = "../{new}.parquet"\n'
            f'[plan]\nstrategy = "{strategy}"\nlayout = "{self.layout}"\nsample = 100\n',
            "utf-8",
        )
        return folder

    def run(self, step: int, *arguments: str, expect: int = 0) -> dict[str, Any]:
        return answer_inside(*arguments, cwd=self.folder_of(step), expect=expect)

    def begin(self, step: int, *, strategy: str = "fastfill") -> None:
        """Plan, train where the strategy needs it, and re-encode a part."""
        self.configure(step, strategy=strategy)
        self.run(step, "plan")
        if strategy != "full":
            self.run(step, "train-projector", "--kind", "ridge", "--pairs", "60")
        self.run(step, "backfill", "--online", "--fraction", "0.5")

    def end(self, step: int) -> dict[str, Any]:
        """Go on to the end."""
        self.run(step, "backfill", "--online", "--fraction", "1")
        self.run(step, "verify")
        # Both models have vectors of one length, which a shadow's readers find without a name.
        changed = ("--readers-send-new-vectors",) if self.shadow else ()
        self.run(step, "cutover", "--yes", *changed)
        return self.run(step, "finalize", "--confirm", self.live, "--no-snapshot", "--notice", "0")

    def place(self, step: int) -> tuple[str, str]:
        """Collection and vector that hold the vectors of a model."""
        if not self.shadow:
            return self.name, NAMES[step]
        return self.name + ("", "__xbtmigrate", "__xbtmigrate2", "__xbtmigrate3")[step], ""

    def check(self, step: int) -> None:
        """Every point is there with its payload and the vector of this model, and no more."""
        client, (collection, vector) = self.open(), self.place(step)
        records, _ = client.scroll(collection, limit=COUNT + 1, with_vectors=True)
        client.close()
        assert {record.id: record.payload for record in records} == {
            row + 1: {"text": text, "kept": row} for row, text in enumerate(self.texts)
        }
        for record in records:
            found = record.vector if self.shadow else record.vector.pop(vector)
            np.testing.assert_allclose(found, self.vectors[step][record.id - 1], atol=2e-5)
            assert self.shadow or record.vector == {}

    def answers(self, step: int, *, folder: Path | None = None) -> list[int]:
        """Best answers of a searcher whose application has the models around `step`."""
        client = self.open()
        searcher = MigrationSearcher.open(client, self.live, folder=folder)
        rows = range(0, COUNT, 40)
        found = [
            searcher.search(
                vector=self.vectors[min(step + 1, len(NAMES) - 1)][row],
                old_vector=self.vectors[step][row],
                limit=1,
            )[0].id
            for row in rows
        ]
        client.close()
        return [point - 1 - row for point, row in zip(found, rows, strict=True)]

    def _fill(self) -> None:
        client = self.open()
        config = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
        # A server before 1.18 cannot add a name, the embedded mode can.
        named = dict.fromkeys(NAMES if self.url else NAMES[:1], config)
        client.create_collection(self.name, vectors_config=config if self.shadow else named)
        points = [
            models.PointStruct(
                id=row + 1,
                vector=vector.tolist() if self.shadow else {NAMES[0]: vector.tolist()},
                payload={"text": text, "kept": row},
            )
            for row, (text, vector) in enumerate(zip(self.texts, self.vectors[0], strict=True))
        ]
        client.upsert(self.name, points, wait=True)
        if self.shadow:
            alias = models.CreateAlias(collection_name=self.name, alias_name=self.live)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        client.close()
