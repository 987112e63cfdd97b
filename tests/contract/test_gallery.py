"""One contract for every gallery: the fake, and both layouts on both kinds of Qdrant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from qdrant_client import models

from tests.support.collections import QdrantStore, vectors
from xbtmigrate.backfill.pace import Limits, Pace
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.testing.fake_gallery import FakeGallery, FakePoint
from xbtmigrate.testing.galleries import GalleryContract
from xbtmigrate.types import Layout


class FakeStore:
    def __init__(self) -> None:
        self.points: dict[str, FakePoint] = {}

    def gallery(self, plan: str = "plan-a") -> Gallery:
        return FakeGallery(self.points, sizes=(4, 3), plan=plan, page=2)

    def upsert(self, point_id: str, text: str | None, old: Sequence[float]) -> None:
        self.points[point_id] = FakePoint(text, np.array(old, dtype=np.float32))

    def change_text(self, point_id: str, text: str) -> None:
        self.points[point_id].text = text

    def change_vector(self, point_id: str, old: Sequence[float]) -> None:
        self.points[point_id].old = np.array(old, dtype=np.float32)

    def delete(self, point_id: str) -> None:
        del self.points[point_id]


class PacedStore(FakeStore):
    """The fake behind a pace that splits nearly every write and waits between requests."""

    def gallery(self, plan: str = "plan-a") -> Gallery:
        pace = Pace(Limits(1.5, 1e5), 2, lambda _: None)
        pace.share = 0.5
        return PacedGallery(super().gallery(plan), pace)


class TestPacedGallery(GalleryContract):
    @pytest.fixture
    def store(self) -> PacedStore:
        return PacedStore()


class TestFakeGallery(GalleryContract):
    @pytest.fixture
    def store(self) -> FakeStore:
        return FakeStore()


UNNAMED = models.VectorParams(size=4, distance=models.Distance.DOT)


class TestEmbeddedInPlace(GalleryContract):
    @pytest.fixture
    def store(self, embedded_db: Connection) -> QdrantStore:
        return QdrantStore.create(embedded_db, Layout.IN_PLACE, vectors(old=4))


class TestEmbeddedShadow(GalleryContract):
    @pytest.fixture
    def store(self, embedded_db: Connection) -> QdrantStore:
        return QdrantStore.create(embedded_db, Layout.SHADOW, UNNAMED)


@pytest.mark.server
class TestServerInPlace(GalleryContract):
    @pytest.fixture
    def store(self, server_db: Connection, grpc_db: Connection) -> QdrantStore:
        return QdrantStore.create(server_db, Layout.IN_PLACE, vectors(old=4, new=3), grpc_db)


@pytest.mark.server
class TestServerShadowOfUnnamed(GalleryContract):
    @pytest.fixture
    def store(self, server_db: Connection, grpc_db: Connection) -> QdrantStore:
        return QdrantStore.create(server_db, Layout.SHADOW, UNNAMED, grpc_db)


@pytest.mark.server
class TestServerShadowOfNamed(GalleryContract):
    @pytest.fixture
    def store(self, server_db: Connection, grpc_db: Connection) -> QdrantStore:
        return QdrantStore.create(server_db, Layout.SHADOW, vectors(old=4, other=2), grpc_db)


@pytest.mark.server
class TestGrpcInPlace(GalleryContract):
    @pytest.fixture
    def store(self, grpc_db: Connection) -> QdrantStore:
        return QdrantStore.create(grpc_db, Layout.IN_PLACE, vectors(old=4, new=3))


@pytest.mark.server
class TestGrpcShadow(GalleryContract):
    @pytest.fixture
    def store(self, grpc_db: Connection) -> QdrantStore:
        return QdrantStore.create(grpc_db, Layout.SHADOW, UNNAMED)
