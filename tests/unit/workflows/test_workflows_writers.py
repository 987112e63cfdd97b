"""What `init` makes of payloads: who wrote them, which fields they have, and what is likely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from tests.support.command import inside
from xbtmigrate.cli import ask
from xbtmigrate.qdrant.wire.payload_field import parse_field
from xbtmigrate.types import Distance, Modality
from xbtmigrate.workflows.plan.find_fields import find_fields
from xbtmigrate.workflows.plan.write_config import Answers, Found, Server, write_config
from xbtmigrate.workflows.plan.writers import recognise

SERVER = Server("path:q", None, None, None, Path("absent"))


def found(*payloads: dict[str, Any], vector: str = "", size: int = 384) -> Found:
    writer = recognise(payloads, [vector])
    fields = find_fields(payloads, writer)
    return Found("c", None, {vector: (size, Distance.COSINE)}, fields, writer)


def test_a_payload_that_shows_no_writer_has_none():
    for payloads in (
        [{"text": "a"}],
        [{"page_content": "a", "metadata": {}}, {"title": "b"}],
        [{"document": "a"}],
        [{}],
        [],
    ):
        assert recognise(payloads, ["own"]) is None


def test_points_without_a_payload_do_not_hide_the_writer():
    writer = recognise([{}, {"page_content": "a", "metadata": None}], [""])
    assert writer is not None
    assert writer.name == "LangChain"


def test_every_text_is_found_under_a_path_that_reads_it():
    payload = {
        "a.b": {" c": "under odd keys"},
        "parts": [{"text": "first part"}, {"text": "second part"}],
        "tags": ["one", "two"],
        "node": json.dumps({"inner": [{"text": "in a JSON string"}]}),
        "{x}": "under braces",
        "": "under no key",
        'q"': "under a quotation mark",
    }
    texts = find_fields([payload], None).texts
    assert set(texts) == {'"a.b"." c"', "parts.text", "tags", "node.inner.text", '"{x}"'}
    for field, sample in texts.items():
        parsed = parse_field(field)
        assert parsed is not None
        assert (parsed.render(payload) or "").startswith(sample)


def test_nodes_of_different_metadata_have_no_template():
    def node(**metadata: str) -> dict[str, Any]:
        content = {"text": "body", "metadata": metadata, "excluded_embed_metadata_keys": ["skip"]}
        return {**metadata, "_node_content": json.dumps(content), "_node_type": "TextNode"}

    same = recognise([node(a="1", skip="x"), node(a="2")], [""])
    assert same is not None
    assert same.texts == ["a: {a}\n\n{_node_content.text}", "_node_content.text"]
    differing = recognise([node(a="1"), node(b="2")], [""])
    assert differing is not None
    assert differing.texts == ["_node_content.text"]


def test_own_templates_of_nodes_are_kept():
    content = {
        "text_resource": {"text": "body"},
        "metadata": {"k": "v", "l": "w"},
        "metadata_template": "<{key}={value}>",
        "metadata_seperator": "; ",
        "text_template": "{{{metadata_str}}} {content}",
    }
    payload = {**content["metadata"], "_node_content": json.dumps(content), "_node_type": "Node"}
    writer = recognise([payload], [""])
    assert writer is not None
    parsed = parse_field(writer.texts[0])
    assert parsed is not None
    assert parsed.render(payload) == "{<k=v>; <l=w>} body"


@pytest.mark.parametrize(
    ("payload", "vector", "stored"),
    [
        ({"image": "a.png"}, "", Modality.IMAGE),
        ({"image": "a.png", "sku": "A-17"}, "", Modality.IMAGE),
        ({"image": "a.png", "caption": "a red chair"}, "", Modality.TEXT),
        ({"image": "a.png", "caption": "a red chair"}, "image_vector", Modality.IMAGE),
        ({"title": "chair"}, "clip", Modality.TEXT),
        ({"page_content": "chair", "metadata": {"image": "a.png"}}, "", Modality.TEXT),
    ],
)
def test_what_is_stored_follows_from_the_fields(payload, vector, stored):
    assert Answers.guessed(found(payload, vector=vector), vector).stored is stored


def test_a_vector_named_after_a_model_names_it():
    seen = found({"document": "a b"}, vector="fast-bge-small-en")
    text = write_config(SERVER, seen, Answers.guessed(seen, "fast-bge-small-en"))
    assert 'encoder = "fastembed"' in text
    assert 'model = "BAAI/bge-small-en"' in text


def test_models_of_the_length_are_proposed_by_what_they_embed():
    texts, images = found({"text": "a b"}, size=512), found({"image": "a.png"}, size=512)
    shown = write_config(SERVER, images, Answers.guessed(images, ""))
    assert "open_clip model=ViT-B-32 pretrained=openai" in shown
    assert 'stored = "image"' in shown
    assert 'stored = "text"' in write_config(SERVER, texts, Answers.guessed(texts, ""))


def test_vectors_without_payloads_are_refused_with_the_way_out(tmp_path: Path):
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    params = models.VectorParams(size=2, distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config=params)
    client.upload_collection("c", vectors=[[1.0, 0.0], [0.0, 1.0]], ids=[0, 1])
    client.close()
    command = ("init", "--url", "path:qdrant", "--collection", "c")
    code, _, err = inside(*command, cwd=tmp_path)
    assert code == 1
    assert "hold no text and no image" in err
    assert "txtai" in err
    assert not (tmp_path / "xbtmigrate.toml").exists()
    code, _, err = inside(*command, "--text", "text", cwd=tmp_path)
    assert code == 0, err


def test_a_template_of_several_lines_is_offered_in_one(monkeypatch: pytest.MonkeyPatch):
    content = json.dumps({"text": "the\nbody", "metadata": {"k": "v"}})
    seen = found({"k": "v", "_node_content": content, "_node_type": "TextNode"})
    offered: list[str] = []

    def first(_: str, options: list[str], **__: str) -> str:
        offered.extend(options)
        return options[0]

    monkeypatch.setattr(ask, "choose", first)
    answers = ask.ask_fields(seen, Answers.guessed(seen, ""))
    assert answers.text == "k: {k}\n\n{_node_content.text}"
    assert offered[0].startswith('k: {k}\\n\\n{_node_content.text}: "k: v\\n\\nthe\\nbody')
    assert not any("\n" in option for option in offered)
