"""A calibration on disk: read as it was written, and left out where it is of an earlier version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from xbtmigrate.calibration_files import load_calibration, save_calibration
from xbtmigrate.scoring.calibration import Bank, Calibration
from xbtmigrate.scoring.fusion import Fusion, Weights
from xbtmigrate.tables import write_parquet
from xbtmigrate.types import Channel


def some_calibration() -> Calibration:
    old, new = np.eye(3, 4, dtype=np.float32), np.eye(3, 5, dtype=np.float32)
    fusion, bridged = (
        Fusion({channel: Weights(1.5)}, {Channel.NEW: Weights(2.0)}, 0.5, 40, 1.0)
        for channel in (Channel.OLD, Channel.BRIDGE)
    )
    bank = Bank(["1", "2", "3"], old, new, old[::-1].copy())
    return Calibration(fusion, bridged, 0.3, bank, ("b", "f"), {"shared": 2.0})


def test_what_is_read_is_what_was_written(tmp_path: Path):
    written = some_calibration()
    save_calibration(tmp_path, written)
    read = load_calibration(tmp_path)
    assert read is not None
    assert (read.fusion, read.bridged) == (written.fusion, written.bridged)
    assert (read.blend, read.projectors, read.tuned) == (0.3, ("b", "f"), {"shared": 2.0})
    assert list(read.bank.ids) == ["1", "2", "3"]
    np.testing.assert_array_equal(read.bank.bridged, written.bank.bridged)


def test_one_of_an_earlier_version_counts_as_none(tmp_path: Path):
    save_calibration(tmp_path, some_calibration())
    bank = tmp_path / "bank.parquet"
    write_parquet(bank, pq.read_table(bank).drop_columns(["bridged"]))
    (tmp_path / "fusion-bridged.json").unlink()
    assert load_calibration(tmp_path) is None
