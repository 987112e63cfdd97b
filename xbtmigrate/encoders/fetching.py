"""Fetch an image from a URL, within limits and not from private networks."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING, TypedDict

from xbtmigrate.errors import UnreadableSourceError

if TYPE_CHECKING:
    import httpx

_REDIRECTS = 5
# RFC 3587: public hosts have addresses of this range only. RFC 6052: the prefix under which a
# gateway translates IPv4 addresses.
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class _Hop(TypedDict):
    """Arguments of one request."""

    url: httpx.URL
    headers: dict[str, str]
    extensions: dict[str, str]


def session(timeout_s: float) -> httpx.Client:
    """Open a client for `fetch`; it refuses compressed answers, which could unpack to any size."""
    import httpx

    headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
    return httpx.Client(timeout=timeout_s, headers=headers)


def fetch(
    address: str, client: httpx.Client, *, allow_private: bool, max_bytes: int, timeout_s: float
) -> bytes:
    """Fetch one http or https URL.

    Args:
        address: The URL.
        client: A client from `session`.
        allow_private: Whether private, loopback and link-local addresses may be requested.
        max_bytes: Largest answer.
        timeout_s: Longest time for the whole, redirects included, in seconds.

    Raises:
        UnreadableSourceError: The reason, as row 0.
    """
    import httpx

    deadline = time.monotonic() + timeout_s
    try:
        url = httpx.URL(address)
        # Redirects are followed by hand: every hop is checked before anything is sent to it.
        for _ in range(_REDIRECTS + 1):
            hop = _plain(url) if allow_private else _pinned(url)
            with client.stream("GET", **hop) as answer:
                if not answer.has_redirect_location:
                    return _received(answer, max_bytes, deadline)
                # A redirect may be relative.
                url = url.join(answer.headers["Location"])
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        raise UnreadableSourceError({0: f"cannot fetch {address[:80]}: {reason}"}) from error
    raise UnreadableSourceError({0: f"more than {_REDIRECTS} redirects from {address[:80]}"})


def _plain(url: httpx.URL) -> _Hop:
    _check_scheme(url)
    return {"url": url, "headers": {}, "extensions": {}}


def _pinned(url: httpx.URL) -> _Hop:
    """Aim the request at the address that was checked: a second look-up could give another."""
    _check_scheme(url)
    port = url.port or (443 if url.scheme == "https" else 80)
    found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    # A name can have public and private addresses at once: one private address is enough to refuse.
    if refused := [address for address in addresses if not _is_public(address)]:
        raise UnreadableSourceError(
            {0: f"{url.host} is {refused[0]}, not a public address (see allow_private_urls)"}
        )
    # Sent to an address, the request needs the name twice: for the virtual host, and
    # for TLS to check the certificate.
    return {
        "url": url.copy_with(host=addresses[0]),
        "headers": {"Host": url.netloc.decode("ascii")},
        "extensions": {"sni_hostname": url.host},
    }


def _check_scheme(url: httpx.URL) -> None:
    if url.scheme not in {"http", "https"} or not url.host:
        raise UnreadableSourceError({0: f"redirected to {str(url)[:80]}, not an http(s) URL"})


def _is_public(address: str) -> bool:
    # A link-local address may carry its interface, as in fe80::1%eth0.
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Some IPv6 addresses only wrap an IPv4 one; a gateway unwraps those of NAT64.
        wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = wrapped or ip.ipv4_mapped or ip.sixtofour or ip
    # Python counts some multicast addresses as global, such as 224.0.1.1.
    unicast = isinstance(ip, ipaddress.IPv4Address) or ip in _UNICAST
    return unicast and ip.is_global and not ip.is_multicast


def _received(answer: httpx.Response, max_bytes: int, deadline: float) -> bytes:
    if not answer.is_success:
        raise UnreadableSourceError({0: f"HTTP {answer.status_code} from {answer.url.host}"})
    content = bytearray()
    # Raw, so that an answer compressed in spite of the headers stays small and fails as an image.
    # httpx limits each read alone: a server could send one byte at a time.
    for chunk in answer.iter_raw():
        content += chunk
        if len(content) > max_bytes:
            raise UnreadableSourceError({0: f"more than {max_bytes} bytes"})
        if time.monotonic() > deadline:
            raise UnreadableSourceError({0: "did not arrive in time"})
    return bytes(content)
