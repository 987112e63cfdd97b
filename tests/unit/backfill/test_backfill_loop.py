"""The loop over fakes: whatever interrupts it, every point ends with the one right vector."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbtmigrate.backfill.goal import Goal, Outcome, StopCheck
from xbtmigrate.backfill.loop import Backfill
from xbtmigrate.errors import ConnectionFailedError, EncoderError, GateError
from xbtmigrate.migration.phases import MigrationRecord, Phase, Stage
from xbtmigrate.ordering import RandomOrdering, rank
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.testing.fake_gallery import FakeGallery, FakePoint
from xbtmigrate.testing.journals import MemoryJournal
from xbtmigrate.types import WITHOUT, Direction, Kind, Modality, Vectors, content_hash

OLD, NEW = 4, 8


class HalfProjector:
    """Maps an old vector to itself, padded: easy to tell from an encoded vector."""

    direction = Direction.FORWARD

    def apply(self, vectors: Vectors) -> Vectors:
        return np.pad(vectors, ((0, 0), (0, NEW - OLD))).astype(np.float32)

    def uncertainty(self, vectors: Vectors) -> np.ndarray:
        return np.abs(vectors[:, 0])


class NothingKnown:
    def find(self, hashes):
        return np.zeros((len(hashes), NEW), np.float32), np.zeros(len(hashes), np.bool_)


class AllKnown:
    def __init__(self, encoder: FakeEncoder, texts: dict[str, str]) -> None:
        self.encoder, self.texts = encoder, texts

    def find(self, hashes):
        rows = self.encoder.encode([self.texts[each] for each in hashes], Modality.TEXT)
        return rows, np.ones(len(hashes), np.bool_)


class World:
    """One collection, its models and its journal; each run is built anew, as a process is."""

    def __init__(self, count: int = 23, *, projects: bool = True) -> None:
        rng = np.random.default_rng(1)
        self.points = {
            str(n): FakePoint(f"text {n}", rng.standard_normal(OLD).astype(np.float32))
            for n in range(count)
        }
        self.gallery = FakeGallery(self.points, sizes=(OLD, NEW), page=5)
        self.encoder = FakeEncoder(dimension=NEW)
        self.records: dict[str, MigrationRecord] = {}
        self.projects, self.projector = projects, HalfProjector()
        self.known = NothingKnown()
        self.progress = []
        self.frozen: list[str] | None = None

    def order(self):
        if self.frozen is None:
            ids = list(self.points)
            self.frozen = [ids[row] for row in rank(ids, RandomOrdering(seed=3).score(ids, None))]
        return self.frozen, "order"

    def run(
        self,
        fraction: float,
        *,
        stop_after: int | None = None,
        allow: float = 0.2,
        until: StopCheck | None = None,
    ) -> Outcome:
        journal = MemoryJournal("m", self.records)
        start = journal.load() or MigrationRecord("m", Phase.PLANNED, "plan")
        asked = iter(range(10**9))
        try:
            return Backfill(
                gallery=self.gallery,
                journal=journal,
                record=journal.acquire(start),
                goal=Goal(fraction, self.projects, allow),
                order=self.order,
                modality=Modality.TEXT,
                encoder=self.encoder,
                projector=self.projector if self.projects else None,
                cache=self.known,
                batch_size=5,
                on_progress=self.progress.append,
                should_stop=lambda: "stop" if next(asked) == stop_after else "",
                until=until,
            ).run()
        finally:
            journal.release()

    def kinds(self) -> list[Kind | None]:
        return [p.provenance[1] if p.provenance else None for p in self.points.values()]

    def check_vectors(self) -> None:
        for point in self.points.values():
            if point.provenance is None or point.provenance[1] in WITHOUT:
                assert point.new is None
                continue
            _, kind, digest = point.provenance
            assert digest == content_hash(point.text)
            truth = (
                FakeEncoder(dimension=NEW).encode([point.text], Modality.TEXT)[0]
                if kind is Kind.ENCODED
                else HalfProjector().apply(point.old[None])[0]
            )
            np.testing.assert_allclose(point.new, truth, rtol=0, atol=1e-6)


def test_forward_projects_every_point_and_encodes_none():
    world = World()
    outcome = world.run(0)
    assert world.kinds() == [Kind.PROJECTED] * 23
    assert (outcome.counts.projected, outcome.counts.encoded) == (23, 0)
    assert outcome.record.phase is Phase.BACKFILLED
    assert world.encoder.encoded == []
    world.check_vectors()


def test_fastfill_encodes_the_first_share_of_the_order_then_the_rest_on_request():
    world = World()
    world.run(0.3)
    first = world.order()[0][:7]
    assert {i for i, p in world.points.items() if p.provenance[1] is Kind.ENCODED} == set(first)
    outcome = world.run(1.0)
    assert world.kinds() == [Kind.ENCODED] * 23
    assert outcome.counts.encoded == 16
    assert sorted(world.encoder.encoded) == sorted(p.text for p in world.points.values())
    world.check_vectors()


@pytest.mark.parametrize("refused", [False, True])
def test_equal_texts_are_embedded_once(refused: bool):
    world = World(40)
    for number, point in enumerate(world.points.values()):
        point.text = f"text {number % 4}"
    world.encoder = FakeEncoder(dimension=NEW, failing=["text 1"] if refused else [])
    outcome = world.run(1, allow=0.5)
    left = {0, 2, 3} if refused else {0, 1, 2, 3}
    assert sorted(world.encoder.encoded) == [f"text {each}" for each in sorted(left)]
    assert outcome.counts.encoded == 10 * len(left)
    assert len(outcome.quarantined) == 40 - 10 * len(left)
    world.check_vectors()


def test_a_point_that_lost_its_encoded_vector_to_an_older_state_is_encoded_again():
    world = World()
    world.run(0)
    first = world.order()[0][0]
    before = replace(world.points[first])
    world.run(0.3)
    world.points[first] = before
    assert world.run(0.3).left == 0
    assert world.points[first].provenance[1] is Kind.ENCODED
    assert world.kinds().count(Kind.PROJECTED) == 16
    world.check_vectors()


def test_partial_full_leaves_the_rest_untouched():
    world = World(projects=False)
    world.run(0.3)
    assert world.kinds().count(Kind.ENCODED) == 7
    assert world.kinds().count(None) == 16
    world.check_vectors()


def test_vectors_paid_for_earlier_are_not_encoded_again():
    world = World()
    texts = {content_hash(p.text): p.text for p in world.points.values()}
    world.known = AllKnown(FakeEncoder(dimension=NEW), texts)
    world.run(1.0)
    assert world.encoder.encoded == []
    assert world.kinds() == [Kind.ENCODED] * 23


def test_what_arrives_changes_and_leaves_during_the_run_is_right_at_the_end():
    world = World()
    write = world.gallery.write
    calls = iter(range(10**9))

    def busy_application(batch, kind):
        if next(calls) == 2:
            world.points["1"].text = "changed"
            world.points["99"] = FakePoint("late", np.ones(OLD, np.float32))
            world.points["2"] = FakePoint("overwritten", np.ones(OLD, np.float32))
            del world.points[batch["id"][0].as_py()]
        return write(batch, kind)

    world.gallery.write = busy_application
    outcome = world.run(1.0)
    assert outcome.record.phase is Phase.BACKFILLED
    assert world.kinds() == [Kind.ENCODED] * 23
    assert outcome.counts.vanished >= 1
    world.check_vectors()


def test_a_sweep_ends_and_says_so_while_the_application_keeps_changing_a_point():
    world = World()
    read = world.gallery.read

    def restless(columns, **selection):
        world.points["1"].text = f"version {random.random()}"
        return read(columns, **selection)

    world.gallery.read = restless
    outcome = world.run(1.0)
    assert outcome.left == 1
    assert outcome.record.phase is Phase.PAUSED


def test_points_without_a_text_keep_their_projected_vector_and_are_counted():
    world = World()
    world.points["4"].text = None
    outcome = world.run(1.0)
    assert outcome.counts.missing_source == 1
    assert list(outcome.quarantined) == ["4"]
    assert world.points["4"].provenance[1] is Kind.PROJECTED
    assert outcome.record.phase is Phase.BACKFILLED


def test_an_unreadable_item_costs_itself_alone():
    world = World()
    world.encoder = FakeEncoder(dimension=NEW, failing={"text 4"})
    outcome = world.run(1.0)
    assert outcome.counts.failed == 1
    assert outcome.counts.encoded == 22
    assert world.points["4"].provenance[1] is Kind.PROJECTED


def test_too_many_unreadable_items_stop_the_run_before_more_is_done():
    world = World(projects=False)
    world.encoder = FakeEncoder(dimension=NEW, failing={f"text {n}" for n in range(23)})
    with pytest.raises(GateError, match="cannot be embedded") as caught:
        world.run(1.0)
    assert caught.value.exit_code == 3
    assert world.records["m"].phase is Phase.PAUSED


def test_points_without_an_old_vector_are_reported_and_encoded_as_soon_as_anything_is():
    world = World()
    world.points["4"].old = None
    outcome = world.run(0)
    assert outcome.quarantined == {"4": "it has no usable old vector"}
    assert world.points["4"].provenance[1] is Kind.NO_OLD_VECTOR
    assert outcome.record.phase is Phase.BACKFILLED
    order, _ = world.order()
    world.frozen = [*(each for each in order if each != "4"), "4"]
    world.run(0.2)
    assert world.points["4"].provenance[1] is Kind.ENCODED
    world.check_vectors()


def test_a_point_without_a_new_vector_is_due_when_it_gets_what_it_lacks():
    world = World()
    world.points["4"].old = None
    world.run(0)
    world.points["4"].old = np.ones(OLD, np.float32)
    assert world.run(0).counts.projected == 1
    assert world.points["4"].provenance[1] is Kind.PROJECTED


def test_points_of_which_nothing_can_be_made_are_marked_once_and_tried_again_by_the_next_run():
    world = World(projects=False)
    world.encoder = FakeEncoder(dimension=NEW, failing={"text 4"})
    world.points["5"].text = None
    outcome = world.run(1.0)
    marked = [(kind, ids) for kind, ids in world.gallery.writes if kind in WITHOUT]
    assert sorted(marked) == [(Kind.NO_CONTENT, ["5"]), (Kind.REFUSED, ["4"])]
    assert outcome.record.phase is Phase.BACKFILLED
    writes = len(world.gallery.writes)
    again = world.run(1.0)
    assert (again.counts.failed, len(world.gallery.writes)) == (1, writes)
    world.encoder = FakeEncoder(dimension=NEW)
    world.points["5"].text = "text at last"
    assert world.run(1.0).counts.encoded == 2
    world.check_vectors()


def test_a_text_that_is_replaced_by_one_the_encoder_takes_is_encoded_in_the_same_run():
    world = World()
    world.encoder = FakeEncoder(dimension=NEW, failing={"text 4"})
    encode = world.encoder.encode

    def mended(items, modality, *, ids=None):
        try:
            return encode(items, modality, ids=ids)
        finally:
            if "text 4" in items:
                world.points["4"].text = "a better text"

    world.encoder.encode = mended
    world.run(1.0)
    assert world.points["4"].provenance[1] is Kind.ENCODED


@pytest.mark.parametrize("broken", [[np.inf, 0, 0, 0], [np.nan] * 4, [0] * 4, [1e38] * 4])
def test_an_unusable_old_vector_is_as_good_as_none(broken):
    world = World()
    world.points["4"].old = np.array(broken, np.float32)
    assert world.run(0).quarantined == {"4": "it has no usable old vector"}
    assert world.points["4"].new is None
    assert world.kinds().count(Kind.PROJECTED) == 22


@pytest.mark.parametrize("fraction", [0, 1.0])
def test_what_was_made_and_cannot_be_compared_is_set_aside_alone(fraction):
    """Whether a projector, an encoder or a kept vector has made it."""
    world = World(projects=fraction == 0)
    apply, encode = HalfProjector.apply, world.encoder.encode

    class Overflowing(HalfProjector):
        def apply(self, vectors):
            return np.where(
                vectors[:, :1] == world.points["4"].old[0], np.inf, apply(self, vectors)
            )

    def overflowing(items, modality, *, ids=None):
        rows = encode(items, modality, ids=ids)
        rows[[item == "text 4" for item in items]] = np.nan
        return rows

    world.projector, world.encoder.encode = Overflowing(), overflowing
    outcome = world.run(fraction)
    maker = "the projector" if fraction == 0 else "the new model"
    assert outcome.quarantined == {"4": f"{maker} made no usable vector for it"}
    assert (outcome.counts.failed, world.points["4"].new) == (1, None)
    assert outcome.counts.projected + outcome.counts.encoded == 22
    assert outcome.record.phase is Phase.BACKFILLED


def test_a_failing_store_pauses_the_run_and_the_next_one_goes_on():
    world = World()
    write = world.gallery.write
    calls = iter(range(10**9))

    def flaky(batch, kind):
        if next(calls) == 6:
            raise ConnectionFailedError("gone", "come back")
        return write(batch, kind)

    world.gallery.write = flaky
    with pytest.raises(ConnectionFailedError):
        world.run(0.5)
    assert world.records["m"].phase is Phase.PAUSED
    world.run(0.5)
    world.check_vectors()
    assert world.kinds().count(Kind.ENCODED) == 12


def test_the_next_half_is_encoded_while_the_last_is_written_but_not_the_one_after():
    world = World(projects=False)
    write, encode = world.gallery.write, world.encoder.encode
    begun = [threading.Event() for _ in range(23)]
    calls, free = iter(range(23)), threading.Event()

    def slow_write(batch, kind):
        assert free.wait(10)
        return write(batch, kind)

    def noticed_encode(items, modality, *, ids=None):
        begun[next(calls)].set()
        return encode(items, modality, ids=ids)

    world.gallery.write, world.encoder.encode = slow_write, noticed_encode
    runner = threading.Thread(target=world.run, args=(1.0,))
    runner.start()
    assert begun[1].wait(10)
    assert not begun[2].wait(0.05)
    assert world.kinds() == [None] * 23
    free.set()
    runner.join()
    assert world.kinds() == [Kind.ENCODED] * 23


def test_an_encoder_that_fails_loses_nothing_that_was_encoded_before():
    world = World(projects=False)
    encode, calls = world.encoder.encode, iter(range(23))

    def failing_encode(items, modality, *, ids=None):
        if next(calls) == 3:
            raise EncoderError("out of memory", "use a smaller batch")
        return encode(items, modality, ids=ids)

    world.encoder.encode = failing_encode
    with pytest.raises(EncoderError, match="out of memory"):
        world.run(1.0)
    assert world.kinds().count(Kind.ENCODED) == len(world.encoder.encoded) > 0
    assert world.records["m"].phase is Phase.PAUSED
    assert world.records["m"].counts.encoded == len(world.encoder.encoded)


@settings(max_examples=60, deadline=None)
@given(
    fraction=st.sampled_from([0.0, 0.3, 1.0]),
    projects=st.booleans(),
    kills=st.lists(st.integers(0, 14), max_size=6),
    data=st.data(),
)
def test_killed_anywhere_and_run_again_nothing_is_missed_or_done_twice(
    fraction, projects, kills, data
):
    world = World(projects=projects)
    if not projects:
        fraction = max(fraction, 0.3)
    for after in kills:
        kill = data.draw(st.sampled_from(["write", "save"]))
        _killed_run(world, fraction, kill, after)
    outcome = world.run(fraction)
    assert outcome.record.phase is Phase.BACKFILLED
    world.check_vectors()
    encoded = world.kinds().count(Kind.ENCODED)
    assert encoded == {0.0: 0, 0.3: 7, 1.0: 23}[fraction]
    assert len(world.encoder.encoded) <= encoded + 5 * len(kills)
    assert None not in world.kinds() or not projects


def _killed_run(world: World, fraction: float, point: str, after: int) -> None:
    """Die before the given call of write, or of the journal's save, without any clean-up."""

    class Killed(BaseException):
        pass

    calls = iter(range(10**9))
    write, save = world.gallery.write, MemoryJournal.save

    def dying_write(batch, kind):
        if point == "write" and next(calls) == after:
            raise Killed
        return write(batch, kind)

    def dying_save(journal, record):
        if point == "save" and next(calls) == after:
            raise Killed
        return save(journal, record)

    world.gallery.write = dying_write
    patch = pytest.MonkeyPatch()
    patch.setattr(MemoryJournal, "save", dying_save)
    try:
        world.run(fraction)
    except Killed:
        pass
    finally:
        world.gallery.write = write
        patch.undo()


