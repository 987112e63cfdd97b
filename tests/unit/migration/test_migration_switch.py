"""The switch is read by applications: cheaply, from a file or the journal, and never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_imports import HEAVY, imported_by
from xbtmigrate.errors import ArtefactError
from xbtmigrate.migration.phases import OVER, TRANSITIONS, MigrationRecord, Phase
from xbtmigrate.migration.switch import FILE, EncoderReference, Switch, read_switch


def switch(**changes: object) -> Switch:
    """A switch of a shadow behind an alias, cut over."""
    values: dict[str, object] = {
        "collection": "live",
        "migration": "live-old",
        "phase": "cut_over",
        "active": "new",
        "layout": "shadow",
        "source_collection": "packages",
        "target_collection": "packages__xbtmigrate",
        "alias": "live",
        "old_vector": "old",
        "new_vector": "new",
        "old_encoder": EncoderReference(name="a", options={"path": "old.parquet"}),
        "new_encoder": EncoderReference(name="b", fingerprint="b/1"),
        "plan_digest": "p" * 64,
        "serving": "single",
        "written_at": "2026-01-01T00:00:00+00:00",
    }
    return Switch.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("live", "new", "b")),
        ({"active": "old"}, ("live", "old", "a")),
        ({"alias": None}, ("packages__xbtmigrate", "new", "b")),
        ({"alias": None, "active": "old"}, ("packages", "old", "a")),
    ],
)
def test_it_says_where_and_with_which_model_to_search(changes, expected):
    found = switch(**changes)
    shown = (found.query_collection, found.query_vector, found.query_encoder.name)
    assert shown == expected


def test_it_is_read_from_the_folder_the_file_and_the_journal(tmp_path: Path):
    assert read_switch(tmp_path) is None
    (tmp_path / FILE).write_text(switch().model_dump_json(), "utf-8")
    assert read_switch(tmp_path) == read_switch(tmp_path / FILE) == switch()
    record = MigrationRecord("m", Phase.CUT_OVER, "p", switch=switch().model_dump(mode="json"))
    assert record.switch is not None
    assert Switch.parse(record.switch, "the journal") == switch()


def test_keys_of_a_later_version_are_passed_over_and_another_version_is_refused():
    content = switch().model_dump(mode="json")
    assert Switch.parse(content | {"more": 1}, "x") == switch()
    with pytest.raises(ArtefactError, match="x is damaged"):
        Switch.parse(content | {"version": 2}, "x")
    with pytest.raises(ArtefactError, match="x is damaged"):
        Switch.parse("{half a fi", "x")


def test_reading_it_is_light(tmp_path: Path):
    modules = set(imported_by("from xbtmigrate.migration.switch import read_switch", tmp_path))
    assert modules.isdisjoint(HEAVY), modules & set(HEAVY)


def test_every_phase_ends_in_one_where_nothing_is_left_to_do():
    """No phase is a dead end, and none but a finished one lets go of what was written."""
    assert TRANSITIONS.keys() == set(Phase)
    for phase in Phase:
        reached, waiting = {phase}, [phase]
        while waiting:
            following = TRANSITIONS[waiting.pop()] - reached
            reached |= following
            waiting += following
        assert reached & set(OVER), phase


def test_after_a_cutover_there_is_no_way_back_but_rolling_back():
    for phase in (Phase.CUTTING_OVER, Phase.CUT_OVER):
        assert TRANSITIONS[phase] <= {Phase.CUT_OVER, Phase.ROLLING_BACK, Phase.FINALIZING}
    assert TRANSITIONS[Phase.FINALIZING] == {Phase.FINALIZED}
