"""Tune the new model's text tower towards the stored old vectors, by LoRA.

The second stage of XBT (Jang & Lim, ICCV 2025, arXiv 2405.14715): with a fitted bridge in place,
low-rank additions (Hu et al., ICLR 2022) to the new text tower bring captions closer to the stored
old vectors of their points. No image is read, the old model is not loaded, and the weights of the
new model stay as they are: the additions are a PEFT directory of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import TrainingError
from xbtmigrate.projectors import Affine, Architecture, GaussianProcess, Mlp, Projector
from xbtmigrate.training.selection import Scores, measure_retrieval
from xbtmigrate.types import Vectors, normalized

if TYPE_CHECKING:
    from torch import Tensor

Rows: TypeAlias = npt.NDArray[np.intp]

RANK = 8
RATE = 1e-3
BATCH = 128
TEMPERATURE = 0.04
HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 500


@dataclass(frozen=True, slots=True)
class TextTower:
    """The part of an encoder that is tuned.

    Attributes:
        network: A torch module whose `encode_text` embeds token ids; its image tower is `visual`.
        tokenize: Texts to token ids.
    """

    network: Any
    tokenize: Callable[[list[str]], Tensor]


@dataclass(frozen=True, slots=True)
class LoraTask:
    """What the tower is tuned to.

    Attributes:
        texts: n texts or captions.
        old: Stored old vectors of their points, float32 (n, d_old).
        bridge: The fitted bridge, which stays as it is.
    """

    texts: Sequence[str]
    old: Vectors
    bridge: Projector


@dataclass(frozen=True, slots=True)
class LoraReport:
    """Held-out retrieval of stored old vectors by bridged captions.

    Attributes:
        off: With the new model as it is.
        on: With the additions.
        pairs: Pairs they were trained on.
        seconds: Time of the training.
    """

    off: Scores
    on: Scores
    pairs: int
    seconds: float


def fit_lora(
    tower: TextTower,
    task: LoraTask,
    folder: Path,
    *,
    epochs: int,
    seed: int,
    threads: int,
) -> LoraReport:
    """Train the additions and write them.

    Args:
        tower: The new model's text tower; its weights are the same afterwards.
        task: Texts, targets and bridge.
        folder: The PEFT directory to write.
        epochs: Passes over the pairs.
        seed: Seed of every random choice.
        threads: Threads torch may use.

    Raises:
        TrainingError: peft is missing, or the tower has no linear layer.
    """
    peft, torch = _libraries()
    torch.set_num_threads(threads)
    started = time.monotonic()
    order = np.random.default_rng(seed).permutation(len(task.texts))
    held = order[: min(MAX_HELD_OUT, max(1, int(HELD_OUT_SHARE * len(order))))]
    kept = order[len(held) :]
    # The caller's random state is the same afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = linear_layers(tower.network)
        config = peft.LoraConfig(
            r=RANK, lora_alpha=2 * RANK, lora_dropout=0.05, target_modules=targets
        )
        tuned = peft.get_peft_model(tower.network, config)
        try:
            # On the same held-out texts, before anything is trained.
            with tuned.disable_adapter():
                off = _scores(tower, task, held)
            _train(tower, tuned, task, kept, epochs)
            on = _scores(tower, task, held)
            tuned.save_pretrained(folder)
        finally:
            # The caller's tower loses the additions again, also where training fails.
            tuned.unload()
    return LoraReport(off, on, len(kept), time.monotonic() - started)


def linear_layers(network: Any) -> list[str]:
    """Return the names of the linear layers outside the image tower.

    Raises:
        TrainingError: There is none.
    """
    from torch import nn

    found = [
        name
        for name, module in network.named_modules()
        # No subclass: nn.MultiheadAttention reads the weight of its out_proj and would bypass an
        # addition.
        if type(module) is nn.Linear and not name.startswith("visual.")
    ]
    if not found:
        raise TrainingError(
            "the text tower has no linear layer to add to",
            "use a model with a transformer for text",
        )
    return found


def _train(tower: TextTower, tuned: Any, task: LoraTask, kept: Rows, epochs: int) -> None:
    """Pull every bridged caption to its own old vector, away from the others of the batch."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    parameters = [each for each in tuned.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-2)
    steps = epochs * math.ceil(len(kept) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.15)
    device = parameters[0].device
    bridged = _in_torch(task.bridge.without_side().architecture, device)
    targets = torch.from_numpy(normalized(task.old)).to(device)
    tuned.train()
    for _ in range(epochs):
        for rows in torch.split(torch.from_numpy(kept)[torch.randperm(len(kept))], BATCH):
            tokens = tower.tokenize([task.texts[row] for row in rows]).to(device)
            queries = normalize(bridged(normalize(tower.network.encode_text(tokens).float())))
            # InfoNCE: the old vectors of the batch's other captions are the negatives.
            logits = queries @ targets[rows].T / TEMPERATURE
            loss = cross_entropy(logits, torch.arange(len(rows), device=device))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    tuned.eval()


