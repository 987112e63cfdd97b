"""Images from paths, URLs, data URIs and base64, and what is refused with which reason."""

from __future__ import annotations

import base64
import io
import os
import threading
import time
import urllib.parse

import pytest
from PIL import Image
from werkzeug import Response

from tests.support.tiny_clip import data_uri, png
from xbtmigrate.encoders import fetching
from xbtmigrate.encoders.images import ImagePolicy, open_images
from xbtmigrate.errors import UnreadableSourceError

RED = (255, 0, 0)
LOCAL = ImagePolicy(allow_private_urls=True, timeout_s=5)


def corner(image: Image.Image):
    """Size and the colour of the last pixel."""
    assert image.mode == "RGB"
    return image.size, image.getpixel((image.width - 1, image.height - 1))


def reason(reference: str, policy: ImagePolicy = LOCAL) -> str:
    with pytest.raises(UnreadableSourceError) as caught:
        open_images([reference], policy, corner)
    assert set(caught.value.failures) == {0}
    return caught.value.failures[0]


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    """Without a root, paths start from the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(png("red"))
    return path


def references_to_red(path, httpserver):
    content = path.read_bytes()
    encoded = base64.b64encode(content).decode()
    httpserver.expect_request("/red").respond_with_data(content, content_type="image/png")
    return {
        "absolute path": str(path),
        "relative path": path.name,
        "URL": httpserver.url_for("/red"),
        "data URI": f"data:image/png;base64,{encoded}",
        "data URI, percent-encoded": "data:image/png," + urllib.parse.quote_from_bytes(content),
        "data URI, escaped base64": f"DATA:image/png;base64,{urllib.parse.quote(encoded)}",
        "base64": encoded,
        "base64 in lines": "\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76)),
        "base64, URL-safe, unpadded": base64.urlsafe_b64encode(content).decode().rstrip("="),
    }


def test_every_kind_of_reference(red, httpserver):
    references = references_to_red(red, httpserver)
    policy = ImagePolicy(root=red.parent, allow_private_urls=True)
    opened = open_images(list(references.values()), policy, corner)
    assert dict(zip(references, opened, strict=True)) == dict.fromkeys(references, ((40, 24), RED))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_type(name, tmp_path):
    path = tmp_path / "image"
    Image.new("RGB", (8, 8), "white").save(path, name)
    assert open_images([str(path)], LOCAL, corner) == [((8, 8), (255, 255, 255))]
    encoded = base64.b64encode(path.read_bytes()).decode()
    assert open_images([encoded], LOCAL, corner) == [((8, 8), (255, 255, 255))]


def test_unknown_types_are_refused(tmp_path):
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "known type" in reason(str(tmp_path / "a.svg"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.ppm")
    assert "known type" in reason(str(tmp_path / "a.ppm"))


def test_results_keep_their_order_and_failures_their_rows(red):
    references = [data_uri("blue"), str(red), data_uri("lime")]
    colours = [colour for _, colour in open_images(references, LOCAL, corner)]
    assert colours == [(0, 0, 255), RED, (0, 255, 0)]
    with pytest.raises(UnreadableSourceError) as caught:
        open_images(["gone.png", *references, "data:image/png;base64,?"], LOCAL, corner)
    assert list(caught.value.failures) == [0, 4]


def test_transparency_is_dropped_or_laid_on_white():
    content = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(content, "PNG")
    reference = base64.b64encode(content.getvalue()).decode()
    assert open_images([reference], ImagePolicy(), corner) == [((2, 2), RED)]
    white = ImagePolicy(transparent="white")
    assert open_images([reference], white, corner) == [((2, 2), (255, 255, 255))]


def test_white_leaves_opaque_images_alone(red):
    assert open_images([str(red)], ImagePolicy(transparent="white"), corner) == [((40, 24), RED)]


def test_paths_stay_under_the_root(red, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.png").symlink_to(red)
    policy = ImagePolicy(root=inner)
    for reference in ["../red.png", str(red), "link.png", "../inner/../red.png"]:
        assert "outside" in reason(reference, policy)
    os.chdir(inner)
    for reference in ["../red.png", str(red), "link.png", "/etc/hostname"]:
        assert "image_root" in reason(reference, ImagePolicy())
    assert open_images(["red.png", str(red)], ImagePolicy(root=tmp_path), corner)


def test_things_that_are_not_files(tmp_path):
    for reference in [str(tmp_path), "/dev/zero", "", "x" * 10_000, "a\0b"]:
        assert reason(reference)


def test_damaged_images(red, tmp_path):
    content = red.read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    assert reason(str(tmp_path / "cut.png"))
    assert "known type" in reason("data:image/png;base64,AAAA")
    assert "damaged" in reason("data:image/png;base64,@@@@")
    assert "comma" in reason("data:image/png")


def test_limits_on_bytes_and_pixels(red, httpserver):
    references = references_to_red(red, httpserver)
    small = ImagePolicy(root=red.parent, allow_private_urls=True, max_bytes=50)
    for reference in references.values():
        assert "more than 50 bytes" in reason(reference, small)
    few = ImagePolicy(max_pixels=40 * 24 - 1)
    assert "40 x 24 pixels" in reason(str(red), few)
    assert open_images([str(red)], ImagePolicy(max_pixels=40 * 24), corner)


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    assert "pixels" in reason(str(tmp_path / "bomb.png"))


def test_http_errors_and_unreachable_servers(httpserver):
    httpserver.expect_request("/gone").respond_with_data("no", status=404)
    assert "HTTP 404" in reason(httpserver.url_for("/gone"))
    assert "cannot fetch" in reason("http://127.0.0.1:9/x.png")
    assert "cannot fetch" in reason("http://[not-an-address/x.png")
    assert reason("http://")


def test_a_slow_server_is_left(httpserver):
    def slowly(_):
        def parts():
            for _ in range(40):
                time.sleep(0.05)
                yield b"x"

        return Response(parts())

    httpserver.expect_request("/slow").respond_with_handler(slowly)
    policy = ImagePolicy(allow_private_urls=True, timeout_s=0.3)
    started = time.monotonic()
    assert "in time" in reason(httpserver.url_for("/slow"), policy)
    assert time.monotonic() - started < 1.5


def redirect(httpserver, path, target):
    answer = Response(status=302, headers={"Location": target})
    httpserver.expect_request(path).respond_with_response(answer)


def test_redirects_are_followed_to_a_limit(red, httpserver):
    httpserver.expect_request("/red").respond_with_data(red.read_bytes())
    redirect(httpserver, "/moved", "/red")
    redirect(httpserver, "/loop", "/loop")
    redirect(httpserver, "/file", f"file://{red}")
    assert open_images([httpserver.url_for("/moved")], LOCAL, corner) == [((40, 24), RED)]
    assert "more than 5 redirects" in reason(httpserver.url_for("/loop"))
    assert "not an http" in reason(httpserver.url_for("/file"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
     "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "2130706433", "100.64.0.1",
     "[64:ff9b::7f00:1]", "[64:ff9b:1::a00:1]", "[::7f00:1]", "[fec0::1]", "[2002:7f00:1::]"],
)  # fmt: skip
def test_private_addresses_are_not_asked(host):
    assert "not a public address" in reason(f"http://{host}/x.png", ImagePolicy())


def resolve(monkeypatch, names):
    """Make names resolve to given addresses; the connection itself stays real."""
    real = fetching.socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        return real(names.get(host, host), port, *args, **options)

    monkeypatch.setattr(fetching.socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_resolves_to_a_private_address_is_not_asked(httpserver, monkeypatch):
    resolve(monkeypatch, {"images.example": "127.0.0.1"})
    assert "not a public address" in reason(
        f"http://images.example:{httpserver.port}/red", ImagePolicy()
    )
    assert not httpserver.log


def test_each_hop_is_checked(red, httpserver, monkeypatch):
    """The first hop counts as public here; the second leads inside and is not followed."""
    public = fetching._is_public
    monkeypatch.setattr(fetching, "_is_public", lambda ip: ip == "127.0.0.1" or public(ip))
    redirect(httpserver, "/out", "http://10.0.0.1/secret")
    assert "10.0.0.1, not a public" in reason(httpserver.url_for("/out"), ImagePolicy())


def test_the_checked_address_is_the_one_that_is_asked(red, httpserver, monkeypatch):
    """A name that changes its address between check and connection gains nothing."""
    monkeypatch.setattr(fetching, "_is_public", lambda ip: ip == "127.0.0.1")
    answers = iter(["127.0.0.1", "10.0.0.1"])
    real = fetching.socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        host = next(answers) if host == "images.example" else host
        return real(host, port, *args, **options)

    monkeypatch.setattr(fetching.socket, "getaddrinfo", getaddrinfo)
    httpserver.expect_request("/red").respond_with_data(red.read_bytes())
    url = f"http://images.example:{httpserver.port}/red"
    assert open_images([url], ImagePolicy(timeout_s=5), corner) == [((40, 24), RED)]
    (request, _), *_ = httpserver.log
    assert request.headers["Host"] == f"images.example:{httpserver.port}"


def test_images_are_opened_at_the_same_time(red):
    together = threading.Barrier(4, timeout=5)
    arrived = open_images([str(red)] * 4, ImagePolicy(threads=4), lambda _: together.wait())
    assert sorted(arrived) == [0, 1, 2, 3]
