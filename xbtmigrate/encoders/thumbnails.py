"""Make small copies of images below a folder, as data URIs that a page can show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xbtmigrate.encoders.images import ImagePolicy, open_images
from xbtmigrate.errors import UnreadableSourceError

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 160
"""Longest side, in pixels."""


def make_thumbnails(references: Sequence[str], policy: ImagePolicy) -> list[str]:
    """Return one data URI for each of n references, "" for what is no readable file.

    Args:
        references: Image references of payloads. URLs are not fetched: whoever may write a point
            could make this machine call any address that way.
        policy: The folder that files must lie in, and the limits.
    """
    found = [""] * len(references)
    rows = [row for row, each in enumerate(references) if each and "://" not in each]
    # All bad references of a batch are named at once: the second time, the rest can be opened.
    while rows:
        try:
            made = open_images([references[row] for row in rows], policy, _shrink)
        except UnreadableSourceError as error:
            rows = [row for place, row in enumerate(rows) if place not in error.failures]
            continue
        for row, uri in zip(rows, made, strict=True):
            found[row] = uri
        break
    return found


def _shrink(image: Image) -> str:
    image.thumbnail((SIZE, SIZE))
    content = io.BytesIO()
    image.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
