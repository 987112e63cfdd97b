"""The files of a migration."""

from __future__ import annotations

import pyarrow as pa

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.tables import write_parquet


def baseline(point: str) -> pa.Table:
    return pa.table({"id": [point], "payload": ["hash"], "vectors": [b"bytes"]})


def test_the_baseline_of_an_earlier_plan_is_read_under_its_former_name(tmp_path):
    artefacts = Artefacts(tmp_path)
    assert artefacts.load_baseline() is None
    write_parquet(tmp_path / "witness.parquet", baseline("1"))
    before = artefacts.load_baseline()
    assert before is not None
    assert before["id"].to_pylist() == ["1"]
    artefacts.save_baseline(baseline("2"))
    now = artefacts.load_baseline()
    assert now is not None
    assert now["id"].to_pylist() == ["2"]
