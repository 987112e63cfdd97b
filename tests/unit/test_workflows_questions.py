"""Query files: what is read as text and image queries, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality
from xbtmigrate.workflows.questions import EXCERPT, excerpts, read_questions


def query_file(folder: Path, **columns: Any) -> Path:
    path = folder / "queries.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_row_asks_with_its_text_and_with_its_image(tmp_path: Path):
    path = query_file(
        tmp_path,
        text=["a", None, "c"],
        image=[None, "b.png", "c.png"],
        relevant=[["1"], ["2"], ["3"]],
    )
    texts, images = read_questions(path)
    assert (texts.modality, texts.texts, texts.relevant) == (
        Modality.TEXT, ["a", "c"], [["1"], ["3"]],
    )  # fmt: skip
    assert (images.modality, images.texts, images.relevant) == (
        Modality.IMAGE, ["b.png", "c.png"], [["2"], ["3"]],
    )  # fmt: skip
    assert not texts.provisional
    assert texts.limits == ""


def test_a_split_and_numbers_as_ids_are_read(tmp_path: Path):
    path = query_file(tmp_path, text=["a", "b"], relevant=[[1], [2]], split=["train", "test"])
    (only,) = read_questions(path, "test")
    assert (only.texts, only.relevant) == (["b"], [["2"]])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"relevant": [["1"]]}, "no column text or image"),
        ({"text": ["a"]}, "not a query file"),
        ({"text": ["a"], "image": [None], "relevant": [[]]}, "without a relevant point"),
        ({"text": ["a", ""], "image": ["b", None], "relevant": [["1"], ["2"]]}, "without a query"),
        ({"text": ["a"], "relevant": [["1"]], "split": ["train"]}, "no queries"),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused(tmp_path: Path, columns: Any, said: str):
    split = "test" if "split" in columns else None
    with pytest.raises(ConfigError, match=said) as refused:
        read_questions(query_file(tmp_path, **columns), split)
    assert "text or image" in refused.value.hint


def test_made_queries_say_what_they_cannot_tell():
    made = excerpts(["1", "2"], ["one two three four five six", "too short"], seed=0)
    assert (made.relevant, made.provisional) == ([["1"]], True)
    assert len(made.texts[0].split()) == 3
    assert made.texts[0] in "one two three four five six"
    assert "cannot tell" in made.limits
    long = " ".join(map(str, range(500)))
    assert len(excerpts(["1"], [long], seed=0).texts[0].split()) == EXCERPT
