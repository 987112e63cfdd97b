"""Whatever is asked of a record, it moves only along the table, and its counts add up."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbtmigrate.errors import GateError
from xbtmigrate.migration.phases import OVER, TRANSITIONS, Counts, MigrationRecord, Phase
from xbtmigrate.qdrant.journal.journal import _payload, record_of

counts = st.builds(Counts, *[st.integers(0, 10**9)] * len(Counts.__dataclass_fields__))


@given(st.lists(st.sampled_from(Phase)))
def test_a_record_moves_only_along_the_table(wanted: list[Phase]) -> None:
    record = MigrationRecord("m", Phase.PLANNED, "plan")
    for phase in wanted:
        if phase is record.phase or phase in TRANSITIONS[record.phase]:
            record = record.move_to(phase)
            assert record.phase is phase
            continue
        with pytest.raises(GateError) as refused:
            record.move_to(phase)
        assert f"it cannot become {phase}" in refused.value.message
        assert refused.value.hint


def test_every_phase_can_be_reached_and_left_unless_it_is_over() -> None:
    assert TRANSITIONS.keys() == set(Phase)
    reached, frontier = {Phase.PLANNED}, [Phase.PLANNED]
    while frontier:
        following = TRANSITIONS[frontier.pop()] - reached
        reached |= following
        frontier += following
    assert reached == set(Phase)
    assert {phase for phase, following in TRANSITIONS.items() if not following} <= set(OVER)


@given(st.lists(counts))
def test_counts_add_up_in_any_order(parts: list[Counts]) -> None:
    forwards = backwards = Counts()
    for each in parts:
        forwards = forwards.plus(each)
    for each in reversed(parts):
        backwards = each.plus(backwards)
    assert forwards == backwards
    for name, total in asdict(forwards).items():
        assert total == sum(getattr(each, name) for each in parts)


@given(st.sampled_from(Phase), counts, st.integers(0, 10**6), st.none() | st.text(min_size=1))
def test_a_record_comes_back_as_it_was_stored(
    phase: Phase, done: Counts, position: int, cursor: str | None
) -> None:
    record = MigrationRecord("m", phase, "p", cursor=cursor, position=position, counts=done)
    assert record_of(_payload(record)) == record
