"""abort and finalize end in one sentence, as often and as late as they are run."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, write_config
from tests.support.command import answer_inside, inside
from xbtmigrate.workflows.cutover import abort as aborting
from xbtmigrate.workflows.cutover import finalize as finalizing

ABORT = ("abort", "--yes", "--notice", "0")
FINALIZE = ("finalize", "--confirm", "pictures", "--notice", "0", "--no-snapshot")


@pytest.fixture(params=[("in_place", True), ("in_place", False), ("shadow", False)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A backfilled migration of an embedded collection."""
    layout, both = request.param
    clipart = Clipart.load(120)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    clipart.fill(client, "pictures", both=both)
    client.close()
    write_config(tmp_path, "path:qdrant", "pictures", layout=layout, strategy="full")
    answer_inside("plan", cwd=tmp_path)
    answer_inside("backfill", "--online", cwd=tmp_path)
    return tmp_path


def kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_abort_killed_behind_its_clean_up_goes_on_and_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        patched.setattr(aborting, "_forgotten", kill)
        assert inside(*ABORT, cwd=folder)[0] == 130
    assert answer_inside(*ABORT, cwd=folder)["phase"] == "aborted"
    again = answer_inside(*ABORT, cwd=folder, expect=3)
    assert again["error"]["message"] == "there is no migration to abort"


def test_abort_of_a_collection_that_is_gone(folder: Path):
    client = QdrantClient(path=str(folder / "qdrant"))
    client.delete_collection("pictures")
    client.close()
    assert answer_inside(*ABORT, cwd=folder)["phase"] == "aborted"


def test_finalize_killed_behind_its_clean_up_goes_on_and_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    answer_inside("verify", cwd=folder)
    answer_inside("cutover", "--yes", "--by-switch", cwd=folder)
    with monkeypatch.context() as patched:
        patched.setattr(finalizing, "update_switch", kill)
        assert inside(*FINALIZE, cwd=folder)[0] == 130
    refused = answer_inside(*ABORT, cwd=folder, expect=3)
    assert refused["error"]["hint"]
    assert answer_inside(*FINALIZE, cwd=folder)["phase"] == "finalized"
    for command in (FINALIZE, ABORT):
        assert answer_inside(*command, cwd=folder, expect=3)["error"]["hint"]
