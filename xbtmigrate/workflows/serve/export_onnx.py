"""Export a projector as an ONNX model, for services in other languages."""

from __future__ import annotations

from pathlib import Path

from xbtmigrate.config import Config
from xbtmigrate.documents.serve import ExportDocument
from xbtmigrate.errors import ConfigError, UnsupportedError
from xbtmigrate.files import write_atomically
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Direction
from xbtmigrate.workflows.workspace import artefacts_of


def run(config: Config, *, direction: Direction, out: Path, force: bool) -> ExportDocument:
    """Write a trained projector as an ONNX model, after comparing the vectors of both.

    Args:
        config: The settings.
        direction: Which projector.
        out: File to write.
        force: Whether a file that is there may be replaced.

    Raises:
        ConfigError: There is something at `out`.
        ArtefactError: There is no such projector, or the ONNX model differs from it.
        UnsupportedError: The packages are not installed, or the projector has no ONNX form.
    """
    if out.is_dir() or (out.exists() and not force):
        raise ConfigError(f"{out} exists", "give --force to overwrite a file, or another --out")
    try:
        # An extra, so most installations lack these packages.
        from xbtmigrate.projectors.onnx import difference, model_of
    except ImportError as error:
        raise UnsupportedError(
            "ONNX models need the packages onnx and onnxruntime", "pip install 'xbtmigrate[onnx]'"
        ) from error
    projector = Projector.load(artefacts_of(config).projector_folder(direction))
    data = model_of(projector).SerializeToString()
    # Compare before writing: a model that differs never reaches the disk.
    apart = difference(data, projector)
    write_atomically(out, lambda temporary: temporary.write_bytes(data))
    return {
        "file": str(out),
        "direction": direction,
        "kind": projector.kind,
        "d_in": projector.d_in,
        "d_out": projector.d_out,
        "digest": projector.digest,
        "difference": apart,
        "bytes": len(data),
    }
