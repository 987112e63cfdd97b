"""Collections for the tests, and an application that uses them while they are migrated."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import QdrantClient, models

from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.facts import inspect
from xbtmigrate.qdrant.gallery.create import prepare
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.types import Distance, Layout, Modality

TEXT = EmbeddedFields(text="text", image=None, stored=Modality.TEXT)
NEW = NewSpace("new", 3, Distance.DOT)


def fresh_name() -> str:
    """Return a name that no other test uses."""
    return f"c{uuid.uuid4().hex[:12]}"


def embedded(folder: Path) -> Connection:
    """Make an empty embedded database and open it."""
    QdrantClient(path=str(folder)).close()
    return connect(f"path:{folder}")


def vectors(**sizes: int) -> dict[str, models.VectorParams]:
    """Describe named dense vectors with distance Dot."""
    return {
        name: models.VectorParams(size=size, distance=models.Distance.DOT)
        for name, size in sizes.items()
    }


@dataclass(slots=True)
class QdrantStore:
    """One collection and the application that owns it; points are whole and have the vector old.

    Attributes:
        connection: Where it lives.
        layout: Layout of its migration.
        name: Its name.
        application: How the application writes, if not over the same connection.
    """

    connection: Connection
    layout: Layout
    name: str
    application: Connection | None = None

    @classmethod
    def create(
        cls,
        connection: Connection,
        layout: Layout,
        config: Mapping[str, models.VectorParams] | models.VectorParams,
        application: Connection | None = None,
    ) -> QdrantStore:
        name = fresh_name()
        connection.client.create_collection(name, vectors_config=config)
        return cls(connection, layout, name, application)

    @property
    def old(self) -> str:
        """Name of the old vector."""
        config = self.connection.client.get_collection(self.name).config.params.vectors
        return "" if isinstance(config, models.VectorParams) else "old"

    def gallery(self, plan: str = "plan-a") -> Gallery:
        facts = inspect(self.connection, self.name, self.old)
        choice = choose_layout(facts, self.connection, self.layout, NEW, resuming=True)
        prepare(self.connection, facts, choice)
        return open_gallery(self.connection, facts, choice, TEXT, plan)

    def upsert(self, point_id: str, text: str | None, old: Sequence[float]) -> None:
        self.put(point_id, {"other": {"kept": [1, 2]}, "text": text}, old)

    def put(self, point_id: str, payload: Mapping[str, object], old: Sequence[float]) -> None:
        """Upsert a whole point."""
        vector: models.VectorStruct = list(old)
        if self.old:
            vector = {self.old: list(old)}
        point = models.PointStruct(id=native(point_id), vector=vector, payload=dict(payload))
        writing = self.application or self.connection
        writing.client.upsert(self.name, [point], wait=True)

    def change_text(self, point_id: str, text: str) -> None:
        self.connection.client.set_payload(
            self.name, {"text": text}, points=[native(point_id)], wait=True
        )

    def change_vector(self, point_id: str, old: Sequence[float]) -> None:
        vector: models.VectorStruct = {self.old: list(old)} if self.old else list(old)
        point = models.PointVectors(id=native(point_id), vector=vector)
        self.connection.client.update_vectors(self.name, [point], wait=True)

    def delete(self, point_id: str) -> None:
        self.connection.client.delete(
            self.name, models.PointIdsList(points=[native(point_id)]), wait=True
        )


def native(point_id: str) -> int | str:
    """Return the id as Qdrant takes it."""
    return int(point_id) if point_id.isdecimal() else point_id
