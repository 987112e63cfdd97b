"""Collections as frameworks write them, from `init` to `finalize` without an edit to the file."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart, vectors
from tests.support.command import answer_inside, type_inside
from tests.support.corpus import write_vectors

COUNT, MOST = 100, 30
INIT = ("init", "--url", "path:qdrant", "--collection", "c")
MODELS = ("--old-model", "precomputed path=old.parquet", "--new-model")
NEW = "precomputed path=new.parquet"

Write = Callable[[QdrantClient, Sequence[str], np.ndarray], None]


def from_payloads(payload_of: Callable[[str, int], dict[str, Any]], vector: str = "") -> Write:
    """Write points as an application without a framework's package here does."""

    def write(client: QdrantClient, texts: Sequence[str], old: np.ndarray) -> None:
        params = models.VectorParams(size=old.shape[1], distance=models.Distance.COSINE)
        client.create_collection("c", vectors_config={vector: params} if vector else params)
        points = [
            models.PointStruct(
                id=str(uuid.uuid5(uuid.NAMESPACE_OID, text)),
                vector={vector: each.tolist()} if vector else each.tolist(),
                payload=payload_of(text, row),
            )
            for row, (text, each) in enumerate(zip(texts, old, strict=True))
        ]
        client.upsert("c", points)

    return write


def langchain_embeddings(embed: Callable[[str], np.ndarray]) -> Any:
    from langchain_core.embeddings import Embeddings

    class Model(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [embed(text).tolist() for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return embed(text).tolist()

    return Model()


def by_langchain(client: QdrantClient, texts: Sequence[str], old: np.ndarray) -> None:
    from langchain_qdrant import QdrantVectorStore

    params = models.VectorParams(size=old.shape[1], distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config=params)
    # The store embeds a text of its own to learn the length of the vectors.
    model = langchain_embeddings(lambda text: old[texts.index(text) if text in texts else 0])
    metadatas = [{"source": f"{row}.md"} for row in range(len(texts))]
    QdrantVectorStore(client, "c", model).add_texts(list(texts), metadatas)


def nodes(texts: Sequence[str], old: np.ndarray) -> list[Any]:
    from llama_index.core.schema import TextNode

    return [
        TextNode(
            text=text,
            metadata={"file_name": f"{row}.md", "a.b": "{x}", "created": "2024"},
            excluded_embed_metadata_keys=["created"],
            embedding=vector.tolist(),
        )
        for row, (text, vector) in enumerate(zip(texts, old, strict=True))
    ]


def by_llama_index(client: QdrantClient, texts: Sequence[str], old: np.ndarray) -> None:
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    QdrantVectorStore("c", client=client).add(nodes(texts, old))


def by_haystack(client: QdrantClient, texts: Sequence[str], old: np.ndarray) -> None:
    from haystack import Document
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(":memory:", index="c", embedding_dim=old.shape[1])
    store._client = client  # it takes no client
    store._set_up_collection("c", old.shape[1], False, "cosine", False, False)
    store.write_documents(
        [
            Document(content=text, meta={"page": row}, embedding=vector.tolist())
            for row, (text, vector) in enumerate(zip(texts, old, strict=True))
        ]
    )


def with_langchain(client: QdrantClient, place: str, query: np.ndarray) -> str:
    from langchain_qdrant import QdrantVectorStore

    store = QdrantVectorStore(client, place, langchain_embeddings(lambda _: query))
    [best] = store.similarity_search("a picture", k=1)
    return best.page_content


def with_llama_index(client: QdrantClient, place: str, query: np.ndarray) -> str:
    from llama_index.core.vector_stores.types import VectorStoreQuery
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    store = QdrantVectorStore(place, client=client, dense_vector_name="new")
    asked = VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=1)
    [best] = store.query(asked).nodes
    return best.get_content()


def with_haystack(client: QdrantClient, place: str, query: np.ndarray) -> str:
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(":memory:", index=place, embedding_dim=len(query))
    store._client = client
    [best] = QdrantEmbeddingRetriever(store, top_k=1).run(query_embedding=query.tolist())[
        "documents"
    ]
    return best.content


def as_embedded(texts: Sequence[str], old: np.ndarray) -> list[str]:
    """What LlamaIndex embeds of its nodes, by its own account."""
    return [node.get_content(metadata_mode="embed") for node in nodes(texts, old)]


@dataclass(frozen=True, slots=True)
class Layout:
    """A framework's way to write, the text that `init` should choose, and what was embedded."""

    name: str
    text: str
    write: Write
    embedded: Callable[[Sequence[str], np.ndarray], list[str]] = lambda texts, _: list(texts)
    read: Callable[[QdrantClient, str, np.ndarray], str] | None = None


LAYOUTS = [
    Layout("LangChain", "page_content", by_langchain, read=with_langchain),
    Layout(
        "LlamaIndex",
        'file_name: {file_name}\na.b: {"a.b"}\n\n{_node_content.text}',
        by_llama_index,
        as_embedded,
        with_llama_index,
    ),
    Layout("LlamaIndex", "_node_content.text", by_llama_index, read=with_llama_index),
    Layout("Haystack", "content", by_haystack, read=with_haystack),
    # As their sources write them.
    Layout(
        "Dify",
        "page_content",
        from_payloads(
            lambda text, row: {
                "page_content": text,
                "metadata": {"doc_id": f"d{row}", "dataset_id": "s", "document_id": "t"},
                "group_id": "g",
            }
        ),
    ),
    Layout(
        "LangChain.js",
        "content",
        from_payloads(lambda text, row: {"content": text, "metadata": {"source": f"{row}.md"}}),
    ),
    Layout(
        "mem0",
        "data",
        from_payloads(
            lambda text, _: {
                "data": text,
                "hash": hashlib.md5(text.encode()).hexdigest(),
                "created_at": "2024-07-01T10:00:00-07:00",
                "user_id": "u",
            }
        ),
    ),
    Layout(
        "Open WebUI",
        "text",
        from_payloads(
            lambda text, row: {
                "text": text,
                "metadata": {"name": f"{row}.md", "embedding_config": "a long name of a model"},
                "tenant_id": "file-a long and wordy name of a tenant that no model has embedded",
            }
        ),
    ),
    Layout(
        "R2R",
        "text",
        from_payloads(
            lambda text, row: {
                "document_id": str(uuid.UUID(int=row)),
                "extraction_id": str(uuid.UUID(int=row)),
                "text": text,
                "title": "a wordy title that is longer than every text of the collection is here",
            }
        ),
    ),
    Layout(
        "FastEmbed's mixin",
        "document",
        from_payloads(lambda text, row: {"document": text, "n": row}, "fast-bge-small-en"),
    ),
    Layout(
        "Qdrant's MCP server",
        "document",
        from_payloads(
            lambda text, row: {"document": text, "metadata": {"n": row} if row % 2 else None},
            "fast-all-minilm-l6-v2",
        ),
    ),
]


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


@pytest.fixture(autouse=True)
def _without_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No application has to notice anything, so nothing waits for one."""
    monkeypatch.setattr("xbtmigrate.workflows.cutover.finalize.give_notice", lambda *_: None)


def opened(folder: Path) -> QdrantClient:
    return QdrantClient(path=str(folder / "qdrant"))


def texts_in(record: models.Record) -> list[str]:
    """Every text of a payload, also inside a node's JSON."""
    held = list(record.payload.values())
    node = record.payload.get("_node_content")
    return [*held, *([json.loads(node)["text"]] if node else [])]


def fill(folder: Path, layout: Layout, clipart: Clipart) -> None:
    """Write the collection, the files of both models, and judged queries."""
    texts = [f"picture {row}: {caption}" for row, caption in enumerate(clipart.captions)]
    client = opened(folder)
    layout.write(client, texts, clipart.old)
    records, _ = client.scroll("c", limit=COUNT)
    client.close()
    rows = [int(re.findall(r"picture (\d+):", str(record.payload))[0]) for record in records]
    asked = {clipart.captions[row]: str(each.id) for row, each in zip(rows, records, strict=True)}
    for name, gallery in (("old", clipart.old), ("new", clipart.new)):
        made = np.concatenate([gallery, vectors(name, list(asked))])
        keys = [*layout.embedded(texts, clipart.old), *asked]
        write_vectors(folder / f"{name}.parquet", keys, made)
    judged = [json.dumps({"text": text, "relevant": [each]}) for text, each in asked.items()]
    (folder / "queries.jsonl").write_text("\n".join(judged), "utf-8")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: f"{each.name}-{each.text[:14]}")
