"""FCT with the side-information of its paper: a vector of the picture that no label made.

Ramanujan et al., CVPR 2022, arXiv 2112.02805, store beside each old vector a 128-d vector by SimCLR
(Chen et al., ICML 2020, arXiv 2002.05709), trained on the old data: two random views a, b of each
picture find each other among the batch, -log exp(z_a.z_b / t) / sum_k exp(z_a.z_k / t).

Changed: the network is four convolutions on 48 pixels instead of a ResNet-50 on 224, trained for 10
epochs on all pictures of the gallery; views differ by crop, mirror image, brightness and colour.
For the rest see `fct`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, normalize

from xbtmigrate.types import Vectors
from xbtmigrate_research.heads import contrast
from xbtmigrate_research.method import Method, Needs, Outcome, answer_in_new
from xbtmigrate_research.methods.fct import (
    EPOCHS,
    SIDE_CLAIM,
    SOURCE,
    TRUNK,
    Inputs,
    squared_error,
    train_forward,
)
from xbtmigrate_research.optimise import Recipe, choose_batch, mapped, minimise, seeded
from xbtmigrate_research.pictures import read_pixels
from xbtmigrate_research.trial import Trial

SIZE = 48
D_SIDE = 128
VIEW_EPOCHS = 10
MIN_CROP = 0.5
"""Shortest side of a crop, in sides of the picture."""


def network() -> nn.Sequential:
    """Map (n, 3, s, s) to (n, D_SIDE)."""
    layers: list[nn.Module] = []
    for d_in, d_out in ((3, 32), (32, 64), (64, 128), (128, D_SIDE)):
        layers += [
            nn.Conv2d(d_in, d_out, 3, stride=2, padding=1), nn.BatchNorm2d(d_out), nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(D_SIDE, D_SIDE))


def view(pixels: Tensor) -> Tensor:
    """Crop, mirror and recolour each picture at random; same shape."""
    count = len(pixels)
    scale = MIN_CROP + (1 - MIN_CROP) * torch.rand(count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2) - 1)
    zero = torch.zeros(count)
    rows = [scale * mirror, zero, shift[:, 0], zero, scale, shift[:, 1]]
    grid = affine_grid(
        torch.stack(rows, dim=1).view(count, 2, 3), list(pixels.shape), align_corners=False
    )
    cropped = grid_sample(pixels, grid, align_corners=False)
    colour = 0.6 + 0.8 * torch.rand(count, 3, 1, 1)
    return cropped * colour + 0.2 * (torch.rand(count, 1, 1, 1) - 0.5)


def train_views(pixels: Tensor, seed: int, epochs: int) -> nn.Sequential:
    """Train the network on two views of each picture, (m, 3, s, s)."""
    with seeded(seed):
        made = network().train()

        def loss_of(at: Tensor) -> Tensor:
            first, second = (normalize(made(view(pixels[at]))) for _ in range(2))
            return (contrast(first, second) + contrast(second, first)) / 2

        recipe = Recipe(epochs, choose_batch(len(pixels)), warmup=1)
        minimise(made.parameters(), loss_of, len(pixels), recipe)
    return made


def run(trial: Trial, trunk: int = TRUNK) -> Outcome:
    """Train the views, then FCT with their vectors beside the stored ones."""
    old = trial.corpus.old
    pixels = read_pixels(trial, np.arange(len(old)), SIZE)
    views = train_views(torch.from_numpy(pixels), trial.seed, trial.cut(VIEW_EPOCHS))
    side: Vectors = mapped(views, pixels)
    inputs = Inputs(np.concatenate([old, side], axis=1), D_SIDE)
    return answer_in_new(
        trial, mapped(train_forward(trial, inputs, squared_error, trunk=trunk), inputs.x)
    )


METHODS = (
    Method(
        "fct_simclr", SOURCE, run, Needs(),
        "forward, kind `fct` with `qdrant.side_vector`, smaller",
        beside="fct", epochs=EPOCHS, corpora=("clipart",),
        claim=SIDE_CLAIM,
    ),
)  # fmt: skip
