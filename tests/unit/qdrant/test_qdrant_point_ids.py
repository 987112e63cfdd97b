"""A point is the same in every spelling of its id."""

from __future__ import annotations

import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.types import Modality, canonical_id

POINT = "0b8f0f6e-0f0e-4c63-8f0a-2f6f8a3f7e11"
SPELLINGS = [
    POINT,
    POINT.upper(),
    uuid.UUID(POINT).hex,
    uuid.UUID(POINT).hex.upper(),
    uuid.UUID(POINT).urn,
    f"{{{POINT}}}",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_uuid_in_every_spelling(spelling, tmp_path):
    assert canonical_id(spelling) == POINT
    relevant = pa.array([[spelling]], pa.list_(pa.string()))
    pq.write_table(pa.table({"text": ["a"], "relevant": relevant}), tmp_path / "queries.parquet")
    (questions,) = read_questions(tmp_path / "queries.parquet")
    assert questions.relevant == [[POINT]]
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(3, np.float32)), 3)
    pq.write_table(pa.table({"key": [spelling], "vector": vector}), tmp_path / "new.parquet")
    encoder = PrecomputedEncoder(path=tmp_path / "new.parquet")
    assert encoder.encode(["unknown"], Modality.TEXT, ids=[POINT]).shape == (1, 3)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int32(), pa.large_string()])
@pytest.mark.parametrize("wrap", [pa.list_, pa.large_list])
def test_ids_of_any_arrow_type(kind, wrap, tmp_path):
    values = [["7", "8"]] if kind == pa.large_string() else [[7, 8]]
    relevant = pa.array(values, wrap(kind))
    pq.write_table(pa.table({"text": ["a"], "relevant": relevant}), tmp_path / "queries.parquet")
    (questions,) = read_questions(tmp_path / "queries.parquet")
    assert questions.relevant == [["7", "8"]]


@pytest.mark.parametrize("name", ["", "a text", "18446744073709551616", "x" * 36])
def test_what_is_no_id_stays(name):
    assert canonical_id(name) == name
