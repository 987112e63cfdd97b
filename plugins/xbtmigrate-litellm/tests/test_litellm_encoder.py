"""The encoder through LiteLLM against local services of OpenAI's and of Cohere's protocol."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from werkzeug import Request, Response
from xbtmigrate_litellm import LiteLLMEncoder

from xbtmigrate.errors import (
    ConfigError,
    ConnectionFailedError,
    EncoderError,
    UnreadableSourceError,
)
from xbtmigrate.registry import ENCODERS, load
from xbtmigrate.testing.encoders import EncoderContract, FakeEncoder
from xbtmigrate.types import Modality

# Importing LiteLLM takes many seconds.
pytestmark = pytest.mark.long
KEY = "sk-test"
TEXTS = ["a red fox", "a blue bird", "the sea"]


class Service:
    """Answers embeddings; each entry of `faults` spoils one request, in order."""

    def __init__(self):
        self.model = FakeEncoder(dimension=8)
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
        if self.faults:
            return self.faults.pop(0)
        texts = body["texts"] if "texts" in body else body["input"]
        if self.refused & set(texts):
            return failure(400, "maximum context length is 8192 tokens")
        self.charged += texts
        vectors = self.model.encode(texts, Modality.TEXT).tolist()
        tokens = sum(len(text.split()) for text in texts)
        if "texts" in body:
            meta = {"billed_units": {"input_tokens": tokens}}
            return reply({"id": "1", "embeddings": vectors, "texts": texts, "meta": meta})
        data = [
            {"object": "embedding", "index": row, "embedding": vector}
            for row, vector in enumerate(vectors)
        ]
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
    httpserver.expect_request("/embed", method="POST").respond_with_handler(service)
    return service


@pytest.fixture
def connect(service, httpserver, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)

    def connect(**options):
        settings = {"model": "openai/m", "api_base": httpserver.url_for("/v1")}
        return LiteLLMEncoder(**(settings | {"api_key_env": "TEST_KEY"} | options))

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
    assert load(ENCODERS, "litellm") is LiteLLMEncoder


def test_equal_texts_are_asked_once_within_the_limits(service, connect):
    vectors = connect(max_items_per_request=2).encode(["a", "b", "a", "c"], Modality.TEXT)
    assert service.charged == ["a", "b", "c"]
    assert [len(request["input"]) for request in service.requests] == [2, 1]
    np.testing.assert_allclose(vectors, expected(["a", "b", "a", "c"]), atol=1e-6)


def test_options_travel(service, connect):
    model = "openai/text-embedding-3-small"
    encoder = connect(model=model, dimensions=8, query_prefix="query: ", passage_prefix="passage: ")
    encoder.encode(["a"], Modality.TEXT)
    encoder.encode(["a"], Modality.TEXT, ids=["1"])
    assert [request["input"] for request in service.requests] == [["query: a"], ["passage: a"]]
    assert [request["dimensions"] for request in service.requests] == [8, 8]


def test_cohere_is_told_queries_from_documents(service, httpserver, connect):
    encoder = connect(model="cohere/embed-english-v3.0", api_base=httpserver.url_for("/embed"))
    queries = encoder.encode(["a"], Modality.TEXT)
    encoder.encode(["a"], Modality.TEXT, ids=["1"])
    types = [request["input_type"] for request in service.requests]
    assert types == ["search_query", "search_document"]
    np.testing.assert_allclose(queries, expected(["a"]), atol=1e-6)


def test_retry_after_is_kept(service, connect):
    service.faults = [failure(429, "slow down", **{"Retry-After": "3"})]
    vectors = connect().encode(TEXTS, Modality.TEXT)
    np.testing.assert_allclose(vectors, expected(TEXTS), atol=1e-6)
    assert service.times[1] - service.times[0] >= 3


def test_an_endless_wait_is_not_begun(service, connect):
    service.faults = [failure(429, "come tomorrow", **{"Retry-After": "86400"})]
    with pytest.raises(ConnectionFailedError, match="429"):
        connect().encode(["a"], Modality.TEXT)
    assert len(service.requests) == 1


def test_spent_quota_is_not_repeated(service, connect):
    service.faults = [failure(429, "You exceeded your current quota", "insufficient_quota")]
    with pytest.raises(ConnectionFailedError, match="quota"):
        connect().encode(["a"], Modality.TEXT)
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [500, 503])
def test_passing_failures_are_repeated(service, connect, status):
    service.faults = [failure(status, "passing", **{"Retry-After": "0"})] * 2
    connect().encode(["a"], Modality.TEXT)
    assert len(service.requests) == 3


def test_refused_texts_are_found_and_the_others_embedded(service, connect):
    texts = [f"text {number}" for number in range(16)]
    service.refused = {"text 3", "text 12"}
    encoder = connect()
    with pytest.raises(UnreadableSourceError) as caught:
        encoder.encode(texts, Modality.TEXT)
    assert set(caught.value.failures) == {3, 12}
    assert "maximum context length" in caught.value.failures[3]
    good = [text for text in texts if text not in service.refused]
    np.testing.assert_allclose(encoder.encode(good, Modality.TEXT), expected(good), atol=1e-6)
    assert sorted(service.charged) == sorted([*good, "probe"])


def test_bad_key_and_unknown_model(service, connect, monkeypatch):
    service.faults = [failure(404, "The model `m` does not exist")]
    with pytest.raises(EncoderError, match="does not exist"):
        connect().encode(["a"], Modality.TEXT)
    monkeypatch.setenv("TEST_KEY", "wrong")
    with pytest.raises(ConnectionFailedError, match="401") as caught:
        connect().encode(["a"], Modality.TEXT)
    assert "key" in caught.value.hint
    assert len(service.requests) == 2
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigError, match="TEST_KEY"):
        connect()


@pytest.mark.parametrize("options", [{"max_items_per_request": 0}, {"model": "nobody/m"}])
def test_bad_options(connect, options):
    with pytest.raises(ConfigError) as caught:
        connect(**options)
    assert caught.value.hint


def test_answers_that_are_no_embeddings(service, connect):
    service.faults = [reply({"object": "list", "data": []})]
    with pytest.raises(EncoderError) as caught:
        connect(max_retries=0).encode(["a"], Modality.TEXT)
    assert caught.value.hint


def test_money_is_counted_by_the_listed_price_or_the_given_one(service, connect):
    listed = connect(model="openai/text-embedding-3-small")
    assert listed.price_per_million_tokens == pytest.approx(0.02)
    listed.encode(["one two three"], Modality.TEXT)
    assert listed.tokens_used == 3
    assert listed.cost == pytest.approx(3 * 0.02 / 1e6)
    assert connect(price_per_million_tokens=5).price_per_million_tokens == 5
    assert connect().cost is None


def test_the_identity_is_all_that_changes_the_vectors(connect):
    options = [
        {},
        {"model": "openai/n"},
        {"dimensions": 8},
        {"query_prefix": "q "},
        {"passage_prefix": "q "},
        {"query_input_type": "query"},
        {"passage_input_type": "document"},
        {"api_base": "http://127.0.0.1:1/v1"},
    ]
    found = {connect(**each).fingerprint for each in options}
    assert len(found) == len(options)
    assert connect(max_retries=1, max_items_per_request=3).fingerprint in found
