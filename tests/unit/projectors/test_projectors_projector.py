"""The functions projectors compute, against what they are defined by."""

import numpy as np
import pytest

from xbtmigrate.projectors import Affine, Mlp, NeighbourResidual, project
from xbtmigrate.projectors.architectures import CHUNK_ROWS, gelu


@pytest.mark.long
def test_gelu_is_torchs():
    import torch

    x = np.linspace(-6, 6, 201, dtype=np.float32)
    wanted = torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()
    np.testing.assert_allclose(gelu(x), wanted, atol=1e-6)
    assert gelu(x).dtype == np.float32


def test_mlp_without_hidden_output_is_its_skip():
    skip = np.eye(3, 2, dtype=np.float32)
    mlp = Mlp(
        skip,
        (np.ones((3, 4), np.float32), np.zeros((4, 2), np.float32)),
        (np.ones(4, np.float32), np.array([1, 2], np.float32)),
    )
    assert mlp(np.array([[5, 6, 7]], np.float32)).tolist() == [[6, 8]]


@pytest.mark.parametrize("d_out", [1, 3])
def test_parts_that_do_not_fit_are_refused(d_out):
    tensors = {"weight": np.zeros((4, 2), np.float32), "bias": np.zeros(d_out, np.float32)}
    with pytest.raises(ValueError, match="do not fit"):
        Affine.from_tensors(tensors)


def test_chunks_cover_every_row_once():
    x = np.arange(2 * CHUNK_ROWS + 3, dtype=np.float32)[:, None]
    double = Affine(np.array([[2]], np.float32), np.zeros(1, np.float32))
    mapped = project(double, x, normalize_input=False, normalize_output=False)
    np.testing.assert_array_equal(mapped, 2 * x)


def test_neighbours_average_the_errors_around():
    inputs = np.array([[0, 0], [0, 1], [9, 9], [9, 8]], np.float32)
    estimate = NeighbourResidual(inputs, np.array([1, 3, 10, 20], np.float32), neighbours=2)
    found = estimate(np.array([[0.2, 0.4], [8, 9]], np.float32))
    np.testing.assert_allclose(found, np.log([2.0**2, 15.0**2]), rtol=1e-6)


def test_neighbours_survive_half_precision_at_any_scale():
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1e6):
        inputs = (rng.standard_normal((30, 4)) * scale).astype(np.float32)
        errors = (rng.random(30) * scale + scale).astype(np.float32)
        exact = NeighbourResidual(inputs, errors, neighbours=5)
        assert exact.tensors()["inputs"].dtype == np.float16
        kept = NeighbourResidual.from_tensors(exact.tensors())
        np.testing.assert_allclose(kept(inputs), exact(inputs), rtol=0.05)


def test_fewer_kept_inputs_than_neighbours():
    estimate = NeighbourResidual(np.eye(2, dtype=np.float32), np.array([2, 4], np.float32))
    np.testing.assert_allclose(estimate(np.zeros((1, 2), np.float32)), [np.log(9)], rtol=1e-6)
