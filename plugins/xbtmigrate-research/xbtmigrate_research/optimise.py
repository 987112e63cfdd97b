"""The training loop that the methods share: Adam, warm-up, cosine decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from xbtmigrate.types import Vectors, normalized

PART = 4096
MIN_BATCH, MAX_BATCH = 32, 256
MIN_STEPS = 16
"""Steps of an epoch, as far as batches of MIN_BATCH allow: few pairs need enough steps too."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the rows.
        batch: Rows of a step.
        rate: Highest learning rate.
        decay: Weight decay.
        warmup: Epochs in which the rate rises linearly.
    """

    epochs: int
    batch: int = 256
    rate: float = 1e-3
    decay: float = 0.0
    warmup: float = 0.0


def choose_batch(count: int) -> int:
    """Choose the size of batches for a number of pairs."""
    return min(MAX_BATCH, max(MIN_BATCH, count // MIN_STEPS))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, on one thread; the caller's random state is the same afterwards."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def rounded_products() -> Iterator[None]:
    """Round the factors of matrix products to bfloat16 where the processor has it.

    For wide networks, which take two to three times as long without.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def minimise(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    recipe: Recipe,
    before_epoch: Callable[[int], None] = lambda _: None,
) -> None:
    """Train in place.

    Args:
        parameters: What is trained.
        loss_of: Maps the rows of a batch to a loss.
        count: Number of rows.
        recipe: Length, batch, rate.
        before_epoch: Called with the number of each epoch, from 0.
    """
    optimizer = torch.optim.Adam(parameters, recipe.rate, weight_decay=recipe.decay, fused=True)
    batch = min(recipe.batch, count)
    # What is left over is dropped: a batch norm needs more than one row.
    steps = count // batch
    warmup, total = max(1, round(recipe.warmup * steps)), recipe.epochs * steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for epoch in range(recipe.epochs):
        before_epoch(epoch)
        for rows in torch.split(torch.randperm(count)[: steps * batch], batch):
            loss = loss_of(rows)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()


def mapped(network: nn.Module, vectors: Vectors) -> Vectors:
    """Map (n, d_in) by a network, to unit length, in numpy."""
    return normalized(raw(network, vectors))


def raw(network: nn.Module, vectors: Vectors) -> Vectors:
    """Map (n, d_in) by a network as it is; in parts, as layers may be wide."""
    network.eval()
    with torch.inference_mode():
        parts = [network(part).numpy() for part in torch.split(torch.from_numpy(vectors), PART)]
    return np.asarray(np.concatenate(parts), np.float32)


def freeze_norms(network: nn.Module) -> None:
    """Keep the statistics of batch norms as they are while other layers train."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
