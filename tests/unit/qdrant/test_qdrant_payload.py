from __future__ import annotations

import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.qdrant.wire.payload_field import parse_field, write_path
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.types import Modality, content_hash

PAYLOAD = {
    "title": "Red chair",
    "meta": {"title": "A chair", "tags": ["wood", "red", ""], "year": 1962, "sold": True},
    "parts": [{"name": "leg"}, {"name": "seat"}, {}],
    "blank": "  ",
    "dc:title": "Dublin",
    "a.b": {"{c}": "odd", " d ": "spaced"},
    "node": '{"text": "in JSON", "metadata": {"page": 7}, "parts": ["one", {"text": "two"}]}',
    "nodes": ['{"text": "first"}', '{"text": "second"}', "{no JSON"],
    "twice": '{"inner": "{\\"text\\": \\"deep\\"}"}',
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
        ("{ title }.", "Red chair."),
        ("dc:title", "Dublin"),
        ('{"dc:title"}, {title}', "Dublin, Red chair"),
        ('"a.b"."{c}"', "odd"),
        ('{"a.b"."{c}"} {{{"a.b"." d "}}}', "odd {spaced}"),
        ('"meta" . "title"', "A chair"),
        ("node.text", "in JSON"),
        ("page {node.metadata.page}: {node.text}", "page 7: in JSON"),
        ("node.parts", "one"),
        ("nodes.text", "first, second"),
        ("twice.inner.text", "deep"),
        ("node.absent", None),
        ("title.text", None),
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


@pytest.mark.parametrize(
    "field",
    [
        *("", "{title", "title}", "{}", "{title!r}", "{meta.year:>8}", "{{x}}", "{a}}"),
        *("meta.", ".meta", "meta..title", '"open', '"bad \\x escape"', '"a"b', '""', '"a\\"b"'),
    ],
)
def test_refuses_what_is_no_field(field: str) -> None:
    with pytest.raises(ConfigError):
        text(field)


@pytest.mark.parametrize(
    "path", [("a",), ("a.b", "c"), (" a", "b "), ("dc:title",), ("é ü",), ('q"', "{x}"), ("", "a!")]
)
def test_every_path_can_be_written(path: tuple[str, ...]) -> None:
    for field in (write_path(path), f"{{{write_path(path)}}}."):
        parsed = parse_field(field)
        assert parsed is not None
        assert parsed.paths == (path,)


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
