"""Query files: what is read as text and image queries, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.evaluation.queries import (
    EXCERPT,
    Questions,
    choose_held_out,
    make_excerpts,
)
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.types import Modality


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


def test_a_csv_is_read_as_a_spreadsheet_saves_it(tmp_path: Path):
    path = tmp_path / "queries.csv"
    path.write_bytes(
        "\ufefftext;relevant;content\r\ncut a sound;17 42;x\r\n;18;nobody wrote this one\r\n"
        '"two\nlines; one query";19;y\r\n'.encode()
    )
    (found,) = read_questions(path)
    assert found.texts == ["cut a sound", "two\nlines; one query"]
    assert found.relevant == [["17", "42"], ["19"]]
    path.write_text("text,relevant\na query,\n", "utf-8")
    with pytest.raises(ConfigError, match="without a relevant point"):
        read_questions(path)
    path.write_text("text,relevant\n,17\n", "utf-8")
    with pytest.raises(ConfigError, match="no queries"):
        read_questions(path)
    path.write_text("text,answers\na query,17\n", "utf-8")
    with pytest.raises(ConfigError, match="not a query file"):
        read_questions(path)


def test_json_lines_are_read(tmp_path: Path):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"text": "a", "relevant": [1, 2]}\n{"text": "b", "relevant": [3]}\n', "utf-8")
    (found,) = read_questions(path)
    assert (found.texts, found.relevant) == (["a", "b"], [["1", "2"], ["3"]])
    path.write_text("not json", "utf-8")
    with pytest.raises(ConfigError, match="not a query file"):
        read_questions(path)


def judged(*relevant: list[str]) -> Questions:
    return Questions(["q"] * len(relevant), relevant, "judged", provisional=False)


def test_a_fold_is_held_out_where_queries_ask_for_nearly_everything():
    ids = [str(number) for number in range(100)]
    some = judged(*([each] for each in ids[:40]))
    assert choose_held_out([some], ids, 0) == set(ids[:40])
    pairs = judged(*([a, b] for a, b in zip(ids[::2], ids[1::2], strict=True)))
    fold = choose_held_out([pairs], ids, 0)
    assert len(fold) == 20
    assert fold == choose_held_out([pairs], ids, 0) != choose_held_out([pairs], ids, 1)
    assert [set(pairs.relevant[row]) <= fold for row in range(len(pairs))].count(True) == 10
    assert len(pairs.find_within(fold)) == 10
    assert choose_held_out([], ids, 0) == set()


def test_made_queries_say_what_they_cannot_tell():
    made = make_excerpts(["1", "2"], ["one two three four five six", "too short"], seed=0)
    assert (made.relevant, made.provisional) == ([["1"]], True)
    assert len(made.texts[0].split()) == 3
    assert made.texts[0] in "one two three four five six"
    assert "cannot tell" in made.limits
    long = " ".join(map(str, range(500)))
    assert len(make_excerpts(["1"], [long], seed=0).texts[0].split()) == EXCERPT


def test_a_text_gives_the_same_excerpt_in_every_sample():
    texts = [" ".join(f"{text}-{word}" for word in range(60)) for text in range(40)]
    made = make_excerpts([str(row) for row in range(40)], texts, seed=0)
    alone = [make_excerpts(["1"], [text], seed=0).texts[0] for text in texts]
    assert made.texts == alone
    places = {text.split()[0].partition("-")[2] for text in alone}
    assert len(places) > 20, "excerpts start anywhere in a text"
    assert make_excerpts(["1"], texts[:1], seed=1).texts != alone[:1]
