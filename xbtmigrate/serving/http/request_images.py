"""Decode base64 images of requests; the service accepts images nowhere else.

Encoders receive only data URIs: with a path or a URL, a client could read through the service what
only the service can reach.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from xbtmigrate.encoders.images import head_of
from xbtmigrate.errors import UnreadableSourceError

MAX_PIXELS = 50_000_000
"""Most pixels of all images of a request together; as RGB they take three bytes each."""


def to_data_uris(images: Sequence[str]) -> list[str]:
    """Check the images of a request and return each as a data URI.

    Args:
        images: Each in base64, bare or as a data URI.

    Raises:
        ValueError: One is no image, or they are too large together; nothing was unpacked.
    """
    uris, pixels = [], 0
    for number, given in enumerate(images):
        try:
            # A data URI has its content after the comma; base64 tools may break it into lines.
            content = base64.b64decode("".join(given.rpartition(",")[2].split()), validate=True)
            # The header gives kind and size, without unpacking a decompression bomb.
            kind, size = head_of(content)
        except (binascii.Error, UnreadableSourceError) as error:
            reason = error.failures[0] if isinstance(error, UnreadableSourceError) else str(error)
            raise ValueError(f"image {number} cannot be read: {reason}") from error
        pixels += size
        if pixels > MAX_PIXELS:
            raise ValueError(
                f"the images have more than {MAX_PIXELS} pixels together; make them smaller"
            )
        # The type comes from the content, not from the request.
        uris.append(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
    return uris
