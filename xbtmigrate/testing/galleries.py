"""Provide the contract that every gallery has to meet.

To test another gallery, subclass `GalleryContract`, give it a `store` fixture and run pytest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pytest

from xbtmigrate.errors import VectorError
from xbtmigrate.protocols import Gallery
from xbtmigrate.types import (
    WITHOUT,
    Kind,
    PointId,
    Vectors,
    content_hash,
    make_batch,
    vector_array,
    vectors_of,
)


class GalleryStore(Protocol):
    """A store as the contract uses it: galleries over it, and the writes of an application.

    Vectors are 4 long in the old space and 3 in the new one; the distance is Dot.
    """

    def gallery(self, plan: str = "plan-a") -> Gallery:
        """Open a gallery whose writes belong to `plan`."""
        ...

    def upsert(self, point_id: PointId, text: str | None, old: Sequence[float]) -> None:
        """Store a whole point as an application does: what was there before is gone.

        The old vector may hold infinity.
        """
        ...

    def change_text(self, point_id: PointId, text: str) -> None:
        """Change the text alone; vectors and other payload stay."""
        ...

    def change_vector(self, point_id: PointId, old: Sequence[float]) -> None:
        """Change the old vector alone; payload and other vectors stay."""
        ...

    def delete(self, point_id: PointId) -> None:
        """Delete a point."""
        ...


# The fourth is the largest integer id: as a float or a signed integer it would be another.
IDS: tuple[PointId, ...] = (
    "1",
    "2",
    "30",
    "18446744073709551615",
    "0b8f0f6e-0f0e-4c63-8f0a-2f6f8a3f7e11",
    "9c1c2a30-53a1-4e0f-9a43-5fd3f1d8c0aa",
)
"""Ids of the contract's points, in the store's own order."""


def fill(store: GalleryStore) -> None:
    """Store the contract's six points; point "30" has no text."""
    for point_id in IDS:
        text = None if point_id == "30" else f"text {point_id}"
        store.upsert(point_id, text, _first_old(point_id))


def _first_old(point_id: PointId) -> list[float]:
    row = IDS.index(point_id) if point_id in IDS else 0
    return [row, row + 0.25, row + 0.5, 1.0]


