"""Provide a deterministic fake encoder, and the suite that every encoder must pass."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest

from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, PointId, Vectors, normalized

_LATENT = 16


class FakeEncoder:
    """Unit vectors from a hash of the item; no model, no file, no network.

    An item has one latent vector, drawn from its hash. An encoder maps it by a random linear map of
    its own seed. So the vectors of two encoders with different seeds or dimensions differ, and a
    projector between them can be learned.

    Args:
        dimension: Length of the vectors.
        seed: Chooses the map; equal seeds and dimensions make equal vectors.
        failing: Items that cannot be embedded.
        modalities: What the encoder takes.

    Attributes:
        encoded: Every item answered so far, in order: shows what was encoded twice.
    """

    def __init__(
        self,
        *,
        dimension: int = 8,
        seed: int = 0,
        failing: Collection[str] = (),
        modalities: Collection[Modality] = tuple(Modality),
    ) -> None:
        self._map = np.random.default_rng(seed).standard_normal((_LATENT, dimension))
        self._failing = frozenset(failing)
        self._modalities = frozenset(modalities)
        self.fingerprint = f"fake:{dimension}:{seed}"
        self.dimension = dimension
        self.encoded: list[str] = []

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed items; see `xbtmigrate.protocols.Encoder.encode`."""
        del ids
        if modality not in self._modalities:
            raise EncoderError(f"this fake takes no {modality}", "give it the modality")
        # All failing rows at once, as the protocol demands.
        failures = {row: "told to fail" for row, item in enumerate(items) if item in self._failing}
        if failures:
            raise UnreadableSourceError(failures)
        self.encoded.extend(items)
        # Reshaped, because no items at all would give the shape (0,).
        latent = np.array([_latent(item) for item in items]).reshape(-1, _LATENT)
        return normalized((latent @ self._map).astype(np.float32))


def _latent(item: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # Not `hash`: Python salts it, so each process would draw other vectors.
    digest = hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(_LATENT)


class EncoderContract:
    """What the tool expects of an encoder; subclass it in a test module of the plugin.

    The subclass defines the fixtures `encoder` and `items`, and the others where they apply. To
    load a model once for all tests, let `encoder` return what a module fixture loaded::

        @pytest.fixture(scope="module")
        def loaded():
            return MyEncoder(model="small")

        class TestMyEncoder(EncoderContract):
            @pytest.fixture
            def encoder(self, loaded):
                return loaded

            @pytest.fixture
            def items(self):
                return {Modality.TEXT: ["a red fox", "a blue bird", "the sea"]}
    """

    # A batch of another size or order is rounded differently by matrix products.
    tolerance = 1e-4

    @pytest.fixture
    def encoder(self) -> Encoder:
        """Return the encoder under test."""
        raise NotImplementedError("define the fixture `encoder`")

    @pytest.fixture
    def twin(self, encoder: Encoder) -> Encoder:
        """Return a second encoder made with the same options; the same one unless overridden."""
        return encoder

    @pytest.fixture
    def items(self) -> Mapping[Modality, Sequence[str]]:
        """Return at least three different readable items of each modality the encoder takes."""
        raise NotImplementedError("define the fixture `items`")

    @pytest.fixture
    def unreadable(self) -> Mapping[Modality, str]:
        """Return an item of a modality that cannot be embedded; none if every item can."""
        return {}

    def test_meets_the_protocol(self, encoder: Encoder) -> None:
        """The object has the protocol's members, and a name and size for its space."""
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder.fingerprint, str)
        assert encoder.fingerprint
        assert encoder.dimension > 0

    def test_twin_has_the_same_space(
        self, encoder: Encoder, twin: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """Equal options give an equal fingerprint, before and after encoding, and equal vectors."""
        # Read before anything is encoded: loading the model late must not change it.
        before = encoder.fingerprint
        for modality, values in items.items():
            expected = encoder.encode(values, modality)
            np.testing.assert_allclose(twin.encode(values, modality), expected, atol=self.tolerance)
        assert encoder.fingerprint == before
        assert twin.fingerprint == before

    def test_shape_and_values(
        self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """One finite, non-zero float32 row of the declared dimension per item."""
        for modality, values in items.items():
            vectors = encoder.encode(values, modality)
            assert vectors.dtype == np.float32
            assert vectors.shape == (len(values), encoder.dimension)
            assert np.isfinite(vectors).all()
            assert np.linalg.norm(vectors, axis=1).min() > 0

    def test_nothing_to_encode(
        self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """No items give no rows, of the right width."""
        for modality in items:
            assert encoder.encode([], modality).shape == (0, encoder.dimension)

    def test_rows_follow_items(
        self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """A row depends on its item alone: not on order, repetition or company."""
        for modality, values in items.items():
            vectors = encoder.encode(values, modality)
            # Padding to the longest item is the usual way in which neighbours change a row.
            shuffled = encoder.encode([*reversed(values), values[0]], modality)
            expected = np.concatenate([vectors[::-1], vectors[:1]])
            np.testing.assert_allclose(shuffled, expected, atol=self.tolerance)
            alone = encoder.encode([values[1]], modality)
            np.testing.assert_allclose(alone[0], vectors[1], atol=self.tolerance)

    def test_items_differ(self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]) -> None:
        """Different items get different vectors."""
        for modality, values in items.items():
            vectors = encoder.encode(values, modality)
            # Rounded, so that noise in the last bits does not make equal vectors look different.
            assert len(np.unique(vectors.round(5), axis=0)) == len(set(values))

    def test_ids_are_accepted(
        self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """Items of the gallery come with their ids."""
        for modality, values in items.items():
            # Precomputed vectors are looked up by id, while queries have none.
            ids = [str(number) for number in range(len(values))]
            vectors = encoder.encode(values, modality, ids=ids)
            assert vectors.shape == (len(values), encoder.dimension)

    def test_other_modalities_are_refused(
        self, encoder: Encoder, items: Mapping[Modality, Sequence[str]]
    ) -> None:
        """A modality that the encoder does not take is an error with a hint, not a vector."""
        for modality in set(Modality) - set(items):
            with pytest.raises(EncoderError) as caught:
                encoder.encode(["anything"], modality)
            assert caught.value.hint

    def test_unreadable_items_are_named(
        self,
        encoder: Encoder,
        items: Mapping[Modality, Sequence[str]],
        unreadable: Mapping[Modality, str],
    ) -> None:
        """Exactly the rows that fail are named with a reason; the others work without them."""
        for modality, bad in unreadable.items():
            good = items[modality]
            with pytest.raises(UnreadableSourceError) as caught:
                encoder.encode([good[0], bad, good[1], bad], modality)
            # The same item twice: both rows have to be named, since a run sets points aside by row.
            assert set(caught.value.failures) == {1, 3}
            assert all(caught.value.failures.values())
            assert len(encoder.encode(good[:2], modality)) == 2
