"""What `cutover` tells of readers and evaluations before it switches, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.command import answer_inside, inside
from tests.support.corpus import write_vectors
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

SIZE, COUNT = 16, 200
TEXTS = [f"entry {number} of a list" for number in range(COUNT)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified shadow behind an alias: one unnamed vector, two models of one length."""
    folder = tmp_path_factory.mktemp("readers")
    client = QdrantClient(path=str(folder / "qdrant"))
    params = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    client.create_collection("texts", vectors_config=params)
    made = {}
    for seed, model in enumerate(("old", "new"), 1):
        made[model] = FakeEncoder(dimension=SIZE, seed=seed).encode(TEXTS, Modality.TEXT)
        write_vectors(folder / f"{model}.parquet", TEXTS, made[model])
    payloads = [{"text": text} for text in TEXTS]
    batch = models.Batch(ids=list(range(COUNT)), vectors=made["old"].tolist(), payloads=payloads)
    client.upsert("texts", batch)
    alias = models.CreateAlias(collection_name="texts", alias_name="live")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    client.close()
    (folder / "xbtmigrate.toml").write_text(
        '[qdrant]\nurl = "path:qdrant"\ncollection = "live"\nvector = ""\n'
        '[payload]\ntext = "text"\n'
        '[old_model]\nencoder = "precomputed"\npath = "old.parquet"\nstored = "text"\n'
        '[new_model]\nencoder = "precomputed"\npath = "new.parquet"\n'
        '[plan]\nstrategy = "full"\nsample = 100\n',
        "utf-8",
    )
    judged = {"text": TEXTS, "relevant": [[str(each)] for each in range(COUNT)]}
    pq.write_table(pa.table(judged), folder / "judged.parquet")
    planned = answer_inside("plan", cwd=folder)
    assert "wrong points without an error" in planned["readers"]
    answer_inside("backfill", "--online", cwd=folder)
    answer_inside("verify", cwd=folder)
    return folder


def failed(document: dict) -> dict[str, str]:
    return {gate["name"]: gate["way_out"] for gate in document["gates"] if not gate["passed"]}


def test_where_old_requests_raise_no_error_the_user_answers_for_the_readers(folder: Path):
    for options in ([], ["--yes"]):
        refused = answer_inside("cutover", *options, cwd=folder, expect=3)
        assert refused["phase"] == "verified"
        assert list(failed(refused)) == ["readers"]
        assert "--readers-send-new-vectors" in refused["next"]
        assert f"{SIZE} numbers) to 'live' without `using`" in refused["readers"]
    ready = answer_inside("cutover", "--readers-send-new-vectors", cwd=folder)
    assert (ready["ready"], failed(ready)) == (True, {})
    code, out, _ = inside("cutover", cwd=folder)
    assert (code, out.splitlines()[0]) == (3, refused["readers"])
    # With --yes the result comes after the switch, so the sentence stands before the checks, too.
    _, _, progress = inside("cutover", "--yes", cwd=folder)
    lines = progress.splitlines()
    assert lines.index(refused["readers"]) < lines.index("checking the conditions")


def test_by_switch_an_unchanged_reader_stays_where_it_is(folder: Path):
    ready = answer_inside("cutover", "--by-switch", cwd=folder)
    assert ready["ready"]
    assert "to 'texts__xbtmigrate' without `using`" in ready["readers"]
    assert "still gets the points of 'texts'" in ready["readers"]


def test_what_was_judged_worse_is_not_switched_to_unasked(folder: Path):
    accepted = ("cutover", "--readers-send-new-vectors")
    answer_inside("evaluate", cwd=folder)
    assert answer_inside(*accepted, cwd=folder)["ready"], "made queries judge nothing"
    found = answer_inside("evaluate", "--queries", "judged.parquet", cwd=folder)
    assert found["recommendation"]["strategy"] == "keep"
    refused = answer_inside(*accepted, "--yes", cwd=folder, expect=3)
    assert list(failed(refused)) == ["evaluation"]
    assert "--despite-evaluation" in failed(refused)["evaluation"]
    assert refused["next"] == "xbtmigrate abort"
    done = answer_inside(*accepted, "--despite-evaluation", "--yes", cwd=folder)
    assert done["phase"] == "cut_over"
    back = answer_inside("rollback", cwd=folder)["readers"]
    assert back.startswith("From the rollback on every reader must send vectors of the old model")


def test_the_end_says_where_the_data_live_and_what_to_configure(folder: Path):
    looked = answer_inside("finalize", cwd=folder)
    place = {
        "collection": "texts__xbtmigrate",
        "alias": "live",
        "vector": "",
        "model": "precomputed",
    }
    assert (looked["data"], looked["snapshot_file"], looked["restore"]) == (place, None, None)
    done = answer_inside("finalize", "--confirm", "texts", "--no-snapshot", cwd=folder)
    assert done["data"] == place
    # The alias stays, and so does the vector without a name: the models alone change.
    assert [each.split(":")[0] for each in done["configuration"]] == ["[old_model]", "[new_model]"]
    assert 'stored = "text"' in done["configuration"][0]
