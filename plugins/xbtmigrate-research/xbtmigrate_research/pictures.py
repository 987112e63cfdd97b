"""Pictures of the clip art, for methods that run the new image tower."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate_research.trial import Rows, Trial


def new_model(trial: Trial) -> OpenClipEncoder:
    """Open the new model."""
    return OpenClipEncoder(
        checkpoint=_folder(trial) / "models" / "clip-new", device="cpu", threads=1
    )


def read_pictures(trial: Trial, rows: Rows, size: int | None = None) -> list[str]:
    """Read pictures of gallery rows as base64, shrunk to a side of `size` pixels if it is given."""
    pngs = _read_pngs(trial, rows)
    return [
        base64.b64encode(each if size is None else _shrunk(each, size)).decode() for each in pngs
    ]


def read_pixels(trial: Trial, rows: Rows, size: int) -> npt.NDArray[np.float32]:
    """Read pictures of gallery rows as pixels between 0 and 1, (n, 3, size, size)."""
    from PIL import Image

    opened = (Image.open(io.BytesIO(each)).convert("RGB") for each in _read_pngs(trial, rows))
    pixels = np.stack([np.asarray(each.resize((size, size)), np.float32) for each in opened])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) / 255)


def _read_pngs(trial: Trial, rows: Rows) -> list[bytes]:
    column = pq.read_table(_folder(trial) / "clipart" / "pairs.parquet", columns=["png"])["png"]
    found: list[bytes] = column.take(rows).to_pylist()
    return found


def _folder(trial: Trial) -> Path:
    folder = trial.corpus.folder
    assert folder is not None
    return folder


def _shrunk(png: bytes, size: int) -> bytes:
    from PIL import Image

    into = io.BytesIO()
    Image.open(io.BytesIO(png)).resize((size, size), Image.Resampling.BILINEAR).save(into, "PNG")
    return into.getvalue()
