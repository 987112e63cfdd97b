"""Every document has a schema that describes it, and the page is made of the schemas."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.command import inside
from tests.support.documents import DOCS, check_document, sections
from xbtmigrate.cli.app import command_of
from xbtmigrate.cli.verbs import VERBS
from xbtmigrate.documents.catalogue import DOCUMENTS, schema_of

PAGE = DOCS / "output.md"
ABORTED = {
    "collection": "texts", "removes": "", "phase": "aborted", "status": "aborted", "next": "",
    "next_note": None,
}  # fmt: skip


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document and all objects in it."""
    parts = [schema, *schema.get("$defs", {}).values()]
    return (part for part in parts if "properties" in part)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_is_described_and_required(name: str):
    for part in objects(schema_of(name)):
        assert part["description"]
        assert set(part["required"]) == set(part["properties"])
        silent = [key for key, value in part["properties"].items() if not value.get("description")]
        assert (part["title"], silent) == (part["title"], [])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_leaves_room_for_keys_of_later_versions(name: str):
    for part in objects(schema_of(name)):
        assert "additionalProperties" not in part


def test_every_command_with_json_has_a_document():
    printing = {
        name for name in VERBS if any("--json" in option.opts for option in command_of(name).params)
    }
    assert printing <= set(DOCUMENTS)


def test_the_page_is_the_one_that_is_generated():
    page = PAGE.read_text("utf-8")
    assert page == runpy.run_path(str(DOCS / "write_output.py"))["rewritten"](page), "`make docs`"
    assert set(DOCUMENTS) <= {name for head in sections(PAGE) for name in head.split(", ")}


@pytest.mark.parametrize(
    "change",
    [{"removed": "all"}, {"phase": "gone"}, {"next": 1}],
    ids=lambda each: next(iter(each)),
)
def test_the_check_of_documents_sees_a_wrong_one(change: dict[str, Any]):
    check_document(json.dumps(ABORTED), "abort")
    for wrong in (ABORTED | change, {key: ABORTED[key] for key in ABORTED if key != "next"}):
        with pytest.raises(ValidationError):
            check_document(json.dumps(wrong), "abort")


def test_schema_prints_the_schema_of_a_document_and_names_those_there_are(tmp_path: Path):
    code, out, _ = inside("schema", "status", cwd=tmp_path)
    assert (code, json.loads(out)) == (0, schema_of("status"))
    code, _, err = inside("schema", "statu", cwd=tmp_path)
    assert (code, "there is no document 'statu'" in err) == (2, True)
    assert "backfill --online" in err
