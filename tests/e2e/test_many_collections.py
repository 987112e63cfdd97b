"""One configuration for many collections: each goes its own way, and one table shows them all."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside, start
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality, content_hash

pytestmark = pytest.mark.server
OLD, NEW = FakeEncoder(dimension=16, seed=1), FakeEncoder(dimension=24, seed=2)
COUNT = 60


def fill_tenant(client: QdrantClient, name: str) -> list[str]:
    texts = [f"entry {number} of {name} that is embedded as text" for number in range(COUNT)]
    create_collection(client, name, {"old": 16, "new": 24})
    vectors = {"old": OLD.encode(texts, Modality.TEXT)}
    fill_collection(client, name, range(COUNT), vectors, [{"text": text} for text in texts])
    return texts


class World:
    """Four tenants: one goes by an alias, and one lacks the old vector."""

    def __init__(self, url: str, folder: Path) -> None:
        self.client = QdrantClient(url=url, check_compatibility=False)
        self.prefix, self.folder = fresh_name(), folder
        self.good = [f"{self.prefix}_{letter}" for letter in "abc"]
        texts = [
            text for name in (*self.good[:2], f"{self.good[2]}_v1") for text in self.fill(name)
        ]
        alias = models.CreateAlias(collection_name=f"{self.good[2]}_v1", alias_name=self.good[2])
        actions = [models.CreateAliasOperation(create_alias=alias)]
        self.client.update_collection_aliases(change_aliases_operations=actions)
        self.broken = f"{self.prefix}_broken"
        create_collection(self.client, self.broken, {"other": 16})
        for name, encoder in (("old", OLD), ("new", NEW)):
            write_vectors(folder / f"{name}.parquet", texts, encoder.encode(texts, Modality.TEXT))
        write_precomputed_config(
            *(folder, url, ""),
            qdrant={"collection": None, "collections": [f"{self.prefix}_*"]},
            plan={"strategy": "full", "layout": "in_place", "sample": 100},
        )

    def fill(self, name: str) -> list[str]:
        return fill_tenant(self.client, name)

    def outcomes(self, *arguments: str, expect: int) -> dict[str, str]:
        document = answer_inside(*arguments, cwd=self.folder, expect=expect)
        rows = document["collections"]
        assert sum(document["counts"].values()) == len(rows)
        return {row["collection"]: row["outcome"] for row in rows}


@pytest.fixture
def world(qdrant_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(qdrant_url, tmp_path)
    yield made
    for each in made.client.get_collections().collections:
        if each.name.startswith(made.prefix):
            made.client.delete_collection(each.name)


@pytest.mark.long
def test_a_failure_stops_its_own_collection_alone(world: World):
    expected = {world.broken: "error"} | dict.fromkeys(world.good, "done")
    found = world.outcomes("plan", "--parallel", "2", expect=1)
    assert found == expected
    assert next(iter(found)) == world.broken, "what needs attention comes first"
    # The same command goes on with what is not done; the others are not planned again.
    again = world.outcomes("plan", "--parallel", "2", expect=1)
    assert again == {world.broken: "error"} | dict.fromkeys(world.good, "done before")
    world.client.delete_collection(world.broken)
    assert set(world.outcomes("plan", expect=0).values()) == {"done before"}
    # All are done, so the next call begins anew.
    assert set(world.outcomes("plan", expect=0).values()) == {"done"}
    for verb in (["backfill", "--online"], ["verify"], ["cutover"]):
        assert world.outcomes(*verb, expect=0) == dict.fromkeys(world.good, "done")
    for name in world.good:
        vectors = [p.vector for p in world.client.scroll(name, limit=99, with_vectors=True)[0]]
        assert len(vectors) == COUNT
        assert all(np.shape(each["new"]) == (24,) for each in vectors)


def test_the_table_and_the_next_command(world: World):
    code, out, err = inside("plan", cwd=world.folder)
    lines = [line for line in out.splitlines() if line.strip().startswith(world.prefix)]
    assert (code, len(lines)) == (1, 4)
    assert "error" in lines[0]
    assert all("full" in line for line in lines[1:])
    assert "has no" in out
    assert "Next:" not in out
    assert "The same command goes on" in out
    world.client.delete_collection(world.broken)
    code, out, err = inside("plan", cwd=world.folder)
    assert code == 0
    assert "3 of 3 collections were done by an earlier call" in err
    assert "Next: xbtmigrate train-projector" in out
    code, out, err = inside("backfill", "--batch-size", "64", cwd=world.folder)
    assert code == 0
    assert "Next: xbtmigrate backfill --batch-size 64 --online" in out


def test_one_of_them_is_chosen_in_the_environment(world: World, monkeypatch: pytest.MonkeyPatch):
    code, _, err = inside("pause", cwd=world.folder)
    assert code == 2
    assert "XBTMIGRATE_COLLECTION" in err
    monkeypatch.setenv("XBTMIGRATE_COLLECTION", world.good[0])
    assert answer_inside("plan", cwd=world.folder)["collection"]["name"] == world.good[0]
    monkeypatch.setenv("XBTMIGRATE_COLLECTION", "other")
    code, _, err = inside("status", cwd=world.folder)
    assert code == 2
    assert "'other' is none of them" in err


def test_the_status_of_all_begins_with_what_needs_attention(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.outcomes("plan", expect=1)
    waiting, stopped, late = world.good
    for name, options in ((stopped, ("--budget", "1s", "--max-rate", "4")), (late, ())):
        monkeypatch.setenv("XBTMIGRATE_COLLECTION", name)
        answer_inside("backfill", "--online", *options, cwd=world.folder)
    monkeypatch.delenv("XBTMIGRATE_COLLECTION")
    vectors = {"old": OLD.encode(["entry that is new"], Modality.TEXT)}
    fill_collection(world.client, late, [COUNT], vectors, [{"text": "entry that is new"}])
    document = answer_inside("status", cwd=world.folder, expect=1)
    rows = document["collections"]
    assert [row["collection"] for row in rows] == [world.broken, stopped, late, waiting]
    assert [row["outcome"] for row in rows] == ["error", "done", "done", "done"]
    said = [row["message"] for row in rows]
    assert "has no vector" in said[0]
    assert said[1] == "stopped; go on with `xbtmigrate backfill --online`"
    assert said[2:] == ["1 points written since the backfill", "planned"]
    monkeypatch.setenv("XBTMIGRATE_COLLECTION", late)
    assert rows[2]["document"] == answer_inside("status", cwd=world.folder)
    monkeypatch.delenv("XBTMIGRATE_COLLECTION")
    assert document["next"] is None
    world.client.delete_collection(world.broken)
    code, out, _ = inside("status", cwd=world.folder)
    assert code == 0
    places = [out.index(name) for name in (stopped, late, waiting)]
    assert places == sorted(places)
    assert "1 paused, 1 backfilled, 1 planned" in out


@pytest.mark.long
def test_a_shadow_is_no_collection_of_its_own(world: World):
    world.client.delete_collection(world.broken)
    config = world.folder / "xbtmigrate.toml"
    config.write_text(config.read_text().replace('"in_place"', '"shadow"'))
    for verb in (["plan"], ["backfill", "--online"], ["verify"]):
        assert world.outcomes(*verb, expect=0) == dict.fromkeys(world.good, "done")


@pytest.mark.long
def test_projectors_are_fitted_once_and_kept_for_each(world: World):
    config = world.folder / "xbtmigrate.toml"
    config.write_text(config.read_text().replace('"full"', '"forward"'))
    world.outcomes("plan", expect=1)
    arguments = ("train-projector", "--pairs", "120", "--kind", "ridge")
    document = answer_inside(*arguments, cwd=world.folder, expect=1)
    rows = {row["collection"]: row for row in document["collections"]}
    assert next(iter(rows)) == world.broken
    assert "has no vector" in rows[world.broken]["message"]
    fits = [rows[name]["document"]["directions"] for name in world.good]
    for direction in ("bridge", "forward"):
        assert len({each[direction]["digest"] for each in fits}) == 1
        assert len({each[direction]["folder"] for each in fits}) == 3
    # Each keeps its own pairs alone: 40 points of it, a fifth of the pool held out.
    counts = [sum(rows[name]["document"]["pairs"].values()) for name in world.good]
    assert sum(counts) == 96
    for name in world.good:
        folder = next(world.folder.glob(f".xbtmigrate/{name}*"))
        pairs = pq.read_table(folder / "pairs.parquet")
        points, _ = world.client.scroll(name, limit=COUNT)
        hashes = {str(point.id): content_hash(point.payload["text"]) for point in points}
        found = zip(pairs["id"].to_pylist(), pairs["content_hash"].to_pylist(), strict=True)
        assert 0 < len(pairs) <= 40
        assert all(hashes[point] == hashed for point, hashed in found)
    world.client.delete_collection(world.broken)
    assert set(world.outcomes("evaluate", expect=0).values()) == {"done"}
    assert set(world.outcomes("backfill", "--online", expect=0).values()) == {"done"}
    # Under way, a projector is not replaced.
    document = answer_inside(*arguments, cwd=world.folder, expect=1)
    assert "under plan" in document["error"]["message"]


@pytest.mark.long
def test_ctrl_c_stops_all_and_the_same_command_goes_on(world: World):
    world.client.delete_collection(world.broken)
    world.outcomes("plan", expect=0)
    process = start(
        *("backfill", "--online", "--parallel", "1", "--max-rate", "40", "--json"),
        cwd=world.folder,
    )
    wait_for_records(world, 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    rows = {row["outcome"] for row in json.loads(out)["collections"]}
    assert {"interrupted", "not started"} <= rows
    found = world.outcomes("backfill", "--online", "--max-rate", "4000", expect=0)
    assert set(found) == set(world.good)


@pytest.mark.long
def test_after_a_kill_each_collection_is_found_as_it_is(world: World):
    world.client.delete_collection(world.broken)
    world.outcomes("plan", expect=0)
    run = ("backfill", "--online", "--parallel", "1", "--batch-size", "8", "--max-rate", "2")
    process = start(*run, cwd=world.folder)
    wait_for_records(world, 1)
    process.kill()
    process.wait()
    # The process of the first collection goes on, and keeps its lease.
    found = world.outcomes("backfill", "--online", expect=3)
    assert found == dict.fromkeys(world.good, "done") | {world.good[0]: "check failed"}
    wait_for_records(world, COUNT)
    end = time.monotonic() + 60
    while (
        answer_inside("backfill", "--online", cwd=world.folder, expect=None)["counts"]["done"] < 1
    ):
        assert time.monotonic() < end
    assert set(world.outcomes("verify", expect=0).values()) == {"done"}


def wait_for_records(world: World, count: int) -> None:
    """Wait until so many points of the first tenant have their new vector."""
    written = models.Filter(must=[models.HasVectorCondition(has_vector="new")])
    end = time.monotonic() + 60
    while world.client.count(world.good[0], count_filter=written).count < count:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("collections = []", "must be a list"),
        ('collections = "a"', "must be a list"),
        ('collections = ["a"]\ncollection = "a"', "beside collection"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, line: str, message: str):
    write_precomputed_config(tmp_path, "http://127.0.0.1:1", "x", qdrant={"collection": None})
    config = tmp_path / "xbtmigrate.toml"
    config.write_text(config.read_text().replace("[qdrant]", f"[qdrant]\n{line}"))
    code, _, err = inside("plan", cwd=tmp_path)
    assert code == 2
    assert message in err


def test_options_for_one_collection_are_refused(world: World):
    code, _, err = inside("plan", "--out", "plan.json", cwd=world.folder)
    assert code == 2
    assert "--out is for one collection" in err


def test_files_are_named_by_the_collection(world: World, monkeypatch: pytest.MonkeyPatch):
    name = world.good[0]
    (world.folder / "new.parquet").rename(world.folder / f"{name}.parquet")
    config = world.folder / "xbtmigrate.toml"
    config.write_text(config.read_text().replace("new.parquet", "{collection}.parquet"))
    found = world.outcomes("plan", expect=1)
    assert [each for each, outcome in found.items() if outcome == "done"] == [name]
