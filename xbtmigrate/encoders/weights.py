"""Hash the weights of a torch model, so that retrained weights count as another model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a model's state dict, in hex.

    Two models with equal weights have the same digest, on any device and from any file.
    """
    import torch

    digest = hashlib.sha256()
    # Sorted: the order of a state dict follows the model's code, not its weights.
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
