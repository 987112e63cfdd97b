"""TaCA: adapters inside the new image tower, so that it takes the old one's place.

Zhang et al., "TaCA: Upgrading Your Visual Foundation Model with Task-agnostic Compatible Adapter",
2023, arXiv 2306.12642. Adapters in the frozen new tower, and a layer that brings its vectors to the
old length, are trained so that its vector of a picture agrees with the old one's: a distance and a
contrast to the old vectors. Whatever was built on the old tower, such as its text tower, stays.

Changed: the adapters are low-rank additions (Hu et al., ICLR 2022) to the tower's linear layers and
1 x 1 convolutions, the old vectors are the stored ones, the last layer starts as their regression
on the new vectors, and rate and number of epochs are ours. The row shows old text queries on a
gallery that the adapted tower has embedded again, and the AUC on the way there.
"""

from __future__ import annotations

import numpy as np
import peft
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from xbtmigrate.evaluation.mixed_gallery import Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.training.kinds.closed_form import ridge
from xbtmigrate.training.moments import Moments
from xbtmigrate.types import Channel, Vectors
from xbtmigrate_research.heads import contrast
from xbtmigrate_research.method import Backfill, Method, Needs, Outcome
from xbtmigrate_research.optimise import Recipe, choose_batch, minimise, seeded
from xbtmigrate_research.pictures import new_model, read_pictures
from xbtmigrate_research.trial import Rows, Trial

RANK = 8
EPOCHS = 5
RATE = 1e-4
PENALTY = 1e-2
PART = 128
"""Pictures embedded at once."""


def adapted_layers(network: nn.Module) -> list[str]:
    """Return the names of the image tower's linear layers and 1 x 1 convolutions."""

    def is_linear(module: nn.Module) -> bool:
        # No subclass: attention reads the weight of its output layer and would bypass an adapter.
        if type(module) is nn.Linear:
            return True
        return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1

    return [
        name
        for name, module in network.named_modules()
        if name.startswith("visual.") and is_linear(module)
    ]


def ridge_layer(x: Vectors, y: Vectors) -> nn.Linear:
    """Return the layer that regresses y on x, to start from."""
    found = ridge(Moments.of(x, y), {"penalty": PENALTY})
    layer = nn.Linear(found.d_in, found.d_out)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(found.weight.T))
        layer.bias.copy_(torch.from_numpy(found.bias))
    return layer


def run(trial: Trial, epochs: int = EPOCHS) -> Outcome:
    """Train adapters and the last layer, and embed the gallery again."""
    corpus, rows = trial.corpus, trial.rows
    network, open_pixels = new_model(trial).image_tower()
    pixels = open_pixels(read_pictures(trial, rows))
    old = torch.from_numpy(corpus.old[rows])
    with seeded(trial.seed):
        names = adapted_layers(network)
        tuned = peft.get_peft_model(network, peft.LoraConfig(r=RANK, target_modules=names))
        last = ridge_layer(corpus.new[rows], corpus.old[rows])
        # Batch norms keep their statistics: the model itself is frozen.
        tuned.eval()

        def embed(images: Tensor) -> Tensor:
            features = normalize(network.encode_image(images).float())
            return normalize(last(features))

        def loss_of(at: Tensor) -> Tensor:
            phi = embed(pixels[at])
            return contrast(phi, old[at]) + (phi - old[at]).square().sum(dim=1).mean()

        trained = [each for each in tuned.parameters() if each.requires_grad]
        recipe = Recipe(trial.cut(epochs), choose_batch(len(rows)), RATE, warmup=1)
        minimise([*trained, *last.parameters()], loss_of, len(rows), recipe)

    def embed_again(part: Rows) -> Vectors:
        with torch.inference_mode():
            return np.asarray(embed(open_pixels(read_pictures(trial, part))).numpy(), np.float32)

    every = np.arange(len(corpus.old))
    parts = np.split(every, range(PART, len(every), PART))
    gallery = np.concatenate([embed_again(part) for part in parts])
    keep, found = (SearchSpace(corpus.asked_old, each) for each in (corpus.old, gallery))
    return Outcome(found, backfill=Backfill({Channel.FORWARD: keep, Channel.NEW: found}, Single()))


METHODS = (
    Method(
        "taca", "Zhang et al. 2023, 2306.12642", run, Needs(old_model=True, encoder=True),
        "kind `compatible`, as an encoder of its own", epochs=EPOCHS, corpora=("clipart",),
        remark="Old queries on a gallery that the adapted model embedded.",
    ),
)  # fmt: skip