def table_of(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Join the batches of one read into a table."""
    return pa.Table.from_batches(list(batches))


def to_write(
    ids: Sequence[PointId],
    texts: Sequence[str | None],
    value: float,
    old: Vectors | None = None,
) -> pa.RecordBatch:
    """Build a batch for `write` whose row i holds the vector (value + i, 1, 2).

    The old vectors it is made from are those of `fill`, or `old`.
    """
    rows = np.array([[value + row, 1.0, 2.0] for row in range(len(ids))], dtype=np.float32)
    if old is None:
        old = np.array([_first_old(each) for each in ids], np.float32).reshape(-1, 4)
    hashes = [content_hash(text) for text in texts]
    new = vector_array(rows.reshape(-1, 3))
    return make_batch(ids, content_hash=hashes, old=vector_array(old), new=new)


def left_out(ids: Sequence[PointId], texts: Sequence[str | None]) -> pa.RecordBatch:
    """Build a batch for `write` of points that get no vector; their old vectors are of `fill`."""
    return to_write(ids, texts, 0.0).drop_columns(["new"])


def texts_of(ids: Sequence[PointId]) -> list[str | None]:
    """Return the texts that `fill` gave to these points."""
    return [None if each == "30" else f"text {each}" for each in ids]


class GalleryContract:
    """Behaviours every gallery shares; a subclass provides the fixture `store`."""

    def test_reads_every_point_once_in_store_order(self, store: GalleryStore) -> None:
        """All columns come back, typed and in the agreed order."""
        fill(store)
        table = table_of(store.gallery().read({"new", "kind", "source", "old"}))
        names = ["id", "text", "image", "content_hash", "kind", "old", "new"]
        assert table.column_names == names
        assert table.column("id").to_pylist() == list(IDS)
        assert table.column("text").to_pylist() == texts_of(IDS)
        hashes = [content_hash(text) for text in texts_of(IDS)]
        assert table.column("content_hash").to_pylist() == hashes
        assert table.column("kind").null_count == table.column("new").null_count == len(IDS)
        expected = [[row, row + 0.25, row + 0.5, 1.0] for row in range(len(IDS))]
        np.testing.assert_allclose(vectors_of(table, "old"), np.array(expected), rtol=1e-6)

    def test_gives_only_the_asked_columns(self, store: GalleryStore) -> None:
        """A pass that needs no text does not get it."""
        fill(store)
        assert table_of(store.gallery().read({"old"})).column_names == ["id", "old"]

    def test_resumes_behind_a_cursor(self, store: GalleryStore) -> None:
        """The cursor's own point is excluded, and it may have been deleted meanwhile."""
        fill(store)
        # The second cursor's point is deleted: a cursor is a place in the order, not a point.
        store.delete("2")
        for cursor in ("1", "2"):
            table = table_of(store.gallery().read({"source"}, after=cursor))
            assert table.column("id").to_pylist() == list(IDS[2:])
        assert list(store.gallery().read({"source"}, after=IDS[-1])) == []

    def test_reads_ids_in_the_order_given(self, store: GalleryStore) -> None:
        """Absent ids are left out."""
        fill(store)
        # "77" is in no store: an id that is asked for may have been deleted since.
        asked = [IDS[4], "77", IDS[0], IDS[3]]
        table = table_of(store.gallery().read({"source", "old"}, ids=asked))
        assert table.column("id").to_pylist() == [IDS[4], IDS[0], IDS[3]]
        assert vectors_of(table, "old")[:, 0].tolist() == [4.0, 0.0, 3.0]

    def test_an_empty_list_of_ids_reads_nothing(self, store: GalleryStore) -> None:
        """No id is not the same as every id."""
        fill(store)
        assert list(store.gallery().read({"source"}, ids=[])) == []

    def test_an_unusable_old_vector_is_null(self, store: GalleryStore) -> None:
        """Infinite, zero or of absurd length: it is as if there were none."""
        inf = float("inf")
        # Squared, 1e38 overflows float32 and 1e-30 becomes zero; 1e12 can still be compared.
        ends = [[1e38] * 4, [1e-30, 0.0, 0.0, 0.0], [1e12, 1.0, 1.0, 1.0]]
        rows = [[inf, 1.0, 1.0, 1.0], [inf, -inf, 1.0, 1.0], [0.0] * 4, *ends]
        for point_id, old in zip(IDS, rows, strict=True):
            store.upsert(point_id, f"text {point_id}", old)
        for ids in (None, IDS):
            table = table_of(store.gallery().read({"source", "kind", "old"}, ids=ids))
            assert table.column("old").is_null().to_pylist() == [True] * 5 + [False]
            assert table.column("text").to_pylist() == [f"text {each}" for each in IDS]

    def test_keeps_what_was_written(self, store: GalleryStore) -> None:
        """Vectors, kinds and exact counts agree after a write of either kind."""
        fill(store)
        gallery = store.gallery()
        first = gallery.write(to_write(IDS[:4], texts_of(IDS[:4]), 10.0), Kind.PROJECTED)
        gallery.write(to_write(IDS[4:], texts_of(IDS[4:]), 20.0), Kind.ENCODED)
        assert (list(first.written), list(first.vanished)) == (list(IDS[:4]), [])
        # At once: `write` returns only when the store has applied it.
        counts = [gallery.count(), gallery.count(Kind.PROJECTED), gallery.count(Kind.ENCODED)]
        assert counts == [6, 4, 2]
        table = table_of(gallery.read({"kind", "new"}))
        assert table.column("kind").to_pylist() == ["projected"] * 4 + ["encoded"] * 2
        assert vectors_of(table, "new")[:, 0].tolist() == [10.0, 11.0, 12.0, 13.0, 20.0, 21.0]

    def test_never_stores_what_cannot_be_compared(self, store: GalleryStore) -> None:
        """A batch with a vector that is not finite, zero, or of another length is refused whole."""
        fill(store)
        gallery = store.gallery()
        for broken in (float("nan"), float("inf"), 1e38):
            batch = to_write(IDS[:2], texts_of(IDS[:2]), broken)
            with pytest.raises(VectorError, match=r"the new model made 2 vectors .* point 1, 2"):
                gallery.write(batch, Kind.ENCODED)
        zeros, longer = (vector_array(np.full((2, d), d - 3, np.float32)) for d in (3, 4))
        batch = to_write(IDS[:2], texts_of(IDS[:2]), 1.0)
        for broken in (zeros, longer):
            with pytest.raises(VectorError, match="the projector made"):
                gallery.write(batch.set_column(3, "new", broken), Kind.PROJECTED)
        assert table_of(gallery.read({"new"}))["new"].null_count == len(IDS)

    def test_what_is_expected_changes_nothing(self, store: GalleryStore) -> None:
        """It is a hint for what to read along, and decides nothing."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(IDS[:2], texts_of(IDS[:2]), 10.0), Kind.PROJECTED)
        gallery.write(to_write(IDS[2:4], texts_of(IDS[2:4]), 20.0), Kind.ENCODED)
        store.change_vector(IDS[0], [4.0, 3.0, 2.0, 1.0])
        for ids in (None, IDS):
            for expected in (None, *Kind):
                table = table_of(gallery.read({"kind"}, ids=ids, expected=expected))
                assert table.column_names == ["id", "kind"]
                # Point 0 has lost the old vector that its mark names: it is due again.
                kinds = [None, "projected", "encoded", "encoded", None, None]
                assert table.column("kind").to_pylist() == kinds

    def test_a_point_without_a_new_vector_is_kept_and_due_again_when_it_changes(
        self, store: GalleryStore
    ) -> None:
        """It counts as done by its reason, until what the reason rests on is another."""
        fill(store)
        gallery = store.gallery()
        asked = ["1", "2", "30"]
        gallery.write(left_out(["1", "2"], texts_of(["1", "2"])), Kind.REFUSED)
        gallery.write(left_out(["30"], [None]), Kind.NO_CONTENT)
        assert [gallery.count(kind) for kind in WITHOUT] == [1, 2, 0]
        table = table_of(gallery.read({"kind", "new"}, ids=asked))
        assert table["kind"].to_pylist() == ["refused", "refused", "no_content"]
        assert table["new"].null_count == 3
        store.change_text("1", "another text")
        # "30" has no text, so its old vector is all that its mark rests on.
        store.change_vector("30", [4.0, 3.0, 2.0, 1.0])
        kinds = table_of(gallery.read({"kind"}, ids=asked))["kind"].to_pylist()
        assert kinds == [None, "refused", None]
        gallery.write(to_write(["2"], ["text 2"], 10.0), Kind.ENCODED)
        table = table_of(gallery.read({"kind", "new"}, ids=["2"]))
        assert table["kind"].to_pylist() == ["encoded"]
        assert table["new"].null_count == 0
        assert gallery.count(Kind.REFUSED) == 1

    def test_points_without_a_new_vector_vanish_too(self, store: GalleryStore) -> None:
        """The rest of the batch is stored."""
        fill(store)
        gallery = store.gallery()
        store.delete("2")
        result = gallery.write(left_out(IDS[:3], texts_of(IDS[:3])), Kind.REFUSED)
        assert (list(result.written), list(result.vanished)) == (["1", "30"], ["2"])
        assert gallery.count(Kind.REFUSED) == 2

    def test_the_last_write_wins(self, store: GalleryStore) -> None:
        """A projected vector is replaced by an encoded one."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(["1"], ["text 1"], 10.0), Kind.PROJECTED)
        gallery.write(to_write(["1"], ["text 1"], 20.0), Kind.ENCODED)
        table = table_of(gallery.read({"kind", "new"}, ids=["1"]))
        assert table.column("kind").to_pylist() == ["encoded"]
        assert vectors_of(table, "new").tolist() == [[20.0, 1.0, 2.0]]
        assert gallery.count(Kind.PROJECTED) == 0

    def test_reports_vanished_points_and_never_brings_them_back(self, store: GalleryStore) -> None:
        """The rest of the batch is stored."""
        fill(store)
        gallery = store.gallery()
        store.delete("2")
        # A gallery that writes whole points would create point 2 again.
        result = gallery.write(to_write(IDS[:3], texts_of(IDS[:3]), 10.0), Kind.ENCODED)
        assert (list(result.written), list(result.vanished)) == (["1", "30"], ["2"])
        assert (gallery.count(), gallery.count(Kind.ENCODED)) == (5, 2)
        table = table_of(gallery.read({"new"}, ids=IDS[:3]))
        assert vectors_of(table, "new")[:, 0].tolist() == [10.0, 12.0]

    def test_a_changed_text_is_seen(self, store: GalleryStore) -> None:
        """The vector of the former text no longer counts as made."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(["1", "2"], ["text 1", "text 2"], 10.0), Kind.ENCODED)
        store.change_text("1", "another text")
        table = table_of(gallery.read({"kind"}, ids=["1", "2"]))
        assert table.column("kind").to_pylist() == [None, "encoded"]

    def test_a_vector_made_from_a_former_text_is_seen(self, store: GalleryStore) -> None:
        """The text changed between the read and the write."""
        fill(store)
        gallery = store.gallery()
        store.change_text("1", "another text")
        # The batch names the text that was read, not the one that is stored by now.
        gallery.write(to_write(["1"], ["text 1"], 10.0), Kind.ENCODED)
        assert table_of(gallery.read({"kind"}, ids=["1"])).column("kind").to_pylist() == [None]

    def test_a_replaced_point_is_seen(self, store: GalleryStore) -> None:
        """An application's upsert drops the new vector, so the point is due again."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(["1"], ["text 1"], 10.0), Kind.ENCODED)
        # A whole point is written, so new vector and mark are gone together.
        store.upsert("1", "text 1 again", [9.0, 9.0, 9.0, 9.0])
        table = table_of(gallery.read({"kind", "old"}, ids=["1"]))
        assert table.column("kind").to_pylist() == [None]
        assert vectors_of(table, "old").tolist() == [[9.0, 9.0, 9.0, 9.0]]

    def test_a_changed_old_vector_is_seen(self, store: GalleryStore) -> None:
        """A projected vector was made from the former one; what it was written for has gone."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(["1", "2"], ["text 1", "text 2"], 10.0), Kind.PROJECTED)
        store.change_vector("1", [4.0, 3.0, 2.0, 1.0])
        kinds = table_of(gallery.read({"kind"}, ids=["1", "2"])).column("kind").to_pylist()
        assert kinds == [None, "projected"]

    def test_a_vector_projected_from_a_former_one_is_seen(self, store: GalleryStore) -> None:
        """The old vector changed between the read and the write."""
        fill(store)
        gallery = store.gallery()
        store.change_vector("1", [4.0, 3.0, 2.0, 1.0])
        gallery.write(to_write(["1"], ["text 1"], 10.0), Kind.PROJECTED)
        assert table_of(gallery.read({"kind"}, ids=["1"])).column("kind").to_pylist() == [None]

    def test_another_plan_made_nothing_here(self, store: GalleryStore) -> None:
        """Vectors of a former plan do not count for this one."""
        fill(store)
        store.gallery("plan-a").write(to_write(["1"], ["text 1"], 10.0), Kind.ENCODED)
        # A plan has its own models, so a vector of another may be of another space.
        other = store.gallery("plan-b")
        assert table_of(other.read({"kind"}, ids=["1"])).column("kind").to_pylist() == [None]
        assert other.count(Kind.ENCODED) == 0

    def test_pruning_leaves_no_orphan(self, store: GalleryStore) -> None:
        """What was deleted after it was written does not count; pruning again finds nothing."""
        fill(store)
        gallery = store.gallery()
        gallery.write(to_write(IDS, texts_of(IDS), 10.0), Kind.ENCODED)
        # The first and the last, because a merge of two sorted lists is easily wrong at its ends.
        store.delete("1")
        store.delete(IDS[-1])
        # In place there is nothing left to remove, in a shadow there are two copies.
        gallery.prune()
        assert (gallery.count(), gallery.count(Kind.ENCODED)) == (4, 4)
        assert gallery.prune() == 0
