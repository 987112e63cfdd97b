"""One document of each command, and errors, as docs/output.md describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, make_judged_folder
from tests.support.command import answer
from tests.support.documents import DOCS, rows, sections

COUNT = 300
SECTIONS = sections(DOCS / "output.md")


@pytest.fixture(scope="module")
def migration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned, trained and partly backfilled collection; one of its images is unreadable."""
    folder = tmp_path_factory.mktemp("output")
    clipart = Clipart.load(COUNT)
    make_judged_folder(folder, clipart, 60, images_from=20)
    client = QdrantClient(path=str(folder / "qdrant"))
    client.set_payload("clipart", {"image": "no such image"}, points=[clipart.ids[0]])
    client.close()
    return folder


@pytest.fixture(scope="module")
def documents(migration: Path) -> dict[str, dict[str, Any]]:
    """One document of each command, by its section."""
    return {
        "plan": answer("plan", cwd=migration),
        "train-projector": answer("train-projector", "--kind", "ridge", cwd=migration),
        "bench": answer("bench", "--yes", "--sample", "256", cwd=migration),
        "backfill": answer("backfill", "--fraction", "1", cwd=migration),
        "backfill --online": answer("backfill", "--online", "--fraction", "1", cwd=migration),
        "status": answer("status", cwd=migration),
        "publish": answer("publish", "--yes", cwd=migration),
        "evaluate": answer(
            *("evaluate", "--gate", "recall@10>=0.1"),
            *("--servings", ",".join(rows(SECTIONS["Servings"]))),
            cwd=migration,
        ),
    }


def test_a_point_that_cannot_be_embedded_is_listed_with_its_reason(
    documents: dict[str, dict[str, Any]],
):
    done = documents["backfill --online"]
    assert done["failed"] == len(done["quarantined"]) == 1
    assert "no such image" in next(iter(done["quarantined"].values()))


def test_the_described_values_are_printed(documents: dict[str, dict[str, Any]]):
    systems = [system["name"] for system in documents["evaluate"]["systems"]]
    assert (systems[0], systems[-1]) == ("keep", "full")
    servings = {curve["serving"] for curve in documents["evaluate"]["curves"]}
    # Among images queries are not centred, so there is no other curve of plain ones.
    assert servings == set(rows(SECTIONS["Servings"])) - {"uncentred"}
    assert documents["backfill --online"]["status"] == "complete"


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["status", "--config", "absent.toml"], 2, "ConfigError"),
        (["plan"], 3, "GateError"),
        (["backfill", "--order", "alphabetical", "--online"], 2, "PluginError"),
        (["evaluate", "--queries", "absent.parquet"], 2, "ConfigError"),
        (["backfill", "--fraction", "7"], 2, "ConfigError"),
        (["backfill", "--fractoin", "1"], 2, "ConfigError"),
    ],
)
def test_an_error_is_a_document(
    migration: Path,
    documents: dict[str, dict[str, Any]],
    arguments: list[str],
    code: int,
    kind: str,
):
    document = answer(*arguments, cwd=migration, expect=code)
    assert (document["error"]["exit_code"], document["error"]["type"]) == (code, kind)
    assert rows(SECTIONS["Errors"])[kind][0] == str(code)
