"""`init` asks what it cannot see, tries each answer, and writes a file that works as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from tests.support.command import inside, type_inside
from tests.support.corpus import write_vectors
from tests.support.terminal import at_terminal
from tests.support.texts import Texts
from xbtmigrate.config import load_config

COUNT = 120
INIT = ("init", "--url", "path:qdrant")
OLD, NEW = "precomputed path=old.parquet", "precomputed path=new.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection of two vectors behind an alias, and the files of some models."""
    texts, client = Texts.make(COUNT), QdrantClient(path=str(tmp_path / "qdrant"))
    sizes = {
        name: models.VectorParams(size=size, distance=models.Distance.COSINE)
        for name, size in (("old", 16), ("other", 8))
    }
    client.create_collection("texts", vectors_config=sizes)
    payloads = [
        {"title": f"t{row}", "text": text, "picture": f"{row}.png"}
        for row, text in enumerate(texts.texts)
    ]
    points = models.Batch(ids=texts.ids, vectors={"old": texts.old.tolist()}, payloads=payloads)
    client.upsert("texts", points)
    made = models.CreateAlias(collection_name="texts", alias_name="live")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    client.close()
    write_vectors(tmp_path / "old.parquet", texts.texts, texts.old)
    write_vectors(tmp_path / "new.parquet", texts.texts, texts.new)
    write_vectors(tmp_path / "wrong.parquet", texts.texts, texts.old[::-1])
    return tmp_path


def test_questions_and_answers_at_a_terminal(folder: Path):
    # Collection, vector, field, a wrong old model and the right one, new model, queries, template.
    wrong = "precomputed path=wrong.parquet"
    answers = ["1", "1", "1", wrong, "n", "1", "1", "absent.csv", "", "y"]
    code, shown = at_terminal(*INIT, answers=answers, cwd=folder)
    assert code == 0, shown
    for line in (
        "'live' is an alias of 'texts'.",
        '  1  text: "entry 0 of a list that is embedded as text"',
        "Median cosine with the stored vectors: 1.0000 on 8 points.",
        "It makes vectors of 24 numbers.",
        "absent.csv",
        "Write what your users would type into queries-to-judge.csv first.",
        "Next: xbtmigrate plan",
    ):
        assert line in shown, shown
    assert "Take it all the same?" in shown.partition("1.0000")[0]
    config = load_config(folder / "xbtmigrate.toml")
    assert (config.qdrant.collection, config.qdrant.vector) == ("live", "old")
    assert (config.payload.text, config.old_model.stored) == ("text", "text")
    template = folder / "queries-to-judge.csv"
    rows = template.read_text("utf-8").splitlines()
    judged = [f'"{row.split(",")[2]}"{row}' for row in rows[1:]]
    template.write_text("\n".join([rows[0], *judged]), "utf-8")
    type_inside("xbtmigrate plan", cwd=folder)


def test_options_do_the_same_where_nobody_can_be_asked(folder: Path):
    given = (*INIT, "--collection", "live", "--vector", "old", "--text", "text")
    code, _, err = inside(*given, "--old-model", "precomputed path=wrong.parquet", cwd=folder)
    assert code == 3
    assert "did not make the stored vectors" in err
    assert not (folder / "xbtmigrate.toml").exists()
    code, _, err = inside(*given, "--new-model", "precomputed path=absent.parquet", cwd=folder)
    assert code == 1
    assert "absent.parquet" in err
    code, _, err = inside(*given, "--new-model", "precomputed file=x", cwd=folder)
    assert code == 2
    assert "unknown key" in err
    code, out, _ = inside(*given, "--old-model", OLD, "--new-model", NEW, cwd=folder)
    assert code == 0
    assert out.splitlines() == ["Wrote xbtmigrate.toml.", "Next: xbtmigrate plan"]
    type_inside("xbtmigrate plan", cwd=folder)


def test_a_collection_has_to_be_named_where_nobody_can_be_asked(folder: Path):
    code, _, err = inside(*INIT, cwd=folder)
    assert code == 2
    assert "--collection is missing" in err


def test_ctrl_c_at_a_question_ends_it(folder: Path):
    code, shown = at_terminal(*INIT, answers=["\x03"], cwd=folder)
    assert code == 130, shown
    assert "Traceback" not in shown
    assert not (folder / "xbtmigrate.toml").exists()