@pytest.mark.parametrize("stop_after", range(12))
def test_asked_to_stop_it_finishes_the_batch_and_pauses(stop_after):
    world = World()
    stopped = world.run(1.0, stop_after=stop_after)
    assert stopped.stopped == "stop"
    assert stopped.record.phase is Phase.PAUSED
    world.check_vectors()
    world.run(1.0)
    assert world.kinds() == [Kind.ENCODED] * 23
    assert len(world.encoder.encoded) == 23


def test_progress_grows_to_its_total_in_every_stage():
    world = World()
    world.run(1.0)
    last = {step.stage: (step.done, step.total) for step in world.progress}
    assert last == dict.fromkeys((Stage.PROJECT, Stage.ENCODE, Stage.SWEEP), (23, 23))


@pytest.mark.parametrize("projects", [True, False])
def test_encoding_ends_as_complete_where_a_question_on_the_way_says_so(projects):
    world = World(projects=projects)
    asked = []

    def reached(position, places):
        asked.append((position, places, world.gallery.count(Kind.ENCODED)))
        return position >= 10

    outcome = world.run(1.0, until=StopCheck(every=5, reached=reached))
    assert asked == [(0, 23, 0), (5, 23, 5), (10, 23, 10)]
    assert outcome.record.phase is Phase.BACKFILLED
    assert outcome.record.fraction == pytest.approx(10 / 23)
    assert world.kinds().count(Kind.ENCODED) == 10
    assert world.kinds().count(Kind.PROJECTED) == (13 if projects else 0)
    world.check_vectors()
    assert world.run(outcome.record.fraction).counts.encoded == 0
    assert world.run(1.0).counts.encoded == 13


def test_a_question_that_is_never_answered_ends_at_the_goal():
    world = World()
    outcome = world.run(0.5, until=StopCheck(every=1, reached=lambda *_: False))
    assert (outcome.counts.encoded, outcome.record.fraction) == (12, 0.5)


def test_a_stopped_run_with_a_question_records_only_what_it_reached():
    world = World()
    outcome = world.run(1.0, stop_after=9, until=StopCheck(every=99, reached=lambda *_: False))
    assert outcome.stopped
    assert outcome.record.fraction == pytest.approx(outcome.record.position / 23)
    assert 0 < outcome.record.fraction < 1
    assert world.run(outcome.record.fraction).counts.encoded <= 5
