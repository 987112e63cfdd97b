"""doctor names whatever does not fit together, and puts right what is safe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart
from tests.support.switching import Place
from xbtmigrate.qdrant.journal.kept_hashes import forget_ledger
from xbtmigrate.qdrant.wire.connect import connect

JOURNAL = "_xbtmigrate"
pytestmark = pytest.mark.server


def found(document: dict) -> set[str]:
    return {each["name"] for each in document["findings"]}


def names(place: Place) -> set[str]:
    return found(place.run("doctor", expect=3))


def test_every_finding_and_its_way_out(qdrant_url: str, tmp_path: Path):
    place = Place("server-shadow", qdrant_url, tmp_path, Clipart.load(150))
    folder = next(place.folder.glob(".xbtmigrate/*"))
    client = place.open()
    # Other tests leave probes and shadows behind on the same server; they are put right first.
    place.run("doctor", "--yes")
    assert place.run("doctor")["findings"] == []
    lose_artefacts(place, folder, tmp_path)
    change_the_record(place, folder, client)
    change_collections(place, client)
    place.run("cutover", "--yes")
    lose_what_a_cutover_needs(place, folder, tmp_path, client)
    client.delete_collection(place.target)
    assert "target_missing" in names(place)
    place.run("abort", "--yes", "--notice", "0")
    assert place.run("doctor")["healthy"]
    client.close()


def lose_artefacts(place: Place, folder: Path, tmp_path: Path) -> None:
    plan, projector = folder / "plan.json", folder / "projector"
    kept = plan.read_text("utf-8")
    plan.write_text(kept.replace('"seed":', '"seed" :'), "utf-8")
    assert place.run("doctor")["healthy"], "only its content counts"
    plan.write_text(kept.replace('"fraction": ', '"fraction": 0'), "utf-8")
    assert names(place) == {"plan_damaged"}
    plan.unlink()
    assert names(place) == {"artefacts_lost"}
    plan.write_text(kept, "utf-8")
    shutil.move(projector, tmp_path / "away")
    assert names(place) == {"projector_lost"}
    shutil.move(tmp_path / "away", projector)
    config = place.folder / "xbtmigrate.toml"
    text = config.read_text("utf-8")
    config.write_text(text.replace("seed = 0", "seed = 1"), "utf-8")
    assert names(place) == {"plan_stale"}
    config.write_text(text, "utf-8")


def change_the_record(place: Place, folder: Path, client: QdrantClient) -> None:
    named = {"kind": "migration", "migration": folder.name}
    records = client.scroll(JOURNAL, limit=1000, with_payload=True)[0]
    own = next(
        each.id
        for each in records
        if all(each.payload.get(key) == value for key, value in named.items())
    )
    client.set_payload(JOURNAL, {"tool_version": "99.0"}, points=[own])
    dead = "host|boot|1|0|token"
    client.set_payload(JOURNAL, {"phase": "backfilling"}, points=[own])
    assert names(place) == {"newer_tool", "unfinished"}
    client.set_payload(JOURNAL, {"phase": "dancing"}, points=[own])
    unknown = place.run("doctor", expect=1)
    assert "'dancing', which is not known here" in unknown["error"]["message"]
    client.set_payload(JOURNAL, {"phase": "backfilled", "tool_version": ""}, points=[own])
    client.set_payload(JOURNAL, {"owner": dead}, points=[own])
    assert place.run("doctor")["healthy"], "of another machine nobody knows whether it is dead"
    client.set_payload(JOURNAL, {"owner": ""}, points=[own])


def change_collections(place: Place, client: QdrantClient) -> None:
    client.set_payload(place.target, {"_xbtmigrate": {"plan": "x", "kind": "y"}}, points=[
        place.clipart.ids[0]
    ])  # fmt: skip
    assert names(place) == {"unknown_plan"}
    assert place.run("verify", "--yes")["clean"]
    move(client, place.alias, place.target)
    assert "alias_elsewhere" in names(place)
    move(client, place.alias, place.name)


def lose_what_a_cutover_needs(
    place: Place, folder: Path, tmp_path: Path, client: QdrantClient
) -> None:
    (folder / "switch.json").write_text("{", "utf-8")
    (folder / "ledger.parquet").rename(tmp_path / "ledger")
    with connect(place.url) as connection:
        forget_ledger(connection, folder.name)
    probe = models.PointStruct(id=1, vector={}, payload={"kind": "probe"})
    client.upsert(JOURNAL, [probe], wait=True)
    assert names(place) == {"switch_differs", "ledger_lost", "leftover_probes"}
    fixed = place.run("doctor", "--yes", expect=3)
    assert {each["name"] for each in fixed["findings"] if each["fixed"]} == {
        "switch_differs", "leftover_probes",
    }  # fmt: skip
    assert names(place) == {"ledger_lost"}
    lost = place.run("rollback", "--yes", expect=1)
    assert "ledger.parquet cannot be read: it is missing" in lost["error"]["message"]
    (tmp_path / "ledger").rename(folder / "ledger.parquet")
    place.run("rollback", "--yes")


def move(client: QdrantClient, alias: str, collection: str) -> None:
    client.update_collection_aliases(
        [
            models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)
            ),
        ]
    )