def _scores(tower: TextTower, task: LoraTask, held: Rows) -> Scores:
    """Search the stored old vectors for those of the held-out texts' points."""
    import torch

    device = next(tower.network.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(held), BATCH):
            tokens = tower.tokenize([task.texts[row] for row in held[start : start + BATCH]])
            parts.append(tower.network.encode_text(tokens.to(device)).float().cpu().numpy())
    queries = task.bridge.apply(np.concatenate(parts))
    # Searched for among all stored vectors, those of the training pairs too.
    relevant = [np.array([row]) for row in held]
    return measure_retrieval(queries, task.old, relevant, task.bridge.manifest.output_distance)


def _in_torch(architecture: Architecture, device: Any) -> Callable[[Tensor], Tensor]:
    """Return the same function in torch, with gradients for its input."""
    import torch
    from torch.nn.functional import gelu

    def tensor(values: Vectors) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    if isinstance(architecture, Affine):
        weight, bias = tensor(architecture.weight), tensor(architecture.bias)
        return lambda x: x @ weight + bias
    # numpy has no gradients, so each architecture is written once more in torch.
    if isinstance(architecture, GaussianProcess):
        return _process_in_torch(architecture, tensor)
    network = cast("Mlp", architecture)
    skip = tensor(network.skip)
    layers = [
        (tensor(weight), tensor(bias))
        for weight, bias in zip(network.weights, network.biases, strict=True)
    ]

    def mapped(x: Tensor) -> Tensor:
        hidden = x
        for weight, bias in layers[:-1]:
            hidden = gelu(hidden @ weight + bias, approximate="tanh")
        return x @ skip + hidden @ layers[-1][0] + layers[-1][1]

    return mapped


def _process_in_torch(
    process: GaussianProcess, tensor: Callable[[Vectors], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return a bridge's process in torch."""
    weight, bias, scale = map(tensor, (process.weight, process.bias, process.scale))
    landmarks, coefficients = tensor(process.landmarks), tensor(process.coefficients)
    # As `gaussian_kernel` computes it: -|a - b|^2 / 2 = a.b - |a|^2 / 2 - |b|^2 / 2.
    own = (landmarks**2).sum(dim=1) / 2
    mean, (distance, share) = tensor(process.mean), map(float, process.spread)

    def mapped(x: Tensor) -> Tensor:
        scaled = x * scale
        near = scaled @ landmarks.T - (scaled**2).sum(dim=1, keepdim=True) / 2 - own
        away: Tensor = near.exp() @ coefficients + x @ weight + bias - mean
        # As `spread_out` moves them.
        factor = distance / away.norm(dim=1, keepdim=True).clamp_min(1e-12)
        moved: Tensor = mean + away * (1 + share * (factor - 1))
        return moved

    return mapped


def _libraries() -> tuple[Any, Any]:
    try:
        import peft
        import torch
    except ImportError as error:
        raise TrainingError(
            f"LoRA needs peft and torch: {error}", "pip install 'xbtmigrate[train,openclip]'"
        ) from error
    return peft, torch
