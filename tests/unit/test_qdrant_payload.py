from __future__ import annotations

import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.qdrant.payload import (
    GROUP,
    PLAN_LENGTH,
    EmbeddedFields,
    remembers,
    shared_provenance,
    whole_hash,
)
from xbtmigrate.types import Kind, Modality, content_hash

PAYLOAD = {
    "title": "Red chair",
    "meta": {"title": "A chair", "tags": ["wood", "red", ""], "year": 1962, "sold": True},
    "parts": [{"name": "leg"}, {"name": "seat"}, {}],
    "blank": "  ",
    "png": "data:image/png;base64,AAAA",
}


def text(field: str) -> str | None:
    return EmbeddedFields(text=field, image=None, stored=Modality.TEXT).text_of(PAYLOAD)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("title", "Red chair"),
        ("meta.title", "A chair"),
        ("meta.tags", "wood, red"),
        ("meta.year", "1962"),
        ("parts.name", "leg, seat"),
        ("{title}. {meta.tags}", "Red chair. wood, red"),
        ("{title}. {absent}", "Red chair."),
        ("{{{title}}} of {meta.year}", "{Red chair} of 1962"),
        ("absent", None),
        ("title.absent", None),
        ("blank", None),
        ("meta", None),
        ("meta.sold", None),
        ("{absent}. {blank}", None),
    ],
)
def test_renders_the_embedded_text(field: str, expected: str | None) -> None:
    assert text(field) == expected


@pytest.mark.parametrize("field", ["", "{title", "{}", "{title!r}", "{meta.year:>8}", "{{x}}"])
def test_refuses_what_is_no_field(field: str) -> None:
    with pytest.raises(ConfigError):
        text(field)


def test_hashes_only_the_field_that_was_embedded() -> None:
    by_text = EmbeddedFields(text="title", image="png", stored=Modality.TEXT)
    by_image = EmbeddedFields(text="title", image="png", stored=Modality.IMAGE)
    assert by_text.hash_of(PAYLOAD) == content_hash("Red chair")
    assert by_image.hash_of(PAYLOAD) == content_hash(PAYLOAD["png"])
    assert by_text.hash_of({"png": "x"}) == ""


def test_the_stored_field_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"payload\.image"):
        EmbeddedFields(text="title", image=None, stored=Modality.IMAGE)


def test_reads_only_the_keys_it_needs() -> None:
    fields = EmbeddedFields(
        text="{meta.title} {meta.tags} {title}", image="png", stored=Modality.TEXT
    )
    assert fields.keys() == ['"meta"', '"title"', '"png"']


def test_the_hash_of_a_payload_ignores_key_order_and_our_own_key() -> None:
    assert whole_hash({"a": 1, "b": [1, {"c": "ü"}]}) == whole_hash(
        {"b": [1, {"c": "ü"}], "_xbtmigrate": {"plan": "p"}, "a": 1}
    )
    assert whole_hash({"a": 1}) != whole_hash({"a": 2})


def test_points_that_share_a_mark_each_remember_their_own_content() -> None:
    made_from = {str(n): content_hash(f"text {n}") for n in range(GROUP)}
    mark = shared_provenance("p" * 64, Kind.ENCODED, made_from)
    assert (mark["plan"], mark["kind"]) == ("p" * PLAN_LENGTH, "encoded")
    assert all(remembers(mark, "p" * 64, *each) for each in made_from.items())
    assert not remembers(mark, "q" * 64, "1", made_from["1"])
    assert not remembers(mark, "p" * 64, "1", content_hash("another text"))
    assert not remembers(mark, "p" * 64, "1", "")


def test_two_points_that_swap_their_texts_are_both_seen() -> None:
    made_from = {"1": content_hash("one"), "2": content_hash("two")}
    mark = shared_provenance("p", Kind.ENCODED, made_from)
    assert not remembers(mark, "p", "1", made_from["2"])
    assert not remembers(mark, "p", "2", made_from["1"])
