"""Pictures of the clip art, for methods that run the new image tower."""

from __future__ import annotations

import base64
import io
from pathlib import Path

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
    column = pq.read_table(_folder(trial) / "clipart" / "pairs.parquet", columns=["png"])["png"]
    found = column.take(rows).to_pylist()
    return [
        base64.b64encode(each if size is None else _shrunk(each, size)).decode() for each in found
    ]


def _folder(trial: Trial) -> Path:
    folder = trial.corpus.folder
    assert folder is not None
    return folder


def _shrunk(png: bytes, size: int) -> bytes:
    from PIL import Image

    into = io.BytesIO()
    Image.open(io.BytesIO(png)).resize((size, size), Image.Resampling.BILINEAR).save(into, "PNG")
    return into.getvalue()
