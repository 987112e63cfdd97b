"""Open an image reference (path, URL, data URI, base64) within limits."""

from __future__ import annotations

import base64
import binascii
import io
import re
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from xbtmigrate.encoders.fetching import fetch, session
from xbtmigrate.errors import EncoderError, UnreadableSourceError

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image

_T = TypeVar("_T")
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MAGIC = re.compile(rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8|BM|II\*\x00|MM\x00\*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Where images may come from and how large they may be.

    Attributes:
        root: Folder that relative paths start from and that no path may leave, by `..` or by a
            link; None is the current folder. References come with the payloads, and so from
            whoever may write a point.
        transparent: What happens to transparent pixels. "drop" forgets the transparency and keeps
            the colour beneath, as CLIP pipelines do; "white" lays the image on white.
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
    _require_libraries()
    opened: dict[int, _T] = {}
    failures: dict[int, str] = {}
    # One client for the whole batch, to keep connections open; none where all images are files.
    client = session(policy.timeout_s) if any(map(_is_url, references)) else None

    def take(row: int) -> None:
        try:
            opened[row] = convert(_decoded(_content(references[row], policy, client), policy))
        except UnreadableSourceError as error:
            failures[row] = error.failures[0]

    with client or nullcontext(), ThreadPoolExecutor(policy.threads) as pool:
        # Taking the results raises what `take` does not catch.
        list(pool.map(take, range(len(references))))
    if failures:
        raise UnreadableSourceError(dict(sorted(failures.items())))
    return [opened[row] for row in range(len(references))]


def head_of(content: bytes) -> tuple[str, int]:
    """Read type (lower case) and number of pixels from the head of an image.

    Raises:
        UnreadableSourceError: It is no image of a known type; the reason as row 0.
        EncoderError: Pillow is not installed.
    """
    _require_libraries()
    return _opened(content, lambda image: (str(image.format).lower(), image.width * image.height))


def _require_libraries() -> None:
    try:
        import httpx  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise EncoderError(
            f"images need the package {error.name}", "pip install 'xbtmigrate[openclip]'"
        ) from error


def _refused(reason: str) -> UnreadableSourceError:
    return UnreadableSourceError({0: reason})


def _content(reference: str, policy: ImagePolicy, client: httpx.Client | None) -> bytes:
    """Return the bytes behind a reference, at most `max_bytes`."""
    if client is not None and _is_url(reference):
        return fetch(
            reference,
            client,
            allow_private=policy.allow_private_urls,
            max_bytes=policy.max_bytes,
            timeout_s=policy.timeout_s,
        )
    if reference[:5].lower() == "data:":
        return _from_data_uri(reference, policy)
    # A path can look like base64 ("/9j/..."); it hardly begins with an image's first bytes too.
    if _MAGIC.match(_from_base64(reference[:16], policy) or b""):
        content = _from_base64(reference, policy)
        if content is not None:
            return content
    return _from_file(reference, policy)


def _is_url(reference: str) -> bool:
    return reference[:8].lower().startswith(("http://", "https://"))


def _from_file(reference: str, policy: ImagePolicy) -> bytes:
    shown = reference[:80]
    try:
        root = (policy.root or Path()).resolve()
        # Resolved before the comparison, so `..` and links count as where they lead.
        path = (root / reference).resolve()
        if not path.is_relative_to(root):
            raise _refused(f"{shown} lies outside {root} (see image_root)")
        if not path.is_file():
            raise _refused(f"no such file: {shown}")
        with path.open("rb") as file:
            # One byte more than allowed shows that a file is too large, however large it is.
            return _within(file.read(policy.max_bytes + 1), policy)
    except (OSError, ValueError) as error:
        raise _refused(f"cannot read {shown}: {error}") from error


def _from_data_uri(reference: str, policy: ImagePolicy) -> bytes:
    header, comma, data = reference.partition(",")
    if not comma:
        raise _refused("a data URI without a comma")
    if not header.lower().endswith(";base64"):
        return _within(urllib.parse.unquote_to_bytes(data), policy)
    # In a URI, the "+" and "/" of base64 may be percent-encoded.
    content = _from_base64(urllib.parse.unquote(data), policy)
    if content is None:
        raise _refused("a data URI whose base64 is damaged")
    return content


def _from_base64(text: str, policy: ImagePolicy) -> bytes | None:
    """Decode standard or URL-safe base64, with line breaks and without padding; None if damaged."""
    # base64 takes 4/3 of the bytes; the rest is room for line breaks.
    if len(text) > policy.max_bytes * 2:
        raise _refused(f"more than {policy.max_bytes} bytes")
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        content = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return _within(content, policy)


def _within(content: bytes, policy: ImagePolicy) -> bytes:
    if len(content) > policy.max_bytes:
        raise _refused(f"more than {policy.max_bytes} bytes")
    return content


def _decoded(content: bytes, policy: ImagePolicy) -> Image:
    def decode(image: Image) -> Image:
        # Pillow has read only the header so far: a small file of huge dimensions is never unpacked.
        _check_size(image, policy)
        return _rgb(image, policy)

    return _opened(content, decode)


def _opened(content: bytes, look: Callable[[Image], _T]) -> _T:
    from PIL import Image, UnidentifiedImageError

    try:
        # Named formats only: Pillow has more decoders, and the one of EPS starts Ghostscript.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return look(image)
    except UnreadableSourceError:
        raise
    except UnidentifiedImageError:
        raise _refused(f"not an image of a known type ({', '.join(_FORMATS)})") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise _refused(f"damaged image: {error}") from error


def _check_size(image: Image, policy: ImagePolicy) -> None:
    if image.width * image.height > policy.max_pixels:
        raise _refused(
            f"{image.width} x {image.height} pixels; at most {policy.max_pixels} are taken"
        )


def _rgb(image: Image, policy: ImagePolicy) -> Image:
    from PIL import Image

    # Not `mode == "RGBA"`: a palette can have a transparent colour, too.
    if policy.transparent == "white" and image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
