"""Provide the suite that every ordering must pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from xbtmigrate.ordering import rank
from xbtmigrate.protocols import Ordering
from xbtmigrate.types import PointId, Vectors


class OrderingContract:
    """What the tool expects of an ordering; subclass it in a test module of the plugin.

    The subclass defines the fixture `make`::

        class TestMyOrdering(OrderingContract):
            @pytest.fixture
            def make(self):
                return lambda: MyOrdering(seed=1)
    """

    @pytest.fixture
    def make(self) -> Callable[[], Ordering]:
        """Return a factory of fresh orderings, all with the same options."""
        raise NotImplementedError("define the fixture `make`")

    @pytest.fixture
    def old(self) -> Vectors:
        """Return at least 20 different old vectors; override for another dimension."""
        return np.random.default_rng(5).standard_normal((60, 8)).astype(np.float32)

    @pytest.fixture
    def ids(self, old: Vectors) -> Sequence[PointId]:
        """Return one id for each vector."""
        return [str(number) for number in range(1000, 1000 + len(old))]

    def test_meets_the_protocol(self, make: Callable[[], Ordering]) -> None:
        """The object has the protocol's member."""
        assert isinstance(make(), Ordering)

    def test_one_finite_score_a_point(
        self, make: Callable[[], Ordering], ids: Sequence[PointId], old: Vectors
    ) -> None:
        """Scores are float32 of shape (n,), and not all the same."""
        scores = make().score(ids, old)
        assert scores.shape == (len(ids),)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        # Some ties are allowed: they are broken by id.
        assert len(np.unique(scores)) > len(ids) // 2

    def test_another_run_gives_the_same_order(
        self, make: Callable[[], Ordering], ids: Sequence[PointId], old: Vectors
    ) -> None:
        """Equal options and points give equal scores: a frozen order can be made again."""
        # Two objects, so that nothing the first one has kept can make the second agree.
        np.testing.assert_array_equal(make().score(ids, old), make().score(ids, old))

    def test_batches_do_not_change_the_order(
        self, make: Callable[[], Ordering], ids: Sequence[PointId], old: Vectors
    ) -> None:
        """Once all points were seen, a point's score depends on nothing but the point."""
        ordering = make()
        whole = ordering.score(ids, old)
        back = slice(None, None, -1)
        reversed_scores = ordering.score(ids[back], old[back])[back]
        # Seven does not divide 60: the last part is shorter.
        parts = np.concatenate(
            [ordering.score(ids[at : at + 7], old[at : at + 7]) for at in range(0, len(ids), 7)]
        )
        # Not equal to the last bit: matrix products round by the size of their batch.
        np.testing.assert_allclose(reversed_scores, whole, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)

    def test_inputs_are_left_alone(
        self, make: Callable[[], Ordering], ids: Sequence[PointId], old: Vectors
    ) -> None:
        """Scoring changes neither ids nor vectors, and the ranking names every point once."""
        before, names = old.copy(), list(ids)
        scores = make().score(ids, old)
        np.testing.assert_array_equal(old, before)
        assert list(ids) == names
        assert sorted(rank(ids, scores).tolist()) == list(range(len(ids)))
