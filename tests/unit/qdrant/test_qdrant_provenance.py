"""What a point remembers of its new vector is true of exactly that content and that vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbtmigrate.qdrant.gallery.provenance import (
    GROUP,
    PLAN_LENGTH,
    build_shared_provenance,
    find_sketch,
    pack_sketch,
    same_vectors,
    sketch,
    whole_hash,
    whole_sketches,
)
from xbtmigrate.qdrant.wire.points import Sparse
from xbtmigrate.types import Kind, content_hash, normalized

PLAN = "p" * 64


def vectors(count: int, length: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, length)).astype(np.float32)


def marked(contents: dict[str, str], rows: np.ndarray) -> dict[str, str]:
    hashes = {point: content_hash(text) for point, text in contents.items()}
    return build_shared_provenance(PLAN, Kind.ENCODED, hashes, sketch("new", rows))


def test_the_hash_of_a_payload_ignores_key_order_and_our_own_key() -> None:
    assert whole_hash({"a": 1, "b": [1, {"c": "ü"}]}) == whole_hash(
        {"b": [1, {"c": "ü"}], "_xbtmigrate": {"plan": "p"}, "a": 1}
    )
    assert whole_hash({"a": 1}) != whole_hash({"a": 2})


def test_points_that_share_a_mark_each_remember_their_own_content_and_vector() -> None:
    contents = {str(number): f"text {number}" for number in range(GROUP)}
    rows = vectors(GROUP)
    mark = marked(contents, rows)
    assert (mark["plan"], mark["kind"]) == (PLAN[:PLAN_LENGTH], "encoded")
    entries = [find_sketch(mark, PLAN, each, content_hash(contents[each])) for each in contents]
    assert None not in entries
    assert same_vectors(entries, sketch("new", rows)).all()  # type: ignore[arg-type]
    assert not same_vectors(entries, sketch("new", np.roll(rows, 1, axis=0))).any()  # type: ignore[arg-type]
    assert find_sketch(mark, "q" * 64, "1", content_hash("text 1")) is None
    assert find_sketch(mark, PLAN, "1", content_hash("another text")) is None
    assert find_sketch(mark, PLAN, "1", "") is None


def test_two_points_that_swap_their_texts_are_both_seen() -> None:
    mark = marked({"1": "one", "2": "two"}, vectors(2))
    assert find_sketch(mark, PLAN, "1", content_hash("two")) is None
    assert find_sketch(mark, PLAN, "2", content_hash("one")) is None


@pytest.mark.parametrize("mark", [None, "text", 7, [], {}, {"plan": PLAN[:PLAN_LENGTH]}])
def test_what_an_application_puts_in_place_of_a_mark_is_no_mark(mark: object) -> None:
    assert find_sketch(mark, PLAN, "1", content_hash("one")) is None


def test_a_missing_vector_is_not_the_remembered_one() -> None:
    rows = vectors(2)
    entries = pack_sketch(sketch("new", rows))
    rows[1] = np.nan
    assert same_vectors(entries, sketch("new", rows)).tolist() == [True, False]
    assert same_vectors([], sketch("new", rows[:0])).tolist() == []


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 64, 512, 1536]))
def test_a_sketch_survives_what_a_server_does_to_a_vector(seed: int, length: int) -> None:
    rows = vectors(8, length, seed)
    entries = pack_sketch(sketch("new", rows))
    for stored in (normalized(rows), normalized(normalized(rows)), 3 * rows):
        assert same_vectors(entries, sketch("new", stored)).all()
    half = rows.astype("f2").astype("f4")
    assert same_vectors(entries, sketch("new", half), halves=1).all()


# Length, seed and row of vectors that half precision moves by more than four steps of a sketch.
MOVED = [
    (64, 134, 244),
    (64, 1567, 365),
    (384, 143, 188),
    (384, 674, 19),
    (384, 682, 394),
    (768, 336, 46),
    (768, 457, 114),
    (3072, 105, 281),
    (3072, 115, 463),
]


def moved(length: int, seed: int, row: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((500, length), dtype=np.float32)
    return normalized(rows[row : row + 1])


@pytest.mark.parametrize("place", MOVED)
def test_half_precision_never_hides_a_vector_from_its_mark(place: tuple[int, int, int]) -> None:
    row = moved(*place)
    entries, stored = pack_sketch(sketch("new", row)), sketch("new", row.astype("f2").astype("f4"))
    assert same_vectors(entries, stored, halves=1).all()
    assert not same_vectors(entries, stored).any()


def test_many_vectors_in_half_precision_are_all_recognised() -> None:
    for length in (8, 768):
        rows = normalized(vectors(30_000, length))
        entries, stored = pack_sketch(sketch("new", rows)), rows.astype("f2").astype("f4")
        assert same_vectors(entries, sketch("new", stored), halves=1).all()
        others = sketch("new", np.roll(stored, 1, axis=0))
        assert not same_vectors(entries, others, halves=1).any()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.9))
def test_a_sketch_tells_vectors_of_other_contents_apart(seed: int, distance: float) -> None:
    first, second = normalized(vectors(2, 512, seed))
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    cosine = 1 - distance**2 / 2
    other = cosine * first + np.sqrt(1 - cosine**2) * second
    assert not same_vectors(
        pack_sketch(sketch("new", first[None])), sketch("new", other[None])
    ).any()


def test_the_names_and_every_form_of_a_vector_count() -> None:
    sparse = Sparse(np.array([7, 70_000], np.uint32), np.array([1, 2], np.float32))
    multi = vectors(3, 8)
    points = [
        {"a": vectors(1)[0], "s": sparse, "m": multi},
        {"b": vectors(1)[0], "s": sparse, "m": multi},
        {"a": vectors(1)[0], "s": Sparse(sparse.indices + 1, sparse.values), "m": multi},
        {"a": vectors(1)[0], "s": sparse, "m": multi[::-1]},
        {"a": vectors(1)[0], "s": sparse},
        {},
    ]
    first = pack_sketch(whole_sketches(points[:1] * len(points)))
    assert same_vectors(first, whole_sketches(points)).tolist() == [True] + [False] * 5


@pytest.mark.parametrize("count", [1, 4, 10, 40])
def test_any_number_of_vectors_is_recognised_and_told_apart(count: int) -> None:
    """The sketches of many vectors add up to more than a mark can hold."""
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((5000, count, 16)).astype(np.float32)
    points = [{str(name): vector for name, vector in enumerate(each)} for each in rows]
    sketches = whole_sketches(points)
    assert same_vectors(pack_sketch(sketches), sketches).all()
    assert not same_vectors(pack_sketch(sketches), np.roll(sketches, 1, axis=0)).any()