def test_from_init_to_finalize(layout: Layout, clipart: Clipart, tmp_path: Path):
    fill(tmp_path, layout, clipart)
    done = answer_inside(*INIT, *MODELS, NEW, "--queries", "queries.jsonl", cwd=tmp_path)
    assert done["writer"]["name"] == layout.name
    assert done["writer"]["sign"] in done["text"]
    assert f"text = {json.dumps(layout.text)} " in done["text"]
    # So few queries show no difference, so the plan needs another reason to move.
    typed, command = [], f"{done['next']} --must-leave provider"
    while command is not None and len(typed) < MOST:
        typed.append(shlex.split(command)[1])
        command = type_inside(command, cwd=tmp_path)
    assert typed[-1] == "finalize", typed
    client = opened(tmp_path)
    # An unnamed vector moves to a shadow, a named one gets the new one beside it.
    place = "c__xbtmigrate" if client.collection_exists("c__xbtmigrate") else "c"
    records, _ = client.scroll(place, limit=COUNT + 1, with_vectors=True)
    assert len(records) == COUNT
    held = [each.vector for each in records]
    rows = [next(iter(each.values())) if isinstance(each, dict) else each for each in held]
    assert {len(row) for row in rows} == {clipart.new.shape[1]}
    if layout.read is not None:
        # Given a point's new vector, as its new class of embeddings makes one.
        for record, row in list(zip(records, rows, strict=True))[::10]:
            assert layout.read(client, place, np.array(row)) in texts_in(record)
    client.close()
