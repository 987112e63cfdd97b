"""The encoder against a local service that speaks the embeddings endpoint."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest
from werkzeug import Request, Response
from xbtmigrate_openai import OpenAIEncoder

from xbtmigrate.encoders.service_requests import RequestPolicy
from xbtmigrate.errors import (
    ConfigError,
    ConnectionFailedError,
    EncoderError,
    UnreadableSourceError,
)
from xbtmigrate.registry import ENCODERS, load
from xbtmigrate.testing.encoders import EncoderContract, FakeEncoder
from xbtmigrate.types import Modality

KEY = "sk-test"
TEXTS = ["a red fox", "a blue bird", "the sea"]


class Service:
    """Answers embeddings; each entry of `faults` spoils one request, in order."""

    def __init__(self, dimension=8):
        self.model = FakeEncoder(dimension=dimension)
        self.requests = []
        self.times = []
        self.charged = []
        self.faults = []
        self.refused = set()

    def __call__(self, request: Request) -> Response:
        body = json.loads(request.data)
        self.requests.append(body)
        self.times.append(time.monotonic())
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return failure(401, "Incorrect API key provided")
        if self.faults and (fault := self.faults.pop(0)) is not None:
            return fault if isinstance(fault, Response) else fault(self, body)
        if self.refused & set(body["input"]):
            return failure(400, "maximum context length is 8192 tokens")
        return self.answer(body)

    def answer(self, body, vectors=None):
        texts = body["input"]
        self.charged += texts
        if vectors is None:
            vectors = self.model.encode(texts, Modality.TEXT)
        as_base64 = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": row,
                "embedding": base64.b64encode(vector.tobytes()).decode()
                if as_base64
                else vector.tolist(),
            }
            for row, vector in enumerate(vectors)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return reply({"object": "list", "model": "m", "data": data[::-1], "usage": usage})


def reply(body, status=200, **headers):
    return Response(
        json.dumps(body), status, headers={"Content-Type": "application/json", **headers}
    )


def failure(status, message, code=None, **headers):
    return reply({"error": {"message": message, "code": code}}, status, **headers)


@pytest.fixture
def service(httpserver):
    service = Service()
    httpserver.expect_request("/v1/embeddings", method="POST").respond_with_handler(service)
    return service


@pytest.fixture
def connect(service, httpserver, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)

    def connect(**options):
        settings = {"model": "m", "base_url": httpserver.url_for("/v1"), "api_key_env": "TEST_KEY"}
        return OpenAIEncoder(**(settings | options))

    return connect


def expected(texts):
    return FakeEncoder(dimension=8).encode(texts, Modality.TEXT)


class TestContract(EncoderContract):
    @pytest.fixture
    def encoder(self, service, connect):
        service.refused = {"too long"}
        return connect()

    @pytest.fixture
    def twin(self, connect):
        return connect(max_items_per_request=1)

    @pytest.fixture
    def items(self):
        return {Modality.TEXT: TEXTS}

    @pytest.fixture
    def unreadable(self):
        return {Modality.TEXT: "too long"}


def test_entry_point():
    assert load(ENCODERS, "openai") is OpenAIEncoder


def test_constructing_asks_nothing(service, connect):
    assert connect(dimensions=8).dimension == 8
    assert service.requests == []


def test_vectors_are_put_in_order_of_their_index(service, connect):
    """The service answers in reverse order throughout."""
    np.testing.assert_array_equal(connect().encode(TEXTS, Modality.TEXT), expected(TEXTS))


def test_requests_keep_to_both_limits(service, connect):
    connect(max_items_per_request=2).encode(TEXTS, Modality.TEXT)
    assert [len(request["input"]) for request in service.requests] == [2, 1]
    service.requests.clear()
    long = ["x" * 300, "y" * 300, "z" * 300, "w" * 900]
    connect(max_tokens_per_request=200).encode(long, Modality.TEXT)
    assert [len(request["input"]) for request in service.requests] == [2, 1, 1]


def test_equal_texts_are_asked_once(service, connect):
    vectors = connect().encode(["a", "b", "a", "a"], Modality.TEXT)
    assert service.charged == ["a", "b"]
    np.testing.assert_array_equal(vectors, expected(["a", "b", "a", "a"]))


def test_options_travel(service, connect):
    connect(model="special", dimensions=8).encode(["a"], Modality.TEXT)
    assert service.requests[0]["model"] == "special"
    assert service.requests[0]["dimensions"] == 8
    connect().encode(["a"], Modality.TEXT)
    assert "dimensions" not in service.requests[1]


def test_queries_and_documents_have_their_own_prefixes(service, connect):
    encoder = connect(query_prefix="query: ", passage_prefix="passage: ")
    queries = encoder.encode(["fox", "sea"], Modality.TEXT)
    documents = encoder.encode(["fox", "fox"], Modality.TEXT, ids=["1", "2"])
    assert service.charged == ["query: fox", "query: sea", "passage: fox"]
    np.testing.assert_array_equal(queries, expected(["query: fox", "query: sea"]))
    np.testing.assert_array_equal(documents, expected(["passage: fox", "passage: fox"]))
    with pytest.raises(UnreadableSourceError):
        encoder.encode([" "], Modality.TEXT)


def test_retry_after_in_seconds_is_kept(service, connect):
    service.faults = [failure(429, "slow down", **{"Retry-After": "0.4"})]
    vectors = connect().encode(TEXTS, Modality.TEXT)
    np.testing.assert_array_equal(vectors, expected(TEXTS))
    assert service.times[1] - service.times[0] >= 0.4


def test_retry_after_as_a_date_is_kept(service, connect):
    then = time.time() + 2
    service.faults = [failure(429, "slow down", **{"Retry-After": formatdate(then, usegmt=True)})]
    connect().encode(["a"], Modality.TEXT)
    assert len(service.times) == 2
    assert time.time() >= int(then)


def test_an_endless_wait_is_not_begun(service, connect):
    service.faults = [failure(429, "come tomorrow", **{"Retry-After": "86400"})]
    with pytest.raises(ConnectionFailedError, match="429"):
        connect().encode(["a"], Modality.TEXT)
    assert len(service.requests) == 1


def test_spent_quota_is_not_repeated(service, connect):
    service.faults = [failure(429, "You exceeded your current quota", "insufficient_quota")]
    with pytest.raises(ConnectionFailedError, match="quota") as caught:
        connect().encode(["a"], Modality.TEXT)
    assert len(service.requests) == 1
    assert caught.value.hint


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
def test_passing_failures_are_repeated(service, connect, status):
    service.faults = [failure(status, "passing", **{"Retry-After": "0"})] * 3
    vectors = connect().encode(["a"], Modality.TEXT)
    np.testing.assert_array_equal(vectors, expected(["a"]))
    assert len(service.requests) == 4


def test_repetitions_end(service, connect):
    service.faults = [failure(500, "broken", **{"Retry-After": "0"})] * 9
    with pytest.raises(ConnectionFailedError, match="500"):
        connect(max_retries=2).encode(["a"], Modality.TEXT)
    assert len(service.requests) == 3


def test_nothing_answered_is_asked_twice(service, connect):
    """The second of three requests fails for good; the next call asks for the rest alone."""
    encoder = connect(max_items_per_request=1, max_retries=0)
    service.faults = [None, failure(500, "broken")]
    with pytest.raises(ConnectionFailedError):
        encoder.encode(TEXTS, Modality.TEXT)
    assert service.charged == TEXTS[:1]
    vectors = encoder.encode(TEXTS, Modality.TEXT)
    assert service.charged == TEXTS
    np.testing.assert_array_equal(vectors, expected(TEXTS))


def test_answers_are_kept_when_the_caller_asks_for_parts(service, connect):
    encoder = connect()
    with pytest.raises(UnreadableSourceError):
        encoder.encode([*TEXTS, " "], Modality.TEXT)
    for text in TEXTS:
        encoder.encode([text], Modality.TEXT)
    assert service.charged == TEXTS


def test_answers_are_not_kept_for_ever(service, connect):
    encoder = connect()
    encoder.encode(TEXTS, Modality.TEXT)
    encoder.encode(TEXTS, Modality.TEXT)
    assert service.charged == TEXTS * 2


def test_refused_texts_are_found_and_the_others_embedded(service, connect):
    texts = [f"text {number}" for number in range(16)]
    service.refused = {"text 3", "text 12"}
    encoder = connect()
    with pytest.raises(UnreadableSourceError) as caught:
        encoder.encode(texts, Modality.TEXT)
    assert set(caught.value.failures) == {3, 12}
    assert "maximum context length" in caught.value.failures[3]
    good = [text for text in texts if text not in service.refused]
    np.testing.assert_array_equal(encoder.encode(good, Modality.TEXT), expected(good))
    assert sorted(service.charged) == sorted([*good, "probe"])


def test_refused_options_are_not_blamed_on_the_texts(service, connect):
    service.faults = [failure(400, "dimensions not supported")] * 9
    with pytest.raises(EncoderError, match="dimensions not supported") as caught:
        connect().encode([f"text {number}" for number in range(64)], Modality.TEXT)
    assert not isinstance(caught.value, UnreadableSourceError)
    assert len(service.requests) == 2


def test_texts_that_cannot_be_sent(service, connect):
    with pytest.raises(UnreadableSourceError) as caught:
        connect().encode(["", " \n", "\ud800", "fine"], Modality.TEXT)
    assert set(caught.value.failures) == {0, 1, 2}
    assert service.charged == ["fine"]


def test_bad_key(service, connect, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "wrong")
    with pytest.raises(ConnectionFailedError, match="401") as caught:
        connect().encode(["a"], Modality.TEXT)
    assert "key" in caught.value.hint
    assert len(service.requests) == 1


def test_a_missing_key_is_told_at_once(connect, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigError, match="TEST_KEY"):
        connect()
    assert connect(api_key_env="", dimensions=3).dimension == 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_items_per_request": 0},
        {"requests_per_minute": -1},
        {"requests_per_minute": 0},
        {"tokens_per_minute": 0},
    ],
)
def test_options_out_of_range(connect, options):
    with pytest.raises(ConfigError):
        connect(**options)


def test_unknown_model(service, connect):
    service.faults = [failure(404, "The model `m` does not exist")]
    with pytest.raises(EncoderError, match="does not exist") as caught:
        connect().encode(["a"], Modality.TEXT)
    assert "model" in caught.value.hint


def test_wrong_dimension(service, connect):
    with pytest.raises(EncoderError, match="length 8; 1 of length 5"):
        connect(dimensions=5).encode(["a"], Modality.TEXT)


def test_a_dimension_that_changes(service, connect):
    encoder = connect()
    encoder.encode(["a"], Modality.TEXT)
    service.model = FakeEncoder(dimension=9)
    with pytest.raises(EncoderError, match="length 9; 1 of length 8"):
        encoder.encode(["b"], Modality.TEXT)


def nan(service, body):
    return service.answer(body, np.full((len(body["input"]), 8), np.nan, np.float32))


def too_few(service, body):
    return service.answer(body, np.ones((len(body["input"]) - 1, 8), np.float32))


@pytest.mark.parametrize(
    "fault",
    [
        nan,
        too_few,
        reply({"object": "list", "data": []}),
        reply({"hello": "world"}),
        Response("<html>a page</html>", content_type="text/html"),
        Response("{", content_type="application/json"),
    ],
)
def test_answers_that_are_no_embeddings(service, connect, fault):
    service.faults = [fault]
    with pytest.raises(EncoderError) as caught:
        connect(max_retries=0).encode(["a", "b"], Modality.TEXT)
    assert caught.value.hint


def test_no_server():
    encoder = OpenAIEncoder(
        model="m", base_url="http://127.0.0.1:9/v1", api_key_env="", max_retries=0
    )
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9"):
        encoder.encode(["a"], Modality.TEXT)


def test_a_connection_that_drops_in_mid_answer_is_repeated(service, connect):
    whole = service.answer({"input": ["a"]}).data
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_badly_then_well():
            for content in [head, head + whole[: len(whole) // 2], head + whole]:
                client, _ = listener.accept()
                with client:
                    client.recv(65_536)
                    client.sendall(content)

        thread = threading.Thread(target=answer_badly_then_well, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        vectors = connect(base_url=url, timeout_s=5).encode(["a"], Modality.TEXT)
        thread.join(5)
    np.testing.assert_allclose(vectors, expected(["a"]), atol=1e-6)


def test_tokens_and_money_are_counted(service, connect):
    encoder = connect(price_per_million_tokens=20.0)
    assert encoder.cost == 0
    assert encoder.count_tokens(["abcdef", ""]) == 3
    encoder.encode(["one two three", "four"], Modality.TEXT)
    assert encoder.tokens_used == 4
    assert encoder.cost == pytest.approx(4 * 20 / 1e6)
    assert encoder.count_tokens(["x" * 17]) == 4
    assert connect().cost is None


def test_failed_requests_are_not_counted(service, connect):
    encoder = connect()
    service.faults = [failure(500, "broken", **{"Retry-After": "0"})]
    encoder.encode(["one two"], Modality.TEXT)
    assert encoder.tokens_used == 2


def test_the_pace_is_kept(service, connect):
    connect(max_items_per_request=1, requests_per_minute=300).encode(TEXTS, Modality.TEXT)
    assert len(service.times) == 3
    assert service.times[-1] - service.times[0] >= 0.35


def test_queries_may_have_a_model_of_their_own(service, connect):
    encoder = connect(query_model="q")
    encoder.encode(["fox"], Modality.TEXT)
    encoder.encode(["fox"], Modality.TEXT, ids=["1"])
    assert [each["model"] for each in service.requests] == ["q", "m"]


def test_the_pace_of_tokens_is_kept(service, connect):
    # By the first estimate each of these texts has three tokens.
    texts = ["the a sea", "one a sea", "two a sea", "six a sea"]
    connect(tokens_per_minute=900).encode(texts, Modality.TEXT)
    assert len(service.times) == 1
    service.times.clear()
    connect(tokens_per_minute=900, max_items_per_request=1).encode(texts, Modality.TEXT)
    # From start to start: three intervals of three tokens, at 15 tokens a second.
    assert service.times[-1] - service.times[0] >= 0.55


def test_no_request_has_more_tokens_than_a_minute_allows():
    policy = RequestPolicy(requests_per_minute=None, tokens_per_minute=10_000, max_retries=0)
    assert (policy.cap(200_000), policy.cap(500)) == (10_000, 500)


def test_the_identity_is_service_model_and_dimensions(connect):
    found = {
        connect().fingerprint,
        connect(model="n").fingerprint,
        connect(dimensions=8).fingerprint,
        connect(base_url="http://127.0.0.1:1/v1").fingerprint,
        connect(query_prefix="query: ").fingerprint,
        connect(passage_prefix="query: ").fingerprint,
        connect(query_model="q").fingerprint,
    }
    assert len(found) == 7
    assert connect(max_retries=1).fingerprint in found
