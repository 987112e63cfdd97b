"""Each blocked state that doctor knows has a way out, which is typed as it is printed."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart
from tests.support.command import type_inside
from tests.support.messages import findings
from tests.support.switching import Place
from xbtmigrate.qdrant.gallery.leftovers import BENCH
from xbtmigrate.qdrant.journal.kept_hashes import forget_ledger
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, forget_shadow, record_shadow
from xbtmigrate.types import Distance

COUNT, MOST = 130, 8
Break = Callable[[Place], None]


@pytest.fixture(autouse=True)
def _without_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xbtmigrate.workflows.cutover.finalize.give_notice", lambda *_: None)
    monkeypatch.setattr("xbtmigrate.workflows.cutover.abort.give_notice", lambda *_: None)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """One migration, copied as it is after each of its commands."""
    place = Place("embedded-shadow", "", tmp_path_factory.mktemp("begun"), Clipart.load(COUNT))
    found = {"backfilled": copied(place, tmp_path_factory.mktemp("backfilled"))}
    for stage, command in (("verified", ["verify"]), ("cut_over", ["cutover", "--yes"])):
        place.run(*command)
        found[stage] = copied(place, tmp_path_factory.mktemp(stage))
    place.run("finalize", "--yes", "--no-snapshot", "--notice", "0")
    return found | {"finalized": place}


def copied(place: Place, folder: Path) -> Place:
    shutil.copytree(place.folder, folder, dirs_exist_ok=True)
    other = copy(place)
    other.folder = folder
    return other


def artefacts(place: Place) -> Path:
    return next(place.folder.glob(".xbtmigrate/*"))


def change(place: Place, act: Callable[[QdrantClient], object]) -> None:
    client = place.open()
    act(client)
    client.close()


def record(place: Place, **values: str) -> None:
    """Change the journal's record of the migration."""

    def write(client: QdrantClient) -> None:
        (own,) = (
            each.id
            for each in client.scroll(JOURNAL, limit=1000)[0]
            if (each.payload or {}).get("kind") == "migration"
        )
        client.set_payload(JOURNAL, values, points=[own])

    change(place, write)


def lose_plan(place: Place) -> None:
    (artefacts(place) / "plan.json").unlink()


def damage_plan(place: Place) -> None:
    (artefacts(place) / "plan.json").write_text("{", "utf-8")


def change_seed(place: Place) -> None:
    config = place.folder / "xbtmigrate.toml"
    config.write_text(config.read_text("utf-8").replace("seed = 0", "seed = 1"), "utf-8")


def lose_projector(place: Place) -> None:
    shutil.rmtree(artefacts(place) / "projector")


def exchange_projector(place: Place) -> None:
    folder = artefacts(place) / "projector"
    shutil.rmtree(folder / "forward")
    shutil.copytree(folder / "bridge", folder / "forward")


def leave_shadow_record(place: Place) -> None:
    with connect(f"path:{place.folder / 'qdrant'}") as connection:
        record_shadow(connection, "gone", (place.name, "new", 2, Distance.DOT))


def mark_otherwise(place: Place) -> None:
    mark = {"_xbtmigrate": {"plan": "x", "kind": "y"}}
    change(place, lambda client: client.set_payload(place.target, mark, [place.clipart.ids[0]]))


def lose_shadow(place: Place) -> None:
    change(place, lambda client: client.delete_collection(place.target))


def forget_its_record(place: Place) -> None:
    with connect(f"path:{place.folder / 'qdrant'}") as connection:
        forget_shadow(connection, place.target)


def move_alias(place: Place) -> None:
    """Let the alias lead to the other side."""
    other = place.name if place.leads_to() == place.target else place.target
    name = place.alias
    steps = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name)),
        models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=other, alias_name=name)
        ),
    ]
    change(place, lambda client: client.update_collection_aliases(steps))


def leave_probe(place: Place) -> None:
    probe = models.PointStruct(id=1, vector={}, payload={"kind": "probe"})
    change(place, lambda client: client.upsert(JOURNAL, [probe], wait=True))


def leave_bench(place: Place) -> None:
    sizes = models.VectorParams(size=2, distance=models.Distance.DOT)
    change(place, lambda client: client.create_collection(f"{BENCH}1", vectors_config=sizes))


def delete_bench(place: Place) -> None:
    change(place, lambda client: client.delete_collection(f"{BENCH}1"))


def leave_lease(place: Place) -> None:
    record(place, owner="host|boot|1|0|token")


def leave_backfilling(place: Place) -> None:
    record(place, phase="backfilling")


def age_verification(place: Place) -> None:
    record(place, verified_at="2020-01-01T00:00:00+00:00")


def add_many(place: Place) -> None:
    many = models.Batch(
        ids=list(range(7_000_000, 7_000_101)),
        vectors={"old": place.clipart.old[:101].tolist()},
        payloads=place.clipart.payloads[:101],
    )
    change(place, lambda client: client.upsert(place.name, many, wait=True))


def empty_a_point(place: Place) -> None:
    change(
        place,
        lambda client: client.upsert(
            place.name, [models.PointStruct(id=7_000_001, vector={}, payload={"n": 1})], wait=True
        ),
    )


def verify_an_empty_point(place: Place) -> None:
    empty_a_point(place)
    place.run("backfill", "--online")
    place.run("verify")


def judge_for_keep(place: Place) -> None:
    wrong = [[str(point)] for point in reversed(place.clipart.ids)]
    table = pa.table({"text": place.clipart.captions, "relevant": wrong})
    pq.write_table(table, place.folder / "q.parquet")
    assert place.run("evaluate", "--queries", "q.parquet")["recommendation"]["strategy"] == "keep"


