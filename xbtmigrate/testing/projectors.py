"""Provide the suite that every projector must pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xbtmigrate import protocols
from xbtmigrate.errors import ArtefactError
from xbtmigrate.projectors import Projector
from xbtmigrate.types import Vectors


class ProjectorContract:
    """What the tool expects of a projector; subclass it and define the fixture `projector`.

    Every method fits its own architecture, so the suite is run once per architecture and once per
    uncertainty estimate::

        class TestMyKind(ProjectorContract):
            @pytest.fixture
            def projector(self):
                return Projector(Manifest(...), my_architecture)
    """

    @pytest.fixture
    def projector(self) -> Projector:
        """The projector under test."""
        raise NotImplementedError("define the fixture `projector`")

    @pytest.fixture
    def vectors(self, projector: Projector) -> Vectors:
        """Inputs of arbitrary length."""
        # Far from unit length, so that a map that forgets to normalize is noticed.
        draws = np.random.default_rng(5).standard_normal((40, projector.d_in)) * 3
        return draws.astype(np.float32)

    def test_meets_the_protocol(self, projector: Projector) -> None:
        """The object has the protocol's members."""
        assert isinstance(projector, protocols.Projector)

    def test_maps_rows_to_the_other_dimension(self, projector: Projector, vectors: Vectors) -> None:
        """Shape, type and length of the outputs."""
        mapped = projector.apply(vectors)
        assert mapped.shape == (len(vectors), projector.d_out)
        assert mapped.dtype == np.float32
        unit = np.allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
        # As declared, either way: a map into a dot-product space must not normalize.
        assert unit == projector.manifest.normalizes_output

    def test_maps_each_row_by_itself(self, projector: Projector, vectors: Vectors) -> None:
        """A row's output does not depend on its batch, nor change the input."""
        before = vectors.copy()
        # A query is projected alone and a gallery in batches: both must give the same vector.
        alone = np.concatenate([projector.apply(row[None]) for row in vectors])
        np.testing.assert_allclose(projector.apply(vectors), alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(vectors, before)
        assert projector.apply(vectors[:0]).shape == (0, projector.d_out)

    def test_length_of_cosine_inputs_does_not_matter(
        self, projector: Projector, vectors: Vectors
    ) -> None:
        """Only directions count in a cosine space, and only there."""
        # Doubling is exact in binary floating point, so rounding of the inputs plays no part.
        same = np.allclose(projector.apply(vectors), projector.apply(vectors * 2), atol=1e-5)
        assert same == projector.manifest.normalizes_input

    def test_refuses_vectors_of_another_dimension(self, projector: Projector) -> None:
        """A wrong width, or a single vector without its row axis, is an error."""
        with pytest.raises(ArtefactError, match=str(projector.d_in)):
            projector.apply(np.zeros((2, projector.d_in + 1), np.float32))
        with pytest.raises(ArtefactError):
            projector.apply(np.zeros(projector.d_in, np.float32))

    def test_uncertainty_is_one_number_per_row_or_an_error(
        self, projector: Projector, vectors: Vectors
    ) -> None:
        """Where there is an estimate it is finite; where there is none, asking for it raises."""
        if not projector.has_uncertainty:
            with pytest.raises(ArtefactError):
                projector.uncertainty(vectors)
            return
        estimate = projector.uncertainty(vectors)
        assert estimate.shape == (len(vectors),)
        assert estimate.dtype == np.float32
        assert np.isfinite(estimate).all()

    def test_comes_back_from_disk_the_same(
        self, projector: Projector, vectors: Vectors, tmp_path: Path
    ) -> None:
        """Saving and loading keep manifest, identity, outputs and uncertainty."""
        projector.save(tmp_path / "projector")
        loaded = Projector.load(tmp_path / "projector")
        assert loaded.manifest == projector.manifest
        assert loaded.digest == projector.digest
        np.testing.assert_array_equal(loaded.apply(vectors), projector.apply(vectors))
        if projector.has_uncertainty:
            found, wanted = loaded.uncertainty(vectors), projector.uncertainty(vectors)
            np.testing.assert_array_equal(found, wanted)
