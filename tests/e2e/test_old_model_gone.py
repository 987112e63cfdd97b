"""A migration whose old model is gone, end to end: only its stored vectors are left."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from qdrant_client import QdrantClient, models

from tests.support.checks import snapshot
from tests.support.clipart import DATA, Clipart, vectors
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.corpus import create_collection, fill_collection, write_precomputed_config
from tests.support.migrating import new_model
from xbtmigrate.config import load_config
from xbtmigrate.errors import ConfigError
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.workflows.serve.serve import Service, make_application

COUNT = 600
MODES = [pytest.param("server", marks=pytest.mark.server), "embedded"]


class Site:
    """A collection of captions whose stored vectors no model can make any more."""

    def __init__(self, folder: Path, url: str, strategy: str) -> None:
        self.folder, self.url, self.name = folder, url, fresh_name()
        self.clipart = Clipart.load(COUNT)
        client = self.open()
        create_collection(client, self.name, {"old": 128, "new": 256} if url else {"old": 128})
        stored = vectors("old", self.clipart.captions)
        payloads = [{"text": each} for each in self.clipart.captions]
        fill_collection(client, self.name, self.clipart.ids, {"old": stored}, payloads)
        client.close()
        write_precomputed_config(
            *(folder, url or "path:qdrant", self.name),
            old_model={"encoder": "none", "path": None},
            new_model={"path": str(DATA / "new.parquet")},
            plan={"strategy": strategy, "sample": 400},
        )

    def open(self) -> QdrantClient:
        if self.url:
            return QdrantClient(url=self.url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def run(self, *arguments: str, expect: int = 0) -> dict:
        return answer_inside(*arguments, cwd=self.folder, expect=expect)

    def refuse(self, *arguments: str, part: str) -> None:
        """Run a command that needs the old model: it ends in a hint and writes nothing."""
        before = self.points()
        code, _, err = inside(*arguments, cwd=self.folder)
        assert (code, part in err, "is gone" in err) == (2, True, True), err
        assert self.points() == before

    def points(self) -> object:
        client = self.open()
        found = snapshot(client, self.name)
        client.close()
        return found

    def judge(self, *, several: bool) -> None:
        """Judge captions that begin with the same word as relevant to one another, or alone."""
        groups = defaultdict(list)
        for number, caption in enumerate(self.clipart.captions):
            groups[caption.split()[0] if several else number].append(number)
        wanted = [rows for rows in groups.values() if len(rows) > 2 or not several][:60]
        queries = {
            "text": [self.clipart.captions[rows[-1]] for rows in wanted],
            "relevant": [[str(self.clipart.ids[row]) for row in rows] for rows in wanted],
        }
        pq.write_table(pa.table(queries), self.folder / "queries.parquet")
        config = self.folder / "xbtmigrate.toml"
        config.write_text(config.read_text() + '\nqueries = "queries.parquet"', "utf-8")

    def found(self, serving: str = "") -> float:
        """Share of captions that the new model alone finds among the first ten; 0.02 by chance."""
        client = self.open()
        searcher = MigrationSearcher.open(
            *(client, self.name),
            vector="old",
            folder=next(self.folder.glob(".xbtmigrate/*")),
            new_encoder=new_model,
            serving=serving,
        )
        rows = range(0, 60, 3)
        asked = [searcher.search(text=self.clipart.captions[row], limit=10) for row in rows]
        client.close()
        ids = [self.clipart.ids[row] for row in rows]
        return float(
            np.mean([own in [hit.id for hit in hits] for own, hits in zip(ids, asked, strict=True)])
        )


@pytest.fixture
def url(mode: str, request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("qdrant_url") if mode == "server" else ""


@pytest.mark.parametrize(
    ("mode", "strategy"),
    [
        pytest.param("server", "fastfill", marks=pytest.mark.server),
        ("embedded", "forward"),
        ("embedded", "full"),
    ],
)
def test_every_step_to_the_end(tmp_path: Path, url: str, strategy: str):
    site = Site(tmp_path, url, strategy)
    site.judge(several=True)
    plan = site.run("plan")
    keep, *others = plan["measurement"]["systems"]
    assert (keep["name"], keep["estimated"]) == ("keep", True)
    assert not any(row["estimated"] for row in others)
    assert {row["name"].split(":")[0] for row in others} >= {"bridge", "forward", "full"}
    assert "documents in place of queries" in plan["measurement"]["basis"]
    assert plan["model_match"] is None
    assert len([each for each in plan["warnings"] if "nothing checks" in each]) == 1
    assert plan["recommendation"]["strategy"] not in (None, "keep")
    site.run("train-projector", "--kind", "ridge")
    assert site.found("bridge") > 0.25
    if strategy != "forward":
        site.refuse("backfill", "--online", "--until", "keep", part="--until 'recall@10>=keep'")
    if strategy == "full":
        site.refuse("backfill", "--online", "--until", "mrr@10>=0.3", part="nothing is projected")
    site.run("backfill", "--online", *(["--fraction", "0.3"] if strategy == "fastfill" else []))
    found = site.run("evaluate", "--gate", "recall@10>=0.95*keep")
    assert found["systems"][0]["estimated"]
    without = {"single", "uncentred", "calibrated_bridge"}
    assert {curve["serving"] for curve in found["curves"]} <= without
    assert any("estimate" in each for each in found["warnings"])
    site.run("verify")
    site.refuse("cutover", "--gate", "recall@10>=keep", part="a gate on keep")
    checks = {each["name"]: each for each in site.run("cutover")["gates"]}
    assert "leaves them behind" in checks["rollback_possible"]["detail"]
    site.run("cutover", "--yes", "--gate", "recall@10>=0.1")
    site.run("rollback", "--yes")
    site.run("verify")
    site.run("cutover", "--yes")
    site.run("finalize", "--yes", "--no-snapshot")
    assert site.found() > 0.25


@pytest.mark.parametrize("mode", MODES)
def test_the_bridge_and_the_service(tmp_path: Path, url: str):
    site = Site(tmp_path, url, "auto")
    plan = site.run("plan")
    # Nobody judged anything: a bridge writes nothing, and makes the old vectors searchable again.
    assert (plan["recommendation"]["strategy"], plan["strategy"]) == (None, "bridge")
    assert plan["measurement"]["systems"][0]["estimated"]
    site.run("train-projector", "--kind", "ridge")
    site.run("publish", "--yes")
    site.refuse("compare", part="the page of `compare`")
    config = load_config(tmp_path / "xbtmigrate.toml")
    with TestClient(make_application(config, Service()), base_url="http://127.0.0.1:8765") as http:
        found = http.post("/search", json={"text": site.clipart.captions[0]})
    assert found.json().get("serving") == "bridge", found.text
    assert make_application(config, Service(serving="calibrated_bridge"))
    for service in (Service(canary=0.5), Service(shadow_read=0.5), Service(serving="merge")):
        with pytest.raises(ConfigError, match="is gone"):
            make_application(config, service)


def test_queries_with_one_answer_are_measured_and_the_bridge_stands_for_keep(tmp_path: Path):
    site = Site(tmp_path, "", "auto")
    site.judge(several=False)
    plan = site.run("plan")
    figures = {
        row["name"].split(":")[0]: row["metrics"]["sample_recall@10"]
        for row in plan["measurement"]["systems"]
    }
    assert figures["keep"] == figures["bridge"] < figures["full"]
    assert plan["measurement"]["basis"] == "judged queries of queries.parquet"
    assert any("the bridge stands for it" in each for each in plan["warnings"])
    site_without_maps = inside("evaluate", cwd=tmp_path)
    assert site_without_maps[0] != 0
    assert "train-projector" in site_without_maps[2]
    site.run("train-projector", "--kind", "ridge")
    found = site.run("evaluate")
    assert found["recommendation"]["strategy"] not in (None, "keep")


def test_a_writer_s_new_point_is_left_behind_by_a_rollback(tmp_path: Path):
    site = Site(tmp_path, "", "full")
    for command in ("plan", "backfill --online", "verify", "cutover --yes"):
        site.run(*command.split())
    client = site.open()
    vector = new_model([site.clipart.captions[1]])[0].tolist()
    payload = {"text": site.clipart.captions[1]}
    client.upsert(site.name, [models.PointStruct(id=999, vector={"new": vector}, payload=payload)])
    client.close()
    found = site.run("rollback", expect=3)
    assert (found["cannot_be_carried"], "over the bridge" in found["readers"]) == (1, True)
    assert site.run("rollback", "--yes", "--leave-behind")["phase"] == "rolled_back"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (('strategy = "auto"', 'strategy = "keep"'), "plan.strategy"),
        (('encoder = "none"', 'encoder = "none"\nmodel = "m"'), "old_model.model"),
        (('encoder = "precomputed"', 'encoder = "none"'), "new_model.encoder"),
    ],
)
def test_a_configuration_that_needs_the_old_model_is_refused(
    tmp_path: Path, change: tuple[str, str], part: str
):
    site = Site(tmp_path, "", "auto")
    config = tmp_path / "xbtmigrate.toml"
    config.write_text(config.read_text().replace(*change), "utf-8")
    code, _, err = inside("plan", cwd=tmp_path)
    assert (code, part in err) == (2, True), err
    assert not list(tmp_path.glob(".xbtmigrate/*"))
    assert site.points() is not None


def test_a_log_of_queries_is_refused_and_one_of_points_is_not(tmp_path: Path):
    site = Site(tmp_path, "", "fastfill")
    site.run("plan")
    site.run("train-projector", "--kind", "ridge")
    pq.write_table(pa.table({"text": site.clipart.captions[:3]}), tmp_path / "asked.parquet")
    pq.write_table(pa.table({"id": [str(site.clipart.ids[0])]}), tmp_path / "found.parquet")
    order = ("backfill", "--online", "--order", "demand", "--demand")
    site.refuse(*order, "asked.parquet", part="a log of queries")
    assert site.run(*order, "found.parquet", "--fraction", "0.1")["encoded"] == COUNT // 10


def test_init_takes_a_model_that_is_gone(tmp_path: Path):
    site = Site(tmp_path, "", "auto")
    new = f"precomputed path={DATA / 'new.parquet'}"
    given = ("--old-model", "none", "--new-model", new, "--text", "text", "--force")
    site.run("init", "--url", "path:qdrant", "--collection", site.name, *given)
    assert 'encoder = "none"' in (tmp_path / "xbtmigrate.toml").read_text("utf-8")
    assert site.run("plan")["model_match"] is None