def damage_switch(place: Place) -> None:
    (artefacts(place) / "switch.json").write_text("{", "utf-8")


def lose_ledger(place: Place) -> None:
    (artefacts(place) / "ledger.parquet").unlink()
    with connect(f"path:{place.folder / 'qdrant'}") as connection:
        forget_ledger(connection, artefacts(place).name)


def write_late(place: Place) -> None:
    place.upsert(place.clipart.ids[0], 5, "old", place.name)


@dataclass(frozen=True)
class Blocked:
    """A migration that cannot go on.

    Attributes:
        stage: Where it stands.
        finding: What doctor names.
        broken: How it comes to that.
        by_hand: What the way out leaves to a person, done as it says.
    """

    stage: str
    finding: str
    broken: Break
    by_hand: Break | None = None


BLOCKED = [
    Blocked("backfilled", "artefacts_lost", lose_plan),
    Blocked("backfilled", "plan_damaged", damage_plan, by_hand=lose_plan),
    Blocked("backfilled", "plan_stale", change_seed),
    Blocked("backfilled", "projector_lost", lose_projector),
    Blocked("backfilled", "projector_differs", exchange_projector),
    Blocked("backfilled", "unknown_plan", mark_otherwise),
    Blocked("backfilled", "target_missing", lose_shadow),
    Blocked("backfilled", "target_foreign", forget_its_record, by_hand=lose_shadow),
    Blocked("backfilled", "alias_elsewhere", move_alias, by_hand=move_alias),
    Blocked("backfilled", "leftover_probes", leave_probe),
    Blocked("backfilled", "orphan_record", leave_shadow_record),
    Blocked("backfilled", "leftover_bench", leave_bench, by_hand=delete_bench),
    Blocked("backfilled", "dead_lease", leave_lease),
    Blocked("backfilled", "unfinished", leave_backfilling),
    Blocked("verified", "cutover_refused", age_verification),
    Blocked("verified", "cutover_refused", add_many),
    Blocked("verified", "cutover_refused", verify_an_empty_point),
    Blocked("verified", "cutover_refused", judge_for_keep),
    Blocked("verified", "alias_elsewhere", move_alias),
    Blocked("cut_over", "switch_differs", damage_switch),
    Blocked("cut_over", "ledger_lost", lose_ledger),
    Blocked("cut_over", "alias_elsewhere", move_alias),
    Blocked("cut_over", "finalize_refused", write_late),
    Blocked("cut_over", "finalize_refused", empty_a_point),
    Blocked("finalized", "leftover_marks", mark_otherwise),
]


ELSEWHERE = {
    "newer_tool": "a newer version has to be installed",
    "plan_differs": "the plan of the folder that it was begun in has to be put back",
    "source_missing": "the collection has to be restored from a snapshot of its own",
    "unusable": "the configuration names what is not there: the error lists what is",
    "unusable_vectors": "tests/e2e/test_odd_vectors.py",
    "queries_unusable": "tests/e2e/test_doctor_refusals.py, as all below",
    "old_model_unusable": "a file has to be put back",
    "new_model_unusable": "a file has to be put back",
    "plan_refused": "depends on what is in the way",
    "backfill_refused": "depends on what ended the last run",
    "verify_refused": "only while another command is at work",
}
"""Findings whose way out is no command, or is tried in another file."""


@pytest.mark.parametrize(
    "blocked", BLOCKED, ids=lambda each: f"{each.stage}-{each.broken.__name__}"
)
def test_the_way_out_is_typed_and_works(blocked: Blocked, stages: dict[str, Place], tmp_path: Path):
    place = copied(stages[blocked.stage], tmp_path)
    blocked.broken(place)
    found = place.run("doctor", expect=3)
    assert blocked.finding in {each["name"] for each in found["findings"]}
    if blocked.by_hand is not None:
        blocked.by_hand(place)
    come_out(place)


def come_out(place: Place) -> None:
    """Type only what `doctor` names, and then what each command names of its own verb."""
    typed = []
    while (command := look(place)) is not None:
        while command is not None:
            assert len(typed) < MOST, typed
            typed.append(command)
            verb = shlex.split(command)[1]
            # `doctor --yes` ends with 3 where it leaves something to another command.
            following = type_inside(
                command, cwd=place.folder, expect=None if verb == "doctor" else 0
            )
            again = following is not None and shlex.split(following)[1] == verb
            command = following if again else None


def look(place: Place) -> str | None:
    """Return what doctor names; None where nothing is wrong."""
    found = place.run("doctor", expect=None)
    assert found["healthy"] or found["next"], found
    return None if found["healthy"] else found["next"]


@pytest.mark.parametrize(
    ("stage", "step", "command"),
    [
        ("verified", "cutover.move_alias", "cutover --yes"),
        ("cut_over", "rollback.move_alias", "rollback --yes"),
        ("cut_over", "finalize.drop_collection", "finalize --yes --no-snapshot"),
        ("backfilled", "abort.drop_collection", "abort --yes"),
    ],
)
def test_a_killed_command_goes_on(
    stage: str, step: str, command: str, stages: dict[str, Place], tmp_path: Path
):
    place = copied(stages[stage], tmp_path)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"xbtmigrate.workflows.cutover.{step}", fail)
        type_inside(f"xbtmigrate {command}", cwd=place.folder, expect=130)
    found = place.run("doctor", expect=3)
    assert "unfinished" in {each["name"] for each in found["findings"]}
    come_out(place)


def test_every_finding_is_tried_or_left_to_a_person():
    tried = {each.finding for each in BLOCKED}
    assert tried.isdisjoint(ELSEWHERE)
    assert tried | ELSEWHERE.keys() == {each.name for each in findings()}
