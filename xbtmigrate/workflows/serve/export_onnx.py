"""Export a projector as an ONNX model, for services in other languages."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xbtmigrate.config import Config
from xbtmigrate.errors import ConfigError, UnsupportedError
from xbtmigrate.files import write_atomically
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Direction
from xbtmigrate.workflows.workspace import artefacts_of


@dataclass(frozen=True, slots=True)
class Exported:
    """The file that was written, and how far it is from the projector.

    Attributes:
        file: The ONNX model.
        direction: The projector's direction.
        kind: The projector's kind.
        d_in: Length of the vectors it takes.
        d_out: Length of the vectors it gives.
        digest: The projector's digest, also in the model's metadata.
        difference: Largest difference to the projector, relative to the largest coordinate.
        bytes: Size of the file.
    """

    file: str
    direction: Direction
    kind: str
    d_in: int
    d_out: int
    digest: str
    difference: float
    bytes: int

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return asdict(self)


def run(config: Config, *, direction: Direction, out: Path, force: bool) -> Exported:
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
    sizes = (projector.d_in, projector.d_out)
    facts = (direction, projector.kind, *sizes, projector.digest)
    return Exported(str(out), *facts, apart, len(data))
