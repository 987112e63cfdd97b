"""Encoders: an image reference (path, URL, data URI, base64) opened within limits."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import re
import socket
import time
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from xbtmigrate.errors import EncoderError, UnreadableSourceError

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image

_T = TypeVar("_T")
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8|BM|II\*\x00|MM\x00\*", re.DOTALL)
_REDIRECTS = 5
_INSTALL = "pip install 'xbtmigrate[openclip]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Where images may come from and how large they may be.

    Attributes:
        root: Folder that relative paths start from; if given, no path may leave it. Without it,
            relative paths start from the current folder and every readable file may be named.
        transparent: What happens to transparent pixels. "drop" forgets the transparency and keeps
            the colour beneath, as every CLIP pipeline does; "white" lays the image on white.
        allow_private_urls: Fetch from private, loopback and link-local addresses too.
        max_bytes: Largest file, in bytes.
        max_pixels: Largest width times height.
        timeout_s: Longest time for one image to arrive, redirects included, in seconds.
        threads: Images opened at the same time.
    """

    root: Path | None = None
    transparent: Literal["drop", "white"] = "drop"
    allow_private_urls: bool = False
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    timeout_s: float = 20.0
    threads: int = 8


class _RefusedError(Exception):
    """Why one image is not taken."""


def open_images(
    references: Sequence[str], policy: ImagePolicy, convert: Callable[[Image], _T]
) -> list[_T]:
    """Open images in parallel as RGB and convert each, in the order of the references.

    A reference is a file path, an http or https URL, a data URI, or bare base64. PNG, JPEG, WebP,
    GIF (first frame), BMP and TIFF (first page) are taken; an orientation tag is not applied, as in
    CLIP pipelines. `convert` runs in the opening thread, so that only its result is kept.

    Raises:
        UnreadableSourceError: Some images cannot be opened; every one of them is named.
        EncoderError: Pillow or httpx is not installed.
    """
    try:
        import httpx
        import PIL  # noqa: F401
    except ImportError as error:
        raise EncoderError(f"images need {error.name}", _INSTALL) from error

    failures: dict[int, str] = {}
    has_urls = any(_is_url(reference) for reference in references)
    # Identity: a compressed answer could unpack to more than `max_bytes`.
    headers = {"Accept-Encoding": "identity", "Accept": "image/*"}
    session = httpx.Client(timeout=policy.timeout_s, headers=headers) if has_urls else None

    def opened(row: int) -> _T | None:
        try:
            return convert(_decoded(_content(references[row], policy, session), policy))
        except _RefusedError as refusal:
            failures[row] = str(refusal)
            return None

    with session or nullcontext(), ThreadPoolExecutor(policy.threads) as pool:
        results = list(pool.map(opened, range(len(references))))
    if failures:
        raise UnreadableSourceError(dict(sorted(failures.items())))
    return [result for result in results if result is not None]


def _content(reference: str, policy: ImagePolicy, session: httpx.Client | None) -> bytes:
    """Bytes behind a reference, at most `max_bytes`."""
    if session is not None and _is_url(reference):
        return _fetched(reference, policy, session)
    if reference[:5].lower() == "data:":
        return _from_data_uri(reference, policy)
    if _MAGIC.match(_base64_prefix(reference)) and (content := _from_base64(reference, policy)):
        return content
    return _from_file(reference, policy)


def _is_url(reference: str) -> bool:
    return reference[:8].lower().startswith(("http://", "https://"))


def _decoded(content: bytes, policy: ImagePolicy) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > policy.max_pixels:
                raise _RefusedError(
                    f"{image.width} x {image.height} pixels; at most {policy.max_pixels} are taken"
                )
            return _rgb(image, policy)
    except _RefusedError:
        raise
    except UnidentifiedImageError:
        raise _RefusedError(f"not an image of a known type ({', '.join(_FORMATS)})") from None
    except Exception as error:  # noqa: BLE001  decoders raise almost anything on damaged bytes
        raise _RefusedError(f"damaged image: {error}") from error


def _rgb(image: Image, policy: ImagePolicy) -> Image:
    from PIL import Image

    if policy.transparent == "white" and image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_file(reference: str, policy: ImagePolicy) -> bytes:
    path = (policy.root or Path()) / reference
    shown = reference[:80]
    try:
        if policy.root and not path.resolve().is_relative_to(policy.root.resolve()):
            raise _RefusedError(f"{shown} lies outside {policy.root}")
        if not path.is_file():
            raise _RefusedError(f"no such file: {shown}")
        with path.open("rb") as file:
            return _within(file.read(policy.max_bytes + 1), policy)
    except (OSError, ValueError) as error:
        raise _RefusedError(f"cannot read {shown}: {error}") from error


def _from_data_uri(reference: str, policy: ImagePolicy) -> bytes:
    header, comma, data = reference.partition(",")
    if not comma:
        raise _RefusedError("a data URI without a comma")
    if not header.lower().endswith(";base64"):
        return _within(urllib.parse.unquote_to_bytes(data), policy)
    if (content := _from_base64(urllib.parse.unquote(data), policy)) is None:
        raise _RefusedError("a data URI whose base64 is damaged")
    return content


def _base64_prefix(reference: str) -> bytes:
    """First 12 bytes if the text is base64, else nothing that an image begins with."""
    try:
        return base64.b64decode(_standard(reference[:16]), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _from_base64(text: str, policy: ImagePolicy) -> bytes | None:
    """Decode standard or URL-safe base64, with line breaks and without padding; None if damaged."""
    if len(text) > policy.max_bytes * 2:
        raise _RefusedError(f"more than {policy.max_bytes} bytes")
    compact = _standard("".join(text.split())).rstrip("=")
    try:
        content = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return _within(content, policy)


def _standard(text: str) -> str:
    return text.replace("-", "+").replace("_", "/")


def _within(content: bytes, policy: ImagePolicy) -> bytes:
    if len(content) > policy.max_bytes:
        raise _RefusedError(f"more than {policy.max_bytes} bytes")
    return content


def _fetched(reference: str, policy: ImagePolicy, session: httpx.Client) -> bytes:
    """Follow redirects by hand, so that every hop is checked before anything is sent to it."""
    import httpx

    deadline = time.monotonic() + policy.timeout_s
    try:
        url = httpx.URL(reference)
        for _ in range(_REDIRECTS + 1):
            with session.stream(**_request(url, policy)) as answer:  # type: ignore[arg-type]
                if not answer.has_redirect_location:
                    return _received(answer, policy, deadline)
                url = url.join(answer.headers["Location"])
        raise _RefusedError(f"more than {_REDIRECTS} redirects")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        raise _RefusedError(f"cannot fetch {reference[:80]}: {reason}") from error
