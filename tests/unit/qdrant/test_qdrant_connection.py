from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.collections import embedded
from tests.support.qdrant_server import free_port
from xbtmigrate.errors import (
    CollectionError,
    ConnectionFailedError,
    UnsupportedError,
    XbtMigrateError,
)
from xbtmigrate.qdrant.gallery.create import create_collection
from xbtmigrate.qdrant.wire.connect import check_writable, connect
from xbtmigrate.qdrant.wire.connection import Connection, RetryPolicy
from xbtmigrate.qdrant.wire.reader import Reader

DONE = {"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0}
UNCONFIRMED = {"result": {"operation_id": 1, "status": "acknowledged"}, "status": "ok", "time": 0.0}


def error_of(url: str) -> XbtMigrateError:
    with pytest.raises(XbtMigrateError) as caught:
        connect(url)
    assert caught.value.hint
    return caught.value


def answer_like(server: HTTPServer, version: str) -> None:
    server.expect_request("/").respond_with_json(
        {"title": "qdrant - vector search engine", "version": version}
    )
    server.expect_request("/collections").respond_with_json(
        {"result": {"collections": []}, "status": "ok", "time": 0.0}
    )


@pytest.fixture
def scripted(httpserver: HTTPServer) -> Iterator[Connection]:
    """A connection to a server whose answers the test writes itself."""
    answer_like(httpserver, "1.16.3")
    with connect(httpserver.url_for("/")) as connection:
        yield connection


def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = error_of(url)
    assert isinstance(error, ConnectionFailedError)
    assert url in error.message


def test_where_nothing_listens_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []
    monkeypatch.setattr(RetryPolicy, "_note", lambda _, state, url: waits.append((state, url)))
    assert "does not answer" in error_of(f"http://127.0.0.1:{free_port()}").message
    assert not waits


def test_a_server_that_is_starting_is_asked_again(httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/").respond_with_data("starting", 503)
    answer_like(httpserver, "1.16.3")
    with connect(httpserver.url_for("/")) as connection:
        assert connection.version == (1, 16, 3)


def test_something_else_listens(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("<html>hello</html>")
    assert isinstance(error_of(httpserver.url_for("/")), ConnectionFailedError)


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://host", "http://", "./folder"])
def test_no_address(url: str) -> None:
    assert isinstance(error_of(url), ConnectionFailedError)


def test_an_old_server_is_refused_with_what_is_needed(httpserver: HTTPServer) -> None:
    answer_like(httpserver, "1.12.6")
    error = error_of(httpserver.url_for("/"))
    assert isinstance(error, UnsupportedError)
    assert "1.12.6" in error.message
    assert "1.13" in error.hint


def test_reads_the_version_of_a_release_candidate(httpserver: HTTPServer) -> None:
    answer_like(httpserver, "1.18.0-rc.2")
    with connect(httpserver.url_for("/")) as connection:
        assert connection.version == (1, 18, 0)
        assert connection.at_least((1, 18, 0))


def test_an_embedded_folder_that_is_missing_is_not_created(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere" / "db"
    assert "does not exist" in error_of(f"path:{folder}").message
    assert not folder.parent.exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "not an embedded Qdrant" in error_of(f"path:{tmp_path}").message
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_folder(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    assert "cannot be opened" in error_of(f"path:{tmp_path}").message


def test_a_folder_open_in_another_process(tmp_path: Path) -> None:
    embedded(tmp_path).close()
    program = (
        "import sys; from xbtmigrate.qdrant.wire.connect import connect\n"
        f"connection = connect('path:{tmp_path}'); print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    assert "in use by another process" in error_of(f"path:{tmp_path}").message
    other.communicate()
    connect(f"path:{tmp_path}").close()


def test_an_embedded_database_is_writable_and_newest(embedded_db: Connection) -> None:
    check_writable(embedded_db, "anything")
    assert embedded_db.embedded
    assert embedded_db.at_least((1, 18, 0))


def test_back_pressure_is_not_a_failure(scripted: Connection, httpserver: HTTPServer) -> None:
    busy = Response('{"status":{"error":"too many"}}', 429, {"Retry-After": "1"})
    away = Response("restarting", 503)
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_response(busy)
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_response(away)
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_json(DONE)
    scripted.write(lambda: scripted.client.delete("c", [1]))
    httpserver.check_assertions()


@pytest.mark.parametrize("named", ["Thu, 01 Jan 1970 00:00:00 GMT", "-5", "soon", "0"])
def test_a_time_to_come_back_may_be_anything(
    named: str, scripted: Connection, httpserver: HTTPServer
) -> None:
    busy = Response('{"status":{"error":"too many"}}', 429, {"Retry-After": named})
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_response(busy)
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_json(DONE)
    scripted.write(lambda: scripted.client.delete("c", [1]))
    httpserver.check_assertions()


def test_an_answer_that_is_cut_short_is_asked_for_again(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    path = "/collections/c/points/delete"
    httpserver.expect_ordered_request(path).respond_with_data('{"result": {"operat')
    httpserver.expect_ordered_request(path).respond_with_json(DONE)
    scripted.write(lambda: scripted.client.delete("c", [1]))
    httpserver.check_assertions()


def test_what_was_created_is_recognised_when_the_answer_was_lost(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    there = {"result": {"exists": True}, "status": "ok", "time": 0.0}
    httpserver.expect_ordered_request("/collections/c").respond_with_data("gateway", 504)
    httpserver.expect_ordered_request("/collections/c/exists").respond_with_json(there)
    create_collection(scripted, "c", vectors_config={})
    httpserver.check_assertions()


def test_what_another_has_created_is_not_taken_for_ours(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    taken = {"status": {"error": "Wrong input: Collection `c` already exists!"}, "time": 0.0}
    httpserver.expect_oneshot_request("/collections/c").respond_with_json(taken, 409)
    with pytest.raises(UnsupportedError, match="already exists"):
        create_collection(scripted, "c", vectors_config={})


def test_only_completed_counts(scripted: Connection, httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_json(UNCONFIRMED)
    httpserver.expect_ordered_request("/collections/c/points/delete").respond_with_json(DONE)
    scripted.write(lambda: scripted.client.delete("c", [1]))
    httpserver.check_assertions()


def test_gives_up_when_a_write_is_never_confirmed(httpserver: HTTPServer) -> None:
    answer_like(httpserver, "1.16.3")
    httpserver.expect_request("/collections/c/points/delete").respond_with_json(UNCONFIRMED)
    with connect(httpserver.url_for("/")) as opened:
        impatient = replace(opened, attempts=2)
        with pytest.raises(ConnectionFailedError, match="does not apply"):
            impatient.write(lambda: impatient.client.delete("c", [1]))


def test_a_refusal_is_not_tried_again(scripted: Connection, httpserver: HTTPServer) -> None:
    answer = {"status": {"error": "Wrong input: no"}, "time": 0.0}
    httpserver.expect_oneshot_request("/collections/c/points/delete").respond_with_json(answer, 400)
    with pytest.raises(UnsupportedError, match="Wrong input: no"):
        scripted.write(lambda: scripted.client.delete("c", [1]))


def test_an_unknown_collection(embedded_db: Connection) -> None:
    with pytest.raises(CollectionError, match="no such collection"):
        embedded_db.call(lambda: embedded_db.client.get_collection("absent"))


def test_an_error_is_never_the_end_of_a_scan(scripted: Connection, httpserver: HTTPServer) -> None:
    page = {"points": [{"id": 1, "payload": {}}], "next_page_offset": 2}
    path = "/collections/c/points/scroll"
    httpserver.expect_oneshot_request(path).respond_with_json({"result": page, "time": 0.0})
    httpserver.expect_request(path).respond_with_data("gone", 503)
    impatient = replace(scripted, attempts=2)
    pages = Reader(impatient, "c", page=1).scroll(payload=False, vectors=False)
    assert next(pages).ids == ["1"]
    with pytest.raises(ConnectionFailedError, match="does not answer"):
        next(pages)


def test_an_empty_page_is_not_the_end_of_a_scan(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    path = "/collections/c/points/scroll"
    for page in (
        {"points": [], "next_page_offset": 5},
        {"points": [{"id": 5, "payload": {}}], "next_page_offset": None},
    ):
        httpserver.expect_ordered_request(path).respond_with_json({"result": page, "time": 0.0})
    pages = Reader(scripted, "c", page=1).scroll(payload=False, vectors=False)
    assert [page.ids for page in pages] == [["5"]]


def test_pages_shrink_where_payloads_are_large(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    listing = {"points": [{"id": each} for each in range(40)], "next_page_offset": None}
    httpserver.expect_request("/collections/c/points/scroll").respond_with_json(
        {"result": listing, "time": 0.0}
    )
    asked: list[int] = []

    def answer(request: Request) -> Response:
        asked.append(len(request.json["ids"]))
        points = [{"id": each, "payload": {"png": "x" * 2**21}} for each in request.json["ids"]]
        return Response(json.dumps({"result": points, "time": 0.0}))

    httpserver.expect_request("/collections/c/points").respond_with_handler(answer)
    pages = Reader(scripted, "c", page=10, listed=40).scroll(payload=True, vectors=False)
    read = [each for page in pages for each in page.ids]
    assert read == [str(each) for each in range(40)]
    assert asked[0] == 10
    # The page that is fetched meanwhile still has the earlier limit.
    assert asked[2] == 8


def test_an_answer_that_the_client_library_cannot_read(
    scripted: Connection, httpserver: HTTPServer
) -> None:
    answer = {"result": {"points": [{"id": 1, "version": 1, "score": None}]}, "status": "ok"}
    httpserver.expect_request("/collections/c/points/query").respond_with_json(answer)
    with pytest.raises(UnsupportedError, match=r"cannot be read: .*score: Input should") as caught:
        scripted.call(lambda: scripted.client.query_points("c", query=[1.0]))
    assert "xbtmigrate plan" in caught.value.hint
