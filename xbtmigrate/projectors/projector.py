"""Load and apply the map between two models' spaces, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import ArtefactError
from xbtmigrate.projectors.architectures import ARCHITECTURES, Architecture, beside, project
from xbtmigrate.projectors.artefact import (
    Artefact,
    Manifest,
    Tensors,
    read_artefact,
    read_manifest,
    read_names,
    write_artefact,
)
from xbtmigrate.projectors.uncertainty import UNCERTAINTIES, Uncertainty
from xbtmigrate.side_information import TextSide
from xbtmigrate.types import Direction, Vectors, digest_of, normalized

EmbedTexts: TypeAlias = Callable[[Sequence[str | None]], Vectors]
"""From n texts, None for a missing one, to their side vectors, float32 (n, size)."""

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Projector:
    """A fitted map: bridge (new -> old, for queries) or forward (old -> new, for the gallery).

    Attributes:
        manifest: What it is and where it comes from.
        architecture: The function it computes.
        error: Estimate of its error at a point, or None.
        text_side: Makes the side vectors of texts; None where the map takes none, or takes another
            vector of the point.
        plain: The map of inputs without a side vector, or with a zero one: queries whose words are
            unknown; None where every input has one.
    """

    manifest: Manifest
    architecture: Architecture
    error: Uncertainty | None = None
    text_side: TextSide | None = None
    plain: Architecture | None = None

    def __post_init__(self) -> None:
        """Check that the parts have the manifest's dimensions."""
        manifest = self.manifest
        found = self.architecture.d_in - manifest.d_side, self.architecture.d_out
        if found != (manifest.d_in, manifest.d_out):
            raise ArtefactError(
                f"the projector maps {found[0]} -> {found[1]} dimensions, "
                f"its manifest has {manifest.d_in} -> {manifest.d_out}",
                "train the projector again",
            )
        if self.text_side is not None and self.text_side.size != manifest.d_side:
            raise ArtefactError(
                f"the projector takes side vectors of length {manifest.d_side}, its table of words "
                f"makes {self.text_side.size}",
                "train the projector again",
            )
        if self.plain is not None and (self.plain.d_in, self.plain.d_out) != found:
            raise ArtefactError(
                f"the projector maps {found[0]} -> {found[1]} dimensions, without side vectors "
                f"{self.plain.d_in} -> {self.plain.d_out}",
                "train the projector again",
            )
        # An estimate may take only the stored vector although the map also takes a side vector.
        taken = {manifest.d_in, manifest.d_in + manifest.d_side}
        if self.error is not None and self.error.d_in not in taken:
            raise ArtefactError(
                f"the uncertainty takes {self.error.d_in} dimensions, the projector "
                f"{manifest.d_in}",
                "train the projector again",
            )

    @property
    def direction(self) -> Direction:
        """Bridge (new -> old) or forward (old -> new)."""
        return self.manifest.direction

    @property
    def kind(self) -> str:
        """Method it was fitted by."""
        return self.manifest.kind

    @property
    def d_in(self) -> int:
        """Length of the input vectors."""
        return self.manifest.d_in

    @property
    def d_out(self) -> int:
        """Length of the output vectors."""
        return self.manifest.d_out

    @property
    def d_side(self) -> int:
        """Length of the side vectors that it takes beside the input; 0 for none."""
        return self.manifest.d_side

    @property
    def has_uncertainty(self) -> bool:
        """Whether it estimates its uncertainty."""
        return self.error is not None

    @property
    def digest(self) -> str:
        """Identity of the map: equal digests give equal vectors. Hex."""
        # Without metrics and date: a second training that gives the same map keeps every vector
        # valid.
        manifest = self.manifest
        parts: list[str | bytes] = [
            manifest.direction,
            manifest.input_distance,
            manifest.output_distance,
            self.architecture.name,
            self.error.name if self.error else "",
            self.plain.name if self.plain else "",
        ]
        # Type and shape too: equal bytes of another shape are another map.
        for name, tensor in sorted(self._tensors().items()):
            parts += [name, str(tensor.dtype), str(tensor.shape), tensor.tobytes()]
        return digest_of(parts)

    def apply(self, vectors: Vectors, side: Vectors | None = None) -> Vectors:
        """Map vectors to the other model's space.

        Args:
            vectors: Float32 (n, d_in). Of any length where the input space is cosine.
            side: Float32 (n, d_side); ignored by a projector that takes none.

        Returns:
            Float32 (n, d_out), of unit length iff the output space is cosine.

        Raises:
            ArtefactError: The vectors do not have the projector's dimensions.
        """
        rows, manifest = self._checked(vectors), self.manifest
        if self.plain is not None:
            if side is None:
                return self.without_side().apply(rows)
            unknown = ~np.asarray(side).any(axis=1)
            if unknown.any():
                mapped = self.without_side().apply(rows)
                known = ~unknown
                mapped[known] = self.apply(rows[known], side[known])
                return mapped
        if self.d_side:
            # `beside` scales the input alone: scaling both together would change their shares.
            rows = beside(rows, self._checked_side(rows, side), cosine=manifest.normalizes_input)
        return project(
            self.architecture,
            rows,
            normalize_input=manifest.normalizes_input and not self.d_side,
            normalize_output=manifest.normalizes_output,
        )

    def apply_to_queries(self, vectors: Vectors, texts: Sequence[str | None]) -> Vectors:
        """Map queries; their words help a map that takes side vectors of texts.

        Args:
            vectors: Float32 (n, d_in).
            texts: The queries' texts, n; None where a query has none.
        """
        return self.apply(vectors, None if self.text_side is None else self.text_side.embed(texts))

    def without_side(self) -> Projector:
        """Return the projector of inputs without side vectors; itself where it takes none.

        Raises:
            ArtefactError: It has no map without side vectors.
        """
        if not self.d_side:
            return self
        if self.plain is None:
            raise ArtefactError(
                f"this {self.direction} projector ({self.kind}) needs side vectors",
                "give it vectors of qdrant.side_vector, or what its text_side makes of texts",
            )
        return Projector(replace(self.manifest, d_side=0), self.plain)

    def uncertainty(self, vectors: Vectors, side: Vectors | None = None) -> npt.NDArray[np.float32]:
        """Estimate the log of the squared error per coordinate that `apply` makes at each row.

        Args:
            vectors: Float32 (n, d_in).
            side: Float32 (n, d_side); ignored by an estimate that takes none.

        Returns:
            Float32 (n,); higher is worse.

        Raises:
            ArtefactError: The projector has no estimate, or the dimension is wrong.
        """
        if self.error is None:
            raise ArtefactError(
                f"this {self.direction} projector ({self.kind}) estimates no uncertainty",
                "train a forward projector, or order the points at random",
            )
        rows, cosine = self._checked(vectors), self.manifest.normalizes_input
        # The estimate's width tells whether it was fitted with side vectors.
        if self.error.d_in != self.d_in:
            return self.error(beside(rows, self._checked_side(rows, side), cosine=cosine))
        return self.error(normalized(rows) if cosine else rows)

    def save(self, directory: Path | str) -> None:
        """Write projector.json and projector.safetensors, atomically.

        Raises:
            ArtefactError: The place holds something else, or cannot be written.
        """
        name = self.error.name if self.error else None
        plain = self.plain.name if self.plain else None
        artefact = Artefact(self.manifest, self.architecture.name, name, plain, self._tensors())
        write_artefact(Path(directory), artefact)

    @classmethod
    def load(cls, directory: Path | str) -> Projector:
        """Read a projector back.

        Raises:
            ArtefactError: Missing, damaged, or of another version.
        """
        directory = Path(directory)
        artefact = read_artefact(directory)
        parts = _by_prefix(artefact.tensors)
        try:
            architecture = _known(ARCHITECTURES, artefact.architecture, directory)
            error = None
            if artefact.uncertainty is not None:
                estimate = _known(UNCERTAINTIES, artefact.uncertainty, directory)
                error = estimate.from_tensors(parts["uncertainty"])
            fitted = architecture.from_tensors(parts["map"])
            text_side = _text_side(parts["side"], directory) if "side" in parts else None
            plain = None
            if artefact.plain is not None:
                known = _known(ARCHITECTURES, artefact.plain, directory)
                plain = known.from_tensors(parts["plain"])
            return cls(artefact.manifest, fitted, error, text_side, plain)
        except (KeyError, ValueError) as problem:
            raise _misfit(directory, problem) from problem

    def _tensors(self) -> Tensors:
        """Collect all parameters under the prefixes `map.`, `uncertainty.`, `side.`, `plain.`."""
        tensors: Tensors = {f"map.{n}": t for n, t in self.architecture.tensors().items()}
        if self.error is not None:
            tensors |= {f"uncertainty.{n}": t for n, t in self.error.tensors().items()}
        if self.text_side is not None:
            tensors |= {f"side.{n}": t for n, t in self.text_side.tensors().items()}
        if self.plain is not None:
            tensors |= {f"plain.{n}": t for n, t in self.plain.tensors().items()}
        return tensors

    def _checked(self, vectors: Vectors) -> Vectors:
        """Return the rows as float32, or raise if they are not (n, d_in)."""
        rows = np.asarray(vectors, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.d_in:
            raise ArtefactError(
                f"the {self.direction} projector takes vectors of shape (n, {self.d_in}), "
                f"not {rows.shape}",
                "give it vectors of the model it maps from, one per row",
            )
        return rows

    def _checked_side(self, rows: Vectors, side: Vectors | None) -> Vectors:
        """Return the side vectors as float32, or raise if they are not (n, d_side)."""
        found = np.empty((0, 0), np.float32) if side is None else np.asarray(side, np.float32)
        if found.shape != (len(rows), self.d_side):
            raise ArtefactError(
                f"this {self.direction} projector ({self.kind}) takes side vectors of shape "
                f"({len(rows)}, {self.d_side}) beside the stored ones, not {found.shape}",
                "give it vectors of qdrant.side_vector, or what its text_side makes of texts",
            )
        return found


def open_side(directory: Path) -> tuple[int, EmbedTexts | None]:
    """Read what a saved projector takes beside the stored vector, without reading its map.

    Returns:
        The length of the side vectors, 0 for none, and a function that makes them of texts; None
        where they are stored. It reads the table of words when it is first called: that takes
        0.13 s for 15,000 words, and a gallery that only counts never calls it.

    Raises:
        ArtefactError: Missing, damaged, or of another version; so does the function.
    """
    size = read_manifest(directory).d_side
    if not size or not any(name.startswith("side.") for name in read_names(directory)):
        return size, None

    @cache
    def text_side() -> TextSide:
        tensors = read_artefact(directory).tensors
        side = {name: each for name, each in tensors.items() if name.startswith("side.")}
        return _text_side(_by_prefix(side)["side"], directory)

    return size, lambda texts: text_side().embed(texts)


def _text_side(tensors: Mapping[str, npt.NDArray[np.float32]], directory: Path) -> TextSide:
    try:
        return TextSide.from_tensors(tensors)
    except (KeyError, ValueError) as problem:
        raise _misfit(directory, problem) from problem


def _misfit(directory: Path, problem: Exception) -> ArtefactError:
    return ArtefactError(
        f"the tensors of the projector in {directory} do not fit: {problem}",
        "restore the folder from a copy, or train the projector again",
    )


def _by_prefix(tensors: Tensors) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
    """Split `prefix.name` keys into one mapping per prefix; refuse values that are not finite."""
    parts: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ArtefactError(
                f"the projector's tensor '{key}' holds values that are not finite",
                "train the projector again",
            )
        prefix, _, name = key.partition(".")
        # Bytes of the vocabulary come through unchanged: float32 holds whole numbers up to 2^24.
        parts.setdefault(prefix, {})[name] = tensor.astype(np.float32, copy=False)
    return parts


def _known(table: Mapping[str, _Part], name: str, directory: Path) -> _Part:
    """Look a part up by name; raise if only a newer version knows it."""
    if name not in table:
        raise ArtefactError(
            f"the projector in {directory} needs '{name}', which this version does not know",
            f"upgrade xbtmigrate; this version reads: {', '.join(table)}",
        )
    return table[name]
