"""A backfilled collection that is switched, in any mode, and the application that uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside

MODES = ["server-in_place", "server-shadow", "embedded-in_place", "embedded-shadow"]


class Place:
    """One collection; opened for a moment at a time, because an embedded one can be open once.

    A shadow's application reads the alias `live-NAME`.
    """

    def __init__(self, mode: str, url: str, folder: Path, clipart: Clipart) -> None:
        kind, self.layout = mode.split("-")
        self.folder, self.name, self.embedded = folder, fresh_name(), kind == "embedded"
        self.url = "" if self.embedded else url
        self.shadow = self.layout == "shadow"
        self.target = f"{self.name}__xbtmigrate" if self.shadow else self.name
        self.alias = f"live-{self.name}"
        self.live = self.alias if self.shadow else self.name
        self.clipart = clipart
        client = self.open()
        clipart.fill(client, self.name, both=not (self.shadow or self.embedded))
        alias = models.CreateAlias(collection_name=self.name, alias_name=self.alias)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        client.close()
        write_config(folder, url or "path:qdrant", self.live, layout=self.layout)
        answer_inside("plan", cwd=folder)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "200", cwd=folder)
        answer_inside("backfill", "--online", "--fraction", "0.5", cwd=folder)

    def open(self) -> QdrantClient:
        if self.url:
            return QdrantClient(url=self.url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def run(self, *arguments: str, expect: int | None = 0) -> dict:
        return answer_inside(*arguments, cwd=self.folder, expect=expect)

    def leads_to(self) -> str:
        """Where the application's alias leads."""
        client = self.open()
        found = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
        client.close()
        return found[self.alias]

    def points(self, collection: str, vector: str) -> dict[int, tuple[np.ndarray | None, dict]]:
        """Vector, if there is one, and payload of every point, without the tool's own key."""
        client = self.open()
        records, _ = client.scroll(collection, limit=10_000, with_vectors=True)
        client.close()
        return {
            record.id: (
                np.array(record.vector[vector], np.float32) if vector in record.vector else None,
                {key: value for key, value in record.payload.items() if key != "_xbtmigrate"},
            )
            for record in records
        }

    def upsert(self, point: int, row: int, model: str, collection: str = "") -> None:
        """Store a point with the content of a row of the corpus, as an application does."""
        client = self.open()
        vector = getattr(self.clipart, model)[row].tolist()
        client.upsert(
            collection or self.live,
            [
                models.PointStruct(
                    id=point, vector={model: vector}, payload=self.clipart.payloads[row]
                )
            ],
            wait=True,
        )
        client.close()

    def delete(self, point: int, collection: str = "") -> None:
        client = self.open()
        client.delete(collection or self.live, [point], wait=True)
        client.close()
