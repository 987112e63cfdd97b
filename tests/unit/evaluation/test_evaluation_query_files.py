"""Judged queries as people have them: tables, judgements, clicks, BEIR and TREC, any ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.errors import ConfigError
from xbtmigrate.evaluation.query_files import read_questions

A, B = "c0ffee00-0000-4000-8000-000000000001", "c0ffee00-0000-4000-8000-000000000002"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "cell",
    [
        f"7 {A}",
        f"7,{A}",
        f"007; {A.upper()}",
        f"7.0|{A.replace('-', '')}",
        f"['7', '{A}']",
        f'["7" "{{{A}}}"]',
        f"[7, urn:uuid:{A}]",
    ],
)
def test_ids_of_a_cell_are_read_in_every_spelling(cell: str, tmp_path: Path):
    path = write(tmp_path, "q.tsv", f"text\trelevant\nfind it\t{cell}\n")
    quoted = write(tmp_path, "q.csv", 'text,relevant\nfind it,"' + cell.replace('"', '""') + '"\n')
    for each in (path, quoted):
        (found,) = read_questions(each)
        assert found.relevant == [["7", A]], each


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[1, 2]], pa.list_(pa.int64())), ["1", "2"]),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float64())), ["1", "2"]),
        (pa.array([[A.upper()]]), [A]),
        (pa.array([f"3 {A}"]), ["3", A]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([5.0]), ["5"]),
    ],
)
def test_a_parquet_column_may_be_of_any_type(column: pa.Array, expected: list[str], tmp_path: Path):
    pq.write_table(pa.table({"text": ["a"], "relevant": column}), tmp_path / "q.parquet")
    (found,) = read_questions(tmp_path / "q.parquet")
    assert found.relevant == [expected]


def test_an_id_that_has_lost_digits_is_refused(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a"], "relevant": [[2.0**60]]}), tmp_path / "q.parquet")
    with pytest.raises(ConfigError, match="loses digits") as refused:
        read_questions(tmp_path / "q.parquet")
    assert "strings" in refused.value.hint


def test_rows_of_judgements_are_grouped_and_their_grades_read(tmp_path: Path):
    rows = [
        {"text": "a", "id": 1, "relevance": 2},
        {"text": "b", "id": 2, "relevance": 0},
        {"text": "a", "id": A, "relevance": 1},
    ]
    for name, made in (("q.jsonl", "\n".join), ("q.json", lambda each: f"[{','.join(each)}]")):
        import json

        (found,) = read_questions(write(tmp_path, name, made([json.dumps(row) for row in rows])))
        assert (found.texts, found.relevant, found.limits) == (["a"], [["1", A]], "")
    table = "text\tid\nall count\t1\nall count\t2\n"
    (found,) = read_questions(write(tmp_path, "q.tsv", table))
    assert found.relevant == [["1", "2"]]


def test_clicks_judge_where_there_are_enough_of_them(tmp_path: Path):
    log = "text,id,clicks\na,1,30\na,2,2\na,3,9\nb,4,1\na,1,1\nc,5,1\nc,5,1\n"
    (found,) = read_questions(write(tmp_path, "q.csv", log))
    assert (found.texts, found.relevant) == (["a", "c"], [["1", "3"], ["5"]])
    assert not found.provisional
    assert "favour what the old model showed" in found.limits
    with pytest.raises(ConfigError, match="clicked 2 times"):
        read_questions(write(tmp_path, "few.csv", "text,id,clicks\na,1,1\n"))


def test_made_queries_stay_made_until_somebody_rewrites_them(tmp_path: Path):
    made = '{"text": "a", "relevant": ["1"], "made": "title"}\n'
    (found,) = read_questions(write(tmp_path, "q.jsonl", made))
    assert found.provisional
    assert "'title'" in found.basis
    assert found.limits
    own = '{"text": "as users ask", "relevant": ["2"]}\n'
    (found,) = read_questions(write(tmp_path, "q.jsonl", made + own))
    assert (found.texts, found.provisional, found.limits) == (["as users ask"], False, "")


def beir(folder: Path, **splits: str) -> Path:
    write(folder, "queries.jsonl", '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "two"}\n')
    for name, judgements in splits.items():
        write(folder, f"qrels/{name}.tsv", "query-id\tcorpus-id\tscore\n" + judgements)
    return folder


def test_a_folder_of_beir_is_read(tmp_path: Path):
    folder = beir(tmp_path, test="q1\t7\t1\nq1\t8\t0\nq9\t1\t1\n", dev=f"q2\t{A.upper()}\t2\n")
    (found,) = read_questions(folder)
    assert (found.texts, found.relevant) == (["first"], [["7"]])
    (found,) = read_questions(folder, "dev")
    assert (found.texts, found.relevant) == (["two"], [[A]])
    with pytest.raises(ConfigError, match="no judgements of the split 'train'") as refused:
        read_questions(folder, "train")
    assert "dev, test" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queries.tsv", "301\tcut a sound\n302\tunjudged\n"),
        ("queries.tsv", "qid\ttext\n301\tcut a sound\n"),
        (
            "topics.301-450",
            "<top>\n<num> Number: 301\n<title> cut a\nsound\n\n<desc> Description:\nx\n</top>\n"
            "<top><num>302</num><title>unjudged</title></top>",
        ),
    ],
)
def test_topics_and_judgements_of_trec_are_read(name: str, text: str, tmp_path: Path):
    write(tmp_path, name, text)
    write(tmp_path, "qrels.txt", f"301 0 17 1\n301 0 {B} 2\n301 0 18 0\n301 0 19 -1\n")
    (found,) = read_questions(tmp_path)
    assert (found.texts, found.relevant) == (["cut a sound"], [["17", B]])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "one file queries"),
        ({"queries.tsv": "1\ta\n"}, "one file qrels"),
        ({"queries.tsv": "1\ta\n", "queries.csv": "x", "qrels.txt": "1 0 2 1"}, "queries.csv, q"),
        ({"queries.tsv": "1\ta\n", "qrels.txt": "2 0 7 1\n"}, "it names 2, the queries have"),
        ({"queries.tsv": "1\ta\n", "qrels.txt": "1 0 7 1\n1 x\n"}, "line 2 is '1 x'"),
        ({"queries.jsonl": '{"text": "a"}', "qrels.txt": "1 0 7 1"}, "without id or text"),
        ({"topics.txt": "nothing", "qrels.txt": "1 0 7 1"}, "no topics of TREC"),
    ],
)
def test_a_folder_of_something_else_is_refused(files: dict[str, str], said: str, tmp_path: Path):
    for name, text in files.items():
        write(tmp_path, name, text)
    with pytest.raises(ConfigError, match=said):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.jsonl", '{"text": "a", "id": 1, "relevance": "much"}', "no number in the column"),
        ("q.jsonl", '{"text": "a", "id": 1, "relevance": 0}', "no query with a point of relevance"),
        ("q.jsonl", '{"text": "a", "id": 1}\n[1]', "not an object"),
        ("q.csv", "text,id\na,\n", "without a relevant point: row 1"),
        ("q.csv", "text,relevant\na,1\n", "no column split"),
        ("q.parquet", "no parquet", "not a query file"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str, said: str, tmp_path: Path):
    split: Any = "test" if "split" in said else None
    with pytest.raises(ConfigError, match=said):
        read_questions(write(tmp_path, name, text), split)
