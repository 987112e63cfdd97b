"""One collection of several tenants: re-encoded tenant by tenant, and counted by tenant."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

pytestmark = pytest.mark.server
OLD, NEW = FakeEncoder(dimension=16, seed=1), FakeEncoder(dimension=24, seed=2)
SIZES = {"large": 120, "middle": 80, "small": 40, "": 20}
"""Tenant -> points; those of the last one have none."""
OWNERS = [name for name, count in SIZES.items() for _ in range(count)]
BACKFILL = ("backfill", "--online", "--fraction", "0.7")


class World:
    """A collection whose payload names tenants under `meta.tenant`."""

    def __init__(self, url: str, folder: Path, layout: str, *, indexed: bool = True) -> None:
        self.client = QdrantClient(url=url, check_compatibility=False)
        self.name, self.folder = fresh_name(), folder
        texts = [f"entry {number} that is embedded as text" for number in range(len(OWNERS))]
        sizes = {"old": 16} | ({"new": 24} if layout == "in_place" else {})
        create_collection(self.client, self.name, sizes)
        payloads = [
            {"text": text, "meta": {"tenant": owner} if owner else {}}
            for text, owner in zip(texts, OWNERS, strict=True)
        ]
        vectors = {"old": OLD.encode(texts, Modality.TEXT)}
        # Tenants lie mixed in the store's own order.
        ids = [number * 77 % len(OWNERS) for number in range(len(OWNERS))]
        fill_collection(self.client, self.name, ids, vectors, payloads)
        self.owner = {str(point): owner for point, owner in zip(ids, OWNERS, strict=True)}
        if indexed:
            kind = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            self.client.create_payload_index(self.name, "meta.tenant", kind, wait=True)
        for name, encoder in (("old", OLD), ("new", NEW)):
            write_vectors(folder / f"{name}.parquet", texts, encoder.encode(texts, Modality.TEXT))
        write_precomputed_config(
            *(folder, url, self.name),
            payload={"tenant": "meta.tenant"},
            plan={"strategy": "full", "layout": layout, "sample": 100},
        )
        answer_inside("plan", cwd=folder)

    def order(self) -> list[str]:
        """The tenants in the frozen order, of the points that were not paid for."""
        order = pq.read_table(next(self.folder.glob(".xbtmigrate/*/order.parquet")))
        unpaid = order.filter(pa.compute.invert(order["paid"]))["id"].to_pylist()
        return [owner for owner, _ in groupby(self.owner[each] for each in unpaid)]

    def refusal(self, *arguments: str) -> str:
        code, _, err = inside(*arguments, cwd=self.folder)
        assert code == 2
        return err


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_tenants_of_a_list_are_done_first(qdrant_url: str, tmp_path: Path, layout: str):
    world = World(qdrant_url, tmp_path, layout)
    assert answer_inside("status", cwd=tmp_path)["tenants"] is None
    (tmp_path / "first").write_text("small\n\n")
    run = (*BACKFILL, "--tenant-order", "first")
    answer_inside(*run, cwd=tmp_path)
    assert world.order() == ["small", "large", "middle", ""]
    tenants = answer_inside("status", cwd=tmp_path)["tenants"]
    assert (tenants["count"], tenants["complete"]) == (3, 1)
    rows = {each["tenant"]: each for each in tenants["listed"]}
    assert list(rows) == ["large", "middle", "small"]
    assert rows["small"] == {
        "tenant": "small", "points": 40, "projected": 0, "encoded": 40, "left": 0
    }  # fmt: skip
    assert rows["middle"]["left"] > 0
    # The rest of the order is done by the same command, which finds its order frozen.
    answer_inside(*run[:2], *run[4:], "--fraction", "1", cwd=tmp_path)
    tenants = answer_inside("status", cwd=tmp_path)["tenants"]
    assert [each["encoded"] for each in tenants["listed"]] == [120, 80, 40]
    assert tenants["complete"] == 3
    (tmp_path / "first").write_text("large\n")
    assert "frozen with another order of tenants" in world.refusal(*run)


def test_tenants_with_the_most_traffic_are_done_first(qdrant_url: str, tmp_path: Path):
    world = World(qdrant_url, tmp_path, "in_place")
    points = {owner: point for point, owner in world.owner.items()}
    log = {"id": [points["middle"], points["small"], points[""]], "hits": [3, 2, 9]}
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    run = (*BACKFILL, "--tenant-order", "traffic")
    assert "needs a log" in world.refusal(*run)
    answer_inside(*run, "--demand", "log.parquet", cwd=tmp_path)
    assert world.order() == ["middle", "small", "large", ""]
    code, out, _ = inside("status", cwd=tmp_path)
    assert code == 0
    assert "tenants complete" in out
    assert "large" in out[out.index("tenants with points left") :].splitlines()[0]


def test_orders_that_cannot_be_are_refused_before_anything_is_written(
    qdrant_url: str, tmp_path: Path
):
    world = World(qdrant_url, tmp_path, "in_place", indexed=False)
    run = (*BACKFILL, "--tenant-order", "first")
    (tmp_path / "first").write_text("small\n")
    assert "has no index" in world.refusal(*run)
    world.client.create_payload_index(world.name, "meta.tenant", "keyword", wait=True)
    assert "neither 'traffic' nor a file" in world.refusal(*run[:-1], "second")
    (tmp_path / "first").write_text("\n")
    assert "names no tenant" in world.refusal(*run)
    (tmp_path / "first").write_text("small\nsmal\n")
    assert "1 tenants that no point has in 'meta.tenant': smal" in world.refusal(*run)
    assert "this run embeds none" in world.refusal(*run[:3], "0", *run[4:])
    config = tmp_path / "xbtmigrate.toml"
    config.write_text(config.read_text().replace('tenant = "meta.tenant"', ""))
    assert "payload.tenant does not say" in world.refusal(*run)
    assert answer_inside("status", cwd=tmp_path)["phase"] == "planned"
