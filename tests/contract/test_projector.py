"""Every architecture and every uncertainty estimate meets the contract of projectors."""

import numpy as np
import pytest

from xbtmigrate.projectors import (
    Affine,
    GaussianProcess,
    HeteroscedasticHead,
    Manifest,
    Mlp,
    NeighbourResidual,
    ProcessVariance,
    Projector,
)
from xbtmigrate.testing.projectors import ProjectorContract
from xbtmigrate.types import Direction, Distance, normalized


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def mlp(d_in, d_out):
    layers = (draw(d_in, 16), draw(16, 8), draw(8, d_out))
    return Mlp(draw(d_in, d_out), layers, (draw(16), draw(8), draw(d_out)))


def manifest(direction, d_in, d_out, distance):
    return Manifest(direction, "test", d_in, d_out, distance, distance)


def halved(*shape):
    return draw(*shape).astype(np.float16).astype(np.float32)


class TestProcessWithItsVariance(ProjectorContract):
    @pytest.fixture
    def projector(self):
        facts = manifest(Direction.FORWARD, 5, 12, Distance.COSINE)
        spread = np.float32([0.8, 0.5])
        landmarks = halved(9, 5)
        parts = draw(5, 12), draw(12), draw(5), landmarks, draw(9, 12), draw(12), spread
        known = draw(9, 9) / 30
        error = ProcessVariance(np.abs(draw(5)), landmarks, known, np.float32([0.3]))
        return Projector(facts, GaussianProcess(*parts), error)


class TestAffineBridge(ProjectorContract):
    @pytest.fixture
    def projector(self):
        facts = manifest(Direction.BRIDGE, 12, 5, Distance.COSINE)
        return Projector(facts, Affine(draw(12, 5), draw(5)))


class TestEuclideanMlpWithHead(ProjectorContract):
    @pytest.fixture
    def projector(self):
        facts = manifest(Direction.FORWARD, 5, 12, Distance.EUCLID)
        return Projector(facts, mlp(5, 12), HeteroscedasticHead(mlp(5, 1)))


class TestCosineMlpWithNeighbours(ProjectorContract):
    @pytest.fixture
    def projector(self):
        facts = manifest(Direction.FORWARD, 5, 12, Distance.COSINE)
        exact = NeighbourResidual(normalized(draw(50, 5)), np.abs(draw(50)))
        kept = NeighbourResidual.from_tensors(exact.tensors())
        return Projector(facts, mlp(5, 12), kept)
