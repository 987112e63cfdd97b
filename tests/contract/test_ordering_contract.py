"""Every built-in ordering meets the contract."""

import numpy as np
import pytest

from xbtmigrate.ordering import (
    CentroidOrdering,
    DemandOrdering,
    RandomOrdering,
    UncertaintyOrdering,
)
from xbtmigrate.testing.orderings import OrderingContract
from xbtmigrate.types import Direction


class NormProjector:
    """Maps nothing, and is the less certain the longer the vector."""

    direction = Direction.FORWARD

    def apply(self, vectors):
        return vectors

    def uncertainty(self, vectors):
        return np.log((vectors**2).mean(axis=1))


class TestRandomOrdering(OrderingContract):
    @pytest.fixture
    def make(self):
        return lambda: RandomOrdering(seed=3)


class TestUncertaintyOrdering(OrderingContract):
    @pytest.fixture
    def make(self):
        return lambda: UncertaintyOrdering(projector=NormProjector())


class TestCentroidOrdering(OrderingContract):
    @pytest.fixture
    def make(self):
        return lambda: CentroidOrdering(seed=3, clusters=4)


class TestDemandOrdering(OrderingContract):
    @pytest.fixture
    def make(self):
        return lambda: DemandOrdering(demand={"1003": 4, "1017": 1})
