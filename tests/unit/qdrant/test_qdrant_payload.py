from __future__ import annotations

import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.types import Modality, content_hash

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
