"""A collection of texts whose new model is a service on this machine that counts what it is asked.

Both models are deterministic maps of the same latent vectors, so every vector is known beforehand.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pytest_httpserver import HTTPServer
from qdrant_client import QdrantClient, models
from werkzeug import Request, Response

from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

OLD, NEW = FakeEncoder(dimension=16, seed=1), FakeEncoder(dimension=24, seed=2)
PAGE = 50


@dataclass(frozen=True, slots=True)
class Texts:
    """Points with a text each, and both models' vectors of it."""

    ids: list[int]
    texts: list[str]
    old: np.ndarray
    new: np.ndarray

    @classmethod
    def make(cls, count: int) -> Texts:
        texts = [f"entry {number} of a list that is embedded as text" for number in range(count)]
        return cls(
            list(range(1, count + 1)),
            texts,
            OLD.encode(texts, Modality.TEXT),
            NEW.encode(texts, Modality.TEXT),
        )

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [{"text": text, "n": number} for number, text in enumerate(self.texts)]

    def fill(self, client: QdrantClient, name: str, *, both: bool) -> None:
        """Create the collection; strict mode makes its pages small, so that a run has many."""
        sizes = {"old": 16, "new": 24} if both else {"old": 16}
        pages = models.StrictModeConfig(enabled=True, max_query_limit=PAGE)
        create_collection(client, name, sizes, strict_mode_config=pages)
        fill_collection(client, name, self.ids, {"old": self.old}, self.payloads)


@dataclass(slots=True)
class Service:
    """Answers embeddings of the new model.

    Attributes:
        base_url: What the encoder is given.
        charged: How often each text was asked for and answered.
        refused: Texts for which it refuses a request as a whole, as services do for too long ones.
        on_request: Called with the number of the request before it is answered.
    """

    base_url: str = ""
    charged: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    on_request: Callable[[int], None] = lambda _: None
    _requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Count from zero again."""
        self.charged.clear()
        self._requests = 0

    def answer(self, request: Request) -> Response:
        texts = json.loads(request.data)["input"]
        with self._lock:
            self._requests += 1
            number = self._requests
        self.on_request(number)
        if self.refused & set(texts):
            error = {"error": {"message": "refused: maximum context length is 8192 tokens"}}
            return Response(json.dumps(error), 400, content_type="application/json")
        self.charged.update(texts)
        vectors = FakeEncoder(dimension=24, seed=2).encode(texts, Modality.TEXT)
        data = [
            {"object": "embedding", "index": row, "embedding": vector.tolist()}
            for row, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        body = {"object": "list", "model": "m", "data": data, "usage": usage}
        return Response(json.dumps(body), content_type="application/json")


@contextmanager
def embedding_service() -> Iterator[Service]:
    """Run the service of the new model."""
    service = Service()
    with HTTPServer(threaded=True) as server:
        server.expect_request("/v1/embeddings", method="POST").respond_with_handler(service.answer)
        service.base_url = server.url_for("/v1")
        yield service


def write_text_config(
    folder: Path, url: str, collection: str, texts: Texts, service: Service, *, layout: str
) -> None:
    """Write the configuration and the old model's vectors beside it."""
    write_vectors(folder / "old.parquet", texts.texts, texts.old)
    write_precomputed_config(
        *(folder, url, collection),
        new_model={
            "encoder": "openai",
            "path": None,
            "model": "m",
            "base_url": service.base_url,
            "api_key_env": "",
            "dimensions": 24,
            "max_retries": 0,
        },
        plan={"strategy": "fastfill", "layout": layout, "sample": 100},
    )
