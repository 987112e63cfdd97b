"""Read and write a projector's folder: projector.json and projector.safetensors.

A folder is written whole or not at all, and used only after digest and shapes are checked.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import parse, parse_json, sync_folder
from xbtmigrate.types import Direction, Distance

SCHEMA_VERSION = 3
JSON_NAME = "projector.json"
TENSORS_NAME = "projector.safetensors"
_AGAIN = "restore the folder from a copy, or train the projector again"

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a projector is and where it comes from.

    Attributes:
        direction: Bridge (new -> old) or forward (old -> new).
        kind: Method it was fitted by, such as "ridge".
        d_in: Length of the input vectors.
        d_side: Length of the side vectors that it takes beside them; 0 for none.
        d_out: Length of the output vectors.
        input_distance: Distance of the input space; cosine inputs are normalised first.
        output_distance: Distance of the output space; outputs are normalised iff it is cosine.
        old_model: Fingerprint of the old model.
        new_model: Fingerprint of the new model.
        data_digest: Digest of the pairs it was fitted on.
        pair_source: Which pairs it was fitted on, such as "text".
        seed: Seed of every random choice.
        hyperparameters: Settings of the kind.
        metrics: Figures on held-out data.
        uncertainty_metrics: Rank correlation with the true error on held-out pairs, by estimate.
        libraries: Versions of the libraries it was made with.
        created_at: UTC, ISO 8601.
    """

    direction: Direction
    kind: str
    d_in: int
    d_out: int
    input_distance: Distance
    output_distance: Distance
    d_side: int = 0
    old_model: str = ""
    new_model: str = ""
    data_digest: str = ""
    pair_source: str = ""
    seed: int = 0
    hyperparameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    uncertainty_metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""

    @property
    def normalizes_input(self) -> bool:
        """Whether inputs are scaled to unit length first."""
        return self.input_distance is Distance.COSINE

    @property
    def normalizes_output(self) -> bool:
        """Whether outputs are scaled to unit length."""
        return self.output_distance is Distance.COSINE


@dataclass(frozen=True, slots=True)
class _Parts:
    """The names of a projector's parts in projector.json."""

    architecture: str
    uncertainty: str | None
    plain: str | None = None


@dataclass(frozen=True, slots=True)
class Artefact:
    """The content of a projector's directory.

    Attributes:
        manifest: What the projector is.
        architecture: Name of its architecture.
        uncertainty: Name of its uncertainty estimate, or None.
        plain: Name of the architecture of its map without side vectors, or None.
        tensors: All parameters, by name.
    """

    manifest: Manifest
    architecture: str
    uncertainty: str | None
    plain: str | None
    tensors: Tensors


def write_artefact(directory: Path, artefact: Artefact) -> None:
    """Write a folder atomically, replacing an earlier projector.

    Raises:
        ArtefactError: The place holds something that is not a projector, or cannot be written.
    """
    _refuse_foreign(directory)
    # In memory, so that the digest is of the bytes that are written.
    data = safetensors.numpy.save({n: np.ascontiguousarray(t) for n, t in artefact.tensors.items()})
    manifest = artefact.manifest
    document = {
        "schema_version": SCHEMA_VERSION,
        "architecture": artefact.architecture,
        "uncertainty": artefact.uncertainty,
        "plain": artefact.plain,
        **asdict(manifest),
        "normalizes_input": manifest.normalizes_input,
        "normalizes_output": manifest.normalizes_output,
        "sha256": sha256(data).hexdigest(),
    }
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside the place and not in /tmp: a rename is atomic within one file system only.
        with tempfile.TemporaryDirectory(prefix=".projector-", dir=directory.parent) as temporary:
            fresh = Path(temporary, "fresh")
            fresh.mkdir()
            _write_synced(fresh / TENSORS_NAME, data)
            _write_synced(fresh / JSON_NAME, json.dumps(document, indent=2).encode() + b"\n")
            sync_folder(fresh)
            # A folder cannot replace one with files in it. A crash between the two moves leaves no
            # projector, never half of one.
            if directory.exists():
                shutil.move(directory, Path(temporary, "earlier"))
            fresh.rename(directory)
            sync_folder(directory.parent)
    except OSError as error:
        raise ArtefactError(
            f"the projector cannot be written to {directory}: {error}",
            "check the folder's permissions and the free disk space",
        ) from error


def read_artefact(directory: Path) -> Artefact:
    """Read a directory and check schema, digest and completeness.

    Raises:
        ArtefactError: Missing, damaged, or of another version.
    """
    document = _read_document(directory)
    data = _read_bytes(directory, TENSORS_NAME)
    # safetensors would load the tensors of another training without complaint.
    if sha256(data).hexdigest() != document.get("sha256"):
        raise _damaged(directory, f"{TENSORS_NAME} does not have the digest of {JSON_NAME}")
    manifest = _manifest_of(document, directory)
    parts = parse(document, _Parts, str(directory), _AGAIN)
    try:
        tensors = safetensors.numpy.load(data)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise _damaged(directory, f"{type(error).__name__}: {error}") from error
    return Artefact(manifest, parts.architecture, parts.uncertainty, parts.plain, tensors)


def read_manifest(directory: Path) -> Manifest:
    """Read what a projector is, without its parameters.

    Raises:
        ArtefactError: Missing, damaged, or of another version.
    """
    return _manifest_of(_read_document(directory), directory)


def read_names(directory: Path) -> list[str]:
    """List the names of a projector's parameters; their values are neither read nor checked.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    try:
        with safe_open(directory / TENSORS_NAME, framework="numpy") as tensors:
            return list(tensors.keys())
    except FileNotFoundError as error:
        raise _missing(directory, TENSORS_NAME) from error
    except (OSError, SafetensorError) as error:
        raise _damaged(directory, str(error)) from error


def _read_document(directory: Path) -> dict[str, Any]:
    document = parse_json(_read_bytes(directory, JSON_NAME), str(directory / JSON_NAME), _AGAIN)
    # First of all: the fields of another version would only be reported as damaged.
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtefactError(
            f"the projector in {directory} has schema version {version}, not {SCHEMA_VERSION}",
            "load it with the version of xbtmigrate that wrote it, or train it again",
        )
    return document


def _manifest_of(document: dict[str, Any], directory: Path) -> Manifest:
    return parse(document, Manifest, str(directory), _AGAIN)


def _read_bytes(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except FileNotFoundError as error:
        raise _missing(directory, name) from error
    except OSError as error:
        raise _damaged(directory, str(error)) from error


def _refuse_foreign(directory: Path) -> None:
    """Raise unless a folder is empty, absent or an earlier projector."""
    if not directory.exists():
        return
    # The caller chose the folder, and its content is about to be replaced.
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else {"a file"}
    if names - {JSON_NAME, TENSORS_NAME}:
        raise ArtefactError(
            f"{directory} holds something other than a projector",
            "choose another folder for the projector",
        )


def _write_synced(path: Path, data: bytes) -> None:
    """Write a file, and flush it to disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        # Without it a power cut can leave the renamed folder with empty files.
        os.fsync(file.fileno())


def _missing(directory: Path, name: str) -> ArtefactError:
    return ArtefactError(
        f"there is no projector in {directory}: {name} is missing",
        "train one with `xbtmigrate train-projector`; of a migration that has begun, "
        "`xbtmigrate doctor --yes` restores it",
    )


def _damaged(directory: Path, reason: str) -> ArtefactError:
    return ArtefactError(
        f"the projector in {directory} is damaged: {reason}",
        _AGAIN,
    )
