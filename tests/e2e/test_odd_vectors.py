"""Vectors that are no numbers, and items that no model takes, cost themselves and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import DATA, Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.qdrant_server import Server
from xbtmigrate.qdrant.wire.connection import Connection

COUNT = 300
ALLOWED = "max_missing = 0.02"
NAN, INF = float("nan"), float("inf")


def spoil(client: QdrantClient, name: str, ids: list[int], kinds: list[float]) -> None:
    points = [
        models.PointVectors(id=point, vector={"old": [kind] * 128})
        for point, kind in zip(ids, kinds, strict=True)
    ]
    client.update_vectors(name, points, wait=True)


@pytest.mark.server
@pytest.mark.parametrize("layout", ["in_place", "shadow"])
@pytest.mark.parametrize("grpc", ["true", "false"])
def test_unusable_old_vectors_stop_nothing(
    grpc_db: Connection, qdrant_server: Server, tmp_path: Path, grpc: str, layout: str
) -> None:
    clipart, name = Clipart.load(COUNT), fresh_name()
    clipart.fill(grpc_db.client, name, both=layout == "in_place")
    broken = clipart.ids[:4]
    spoil(grpc_db.client, name, broken, [NAN, INF, 0.0, 1e38])
    reach = f"grpc = {grpc}\ngrpc_port = {qdrant_server.grpc_port}"
    write_config(tmp_path, qdrant_server.url, name, qdrant=reach, layout=layout, plan=ALLOWED)
    plan = answer_inside("plan", cwd=tmp_path)
    coverage = plan["coverage"]
    assert (coverage["unusable_old"], coverage["with_old_vector"]) == (4, COUNT - 4)
    assert sorted(coverage["examples_unusable"]) == sorted(map(str, broken))
    assert any("4 points have a vector 'old' that is not finite" in w for w in plan["warnings"])
    # Others may be about what earlier tests left on the server.
    found = answer_inside("doctor", cwd=tmp_path, expect=3)["findings"]
    (finding,) = (each for each in found if each["name"] == "unusable_vectors")
    assert all(str(each) in finding["message"] for each in broken)
    answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
    done = answer_inside("backfill", "--online", "--fraction", "0", cwd=tmp_path)
    assert done["gallery"]["projected"] == COUNT - 4
    done = answer_inside("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    assert done["gallery"]["encoded"] == COUNT
    assert answer_inside("evaluate", "--max-queries", "20", cwd=tmp_path)["recommendation"]
    assert answer_inside("verify", cwd=tmp_path)["clean"]
    spoil(grpc_db.client, name, broken, [1.0, 1.0, 1.0, 1.0])
    _, said, _ = inside("doctor", "--json", cwd=tmp_path)
    assert "unusable_vectors" not in said


@pytest.mark.server
def test_a_plan_counts_other_vectors_that_a_shadow_goes_without(
    grpc_db: Connection, qdrant_server: Server, tmp_path: Path
) -> None:
    name, count = fresh_name(), 40
    config = {
        each: models.VectorParams(size=size, distance=models.Distance.DOT)
        for each, size in {"old": 128, "side": 2}.items()
    }
    grpc_db.client.create_collection(name, vectors_config=config)
    clipart = Clipart.load(count)
    points = [
        models.PointStruct(
            id=each,
            vector={
                "old": clipart.old[row].tolist(),
                # The first two hold what is no number, and the third has none at all.
                **({} if row == 2 else {"side": [NAN, INF][row : row + 1] * 2 or [1.0, 2.0]}),
            },
            payload={"image": clipart.images[row], "caption": clipart.captions[row]},
        )
        for row, each in enumerate(clipart.ids)
    ]
    grpc_db.client.upsert(name, points, wait=True)
    write_config(tmp_path, qdrant_server.url, name, layout="shadow", strategy="full")
    (said,) = (
        each
        for each in answer_inside("plan", cwd=tmp_path)["warnings"]
        if "are made without it" in each
    )
    first = ", ".join(map(str, clipart.ids[:2]))
    assert said.startswith(
        f"2 points have a vector 'side' that is not finite (for example {first})"
    )


def vectors_without(path: Path, lost: list[str]) -> str:
    """The new model's vectors but those of some points."""
    table = pq.read_table(DATA / "new.parquet")
    keys = pa.array(lost, pa.string())
    pq.write_table(table.filter(pc.invert(pc.is_in(table["key"], keys))), path)
    return f'encoder = "precomputed"\npath = "{path}"'


@pytest.mark.server
def test_a_plan_shows_how_much_of_its_sample_cannot_be_embedded(
    server_db: Connection, qdrant_url: str, tmp_path: Path
) -> None:
    """A few are left out of the costs; where a quarter fails, encoding is refused beforehand."""
    clipart, name = Clipart.load(COUNT), fresh_name()
    clipart.fill(server_db.client, name)

    def planned(lost: int, **changes: str) -> tuple[int, dict]:
        model = vectors_without(tmp_path / "new.parquet", clipart.images[:lost])
        write_config(tmp_path, qdrant_url, name, new_model=model, **changes)
        code, out, _ = inside("plan", "--json", cwd=tmp_path)
        return code, json.loads(out)

    code, plan = planned(2)
    assert code == 0
    assert (plan["coverage"]["sampled"], plan["coverage"]["sample_unreadable"]) == (COUNT, 2)
    assert any("cannot embed 2 of 300 sampled points" in each for each in plan["warnings"])
    encodes = {cost["strategy"]: cost["encodes"] for cost in plan["costs"]}
    assert encodes["full"] == COUNT - 2
    code, refused = planned(75, strategy="full")
    assert code == 3
    assert "cannot embed 75 of 300 sampled points" in refused["error"]["message"]
    code, plan = planned(75, strategy="forward")
    assert code == 0, plan
