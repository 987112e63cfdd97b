"""A CLIP model of a few thousand random weights, and images to feed it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

SETTINGS = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "patch_size": 16,
            "head_width": 16,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    },
}


def write_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write config and weights as open_clip publishes them; returns the folder."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = CLIP(**SETTINGS["model_cfg"])
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(SETTINGS))
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def png(colour: str, *, size: tuple[int, int] = (40, 24), mode: str = "RGB") -> bytes:
    """A PNG of one colour, with a darker corner so that cropping and squashing differ."""
    from PIL import Image

    image = Image.new(mode, size, colour)
    image.paste("black", (0, 0, size[0] // 4, size[1]))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def data_uri(colour: str) -> str:
    """The image of `png` as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png(colour)).decode()}"
