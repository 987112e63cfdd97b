"""Vector stores of other packages, unmodified, on wrapped clients, their collection migrated.

In every phase a store is constructed anew, by the names that the application always used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from tests.support.clipart import DATA, Clipart
from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.migrating import marked, new_model, old_model
from xbtmigrate.serving import wrap, wrap_async
from xbtmigrate.types import Kind

COUNT = 120
GROUPS = ("a", "b", "c")

pytestmark = [pytest.mark.long, pytest.mark.server]


@pytest.fixture(scope="module")
def client(qdrant_url: str) -> Iterator[QdrantClient]:
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def captions() -> list[str]:
    """Captions for the collection, and one that is added while it is migrated."""
    return list(dict.fromkeys(Clipart.load(3 * COUNT).captions))[: COUNT + 1]


def group(captions: Sequence[str], caption: str) -> str:
    return GROUPS[captions.index(caption) % len(GROUPS)]


@dataclass(frozen=True, slots=True)
class Course:
    """A collection that a package has filled with the old model, and its migration."""

    client: QdrantClient
    url: str
    name: str
    folder: Path

    @classmethod
    def start(
        cls,
        client: QdrantClient,
        url: str,
        name: str,
        folder: Path,
        *,
        vector: str,
        text: str,
        layout: str = "auto",
    ) -> Course:
        (folder / "xbtmigrate.toml").write_text(
            f"""
[qdrant]
url = "{url}"
collection = "{name}"
vector = "{vector}"

[payload]
text = "{text}"

[old_model]
encoder = "precomputed"
path = "{DATA / "old.parquet"}"
stored = "text"

[new_model]
encoder = "precomputed"
path = "{DATA / "new.parquet"}"

[plan]
strategy = "fastfill"
layout = "{layout}"
sample = 100
""",
            "utf-8",
        )
        answer_inside("plan", cwd=folder)
        answer_inside("train-projector", "--kind", "ridge", cwd=folder)
        return cls(client, url, name, folder)

    def run(self, *command: str) -> dict[str, Any]:
        return answer_inside(*command, cwd=self.folder)

    def backfill(self, fraction: float) -> None:
        self.run("backfill", "--online", "--fraction", str(fraction))

    def end(self, check: Callable[[QdrantClient, Callable[..., np.ndarray]], None]) -> None:
        """Lead it from its backfill to the end; each phase is checked with a new client."""
        switch = ("cutover", "--yes", *(["--by-switch"] if self.shadow else []))
        self.backfill(1)
        self.run("verify", "--yes")
        check(self.wrapped(), old_model)
        self.run(*switch)
        check(self.wrapped(), new_model)
        self.run("rollback", "--yes")
        check(self.wrapped(), old_model)
        self.run("verify", "--yes")
        self.run(*switch)
        ending = ("finalize", "--confirm", self.name, "--no-snapshot", "--notice", "0")
        self.run(*ending)
        client = self.wrapped()
        check(client, new_model)
        listed = {each.name for each in client.get_collections().collections}
        assert self.name in listed
        assert listed.isdisjoint({"_xbtmigrate", f"{self.name}__xbtmigrate"})

    @property
    def shadow(self) -> bool:
        return self.client.collection_exists(f"{self.name}__xbtmigrate")

    def reencoded(self, text: str) -> list[str]:
        """Texts whose points have their true new vector: each is the best answer to itself."""
        shadow = f"{self.name}__xbtmigrate"
        place = shadow if self.client.collection_exists(shadow) else self.name
        kind = models.FieldCondition(
            key="_xbtmigrate.kind", match=models.MatchValue(value="encoded")
        )
        records, _ = self.client.scroll(place, models.Filter(must=[kind]), limit=COUNT)
        return [record.payload[text] for record in records]

    @property
    def opening(self) -> dict[str, Any]:
        # What the application writes is embedded by both models.
        folder = self.folder / ".xbtmigrate"
        return {
            "new_encoder": new_model,
            "old_encoder": old_model,
            "folder": next(folder.iterdir()),
            "interval": 0,
        }

    def wrapped(self, serving: str = "") -> QdrantClient:
        return wrap(self.client, self.name, serving=serving, **self.opening)

    def on_asyncio(self, use: Callable[[AsyncQdrantClient], Any]) -> Any:
        async def run() -> Any:
            bare = AsyncQdrantClient(url=self.url, check_compatibility=False)
            client = await wrap_async(bare, self.name, serving="single", **self.opening)
            try:
                return await use(client)
            finally:
                await client.close()

        return asyncio.run(run())

    def has_both(self, count: int, text: str, added: str, encoded: int = 0) -> None:
        """Check that both sides hold so many points, and what was added is as if backfilled."""
        shadow = f"{self.name}__xbtmigrate"
        both = self.client.collection_exists(shadow)
        for collection in [self.name, shadow] if both else [self.name]:
            assert self.client.count(collection).count == count
        if not added:
            return
        assert marked(self.folder, Kind.ENCODED) == encoded + 1
        for collection in [self.name, shadow] if both else [self.name]:
            condition = models.FieldCondition(key=text, match=models.MatchValue(value=added))
            [[record], _] = self.client.scroll(
                collection, models.Filter(must=[condition]), with_vectors=True
            )
            held = record.vector if isinstance(record.vector, dict) else {"": record.vector}
            for vector in held.values():
                wanted = (old_model if len(vector) == 128 else new_model)([added])[0]
                np.testing.assert_allclose(vector, wanted, atol=2e-3)
            assert both or len(held) == 2


@pytest.mark.parametrize("layout", ["in_place", "shadow", "unnamed"])
def test_langchain(layout, client, qdrant_url, captions, tmp_path):
    import langchain_qdrant as langchain
    from langchain_core.embeddings import Embeddings

    class Model(Embeddings):
        def __init__(self, encode) -> None:
            self.encode = encode

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            # The store embeds a text of its own to learn the length of the vectors.
            known = [captions[0] if text == "dummy_text" else text for text in texts]
            return self.encode(known).tolist()

        def embed_query(self, text: str) -> list[float]:
            return self.encode([text])[0].tolist()

    name, (*known, fresh) = fresh_name(), captions
    vector = "" if layout == "unnamed" else "old"
    sizes = {"in_place": {"old": 128, "new": 256}, "shadow": {"old": 128}}.get(layout, {"": 128})
    client.create_collection(
        name,
        vectors_config={
            key: models.VectorParams(size=size, distance=models.Distance.COSINE)
            for key, size in sizes.items()
        },
    )

    def store(on: QdrantClient, encode: Callable[..., np.ndarray]):
        return langchain.QdrantVectorStore(on, name, Model(encode), vector_name=vector)

    metadatas = [{"group": group(captions, text)} for text in captions]
    store(client, old_model).add_texts(known, metadatas[:-1])
    course = Course.start(
        client,
        qdrant_url,
        name,
        tmp_path,
        vector=vector,
        text="page_content",
        layout="in_place" if layout == "in_place" else "shadow",
    )

    def check(on: QdrantClient, encode: Callable[..., np.ndarray]) -> None:
        made = store(on, encode)
        for asked in known[::20]:
            [best] = made.similarity_search(asked, k=1)
            assert best.page_content == asked
            assert set(best.metadata) == {"group", "_id", "_collection_name"}
            [same] = made.get_by_ids([best.metadata["_id"]])
            assert same.page_content == asked
        varied = made.max_marginal_relevance_search(known[0], k=3, fetch_k=10)
        assert len({each.page_content for each in varied}) == 3

    check(course.wrapped(), old_model)
    course.backfill(0.5)
    check(course.wrapped(), old_model)
    encoded = marked(tmp_path, Kind.ENCODED)
    migrated = store(course.wrapped("single"), new_model)
    texts = course.reencoded("page_content")
    for asked in texts[::10]:
        found = [each.page_content for each in migrated.similarity_search(asked, k=5)]
        assert asked in found
        assert len(set(found)) == 5
    only = models.FieldCondition(key="metadata.group", match=models.MatchValue(value="b"))
    one = next(each for each in texts if group(captions, each) == "b")
    filtered = migrated.similarity_search(one, k=5, filter=models.Filter(must=[only]))
    assert filtered[0].page_content == one
    assert {each.metadata["group"] for each in filtered} == {"b"}
    varied = migrated.max_marginal_relevance_search(one, k=3, fetch_k=10)
    assert len({each.page_content for each in varied}) == 3
    [added] = migrated.add_texts([fresh], metadatas[-1:])
    assert fresh in [each.page_content for each in migrated.similarity_search(fresh, k=3)]
    course.has_both(COUNT + 1, "page_content", fresh, encoded)
    assert migrated.delete([added])
    course.has_both(COUNT, "page_content", "")
    course.end(check)


def test_llama_index(client, qdrant_url, captions, tmp_path):
    import llama_index.vector_stores.qdrant as llama_index
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores.types import (
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
    )

    def nodes(texts: list[str], encode) -> list[TextNode]:
        return [
            TextNode(
                text=text,
                metadata={"caption": text, "group": group(captions, text)},
                embedding=vector.tolist(),
            )
            for text, vector in zip(texts, encode(texts), strict=True)
        ]

    def query(asked: str, **more: Any) -> VectorStoreQuery:
        embedding = new_model([asked])[0].tolist()
        return VectorStoreQuery(query_embedding=embedding, similarity_top_k=5, **more)

    name, (*known, fresh) = fresh_name(), captions
    llama_index.QdrantVectorStore(name, client=client).add(nodes(known, old_model))
    vectors = client.get_collection(name).config.params.vectors
    vector = next(iter(vectors)) if isinstance(vectors, dict) else ""
    course = Course.start(client, qdrant_url, name, tmp_path, vector=vector, text="caption")

    def check(on: QdrantClient, encode: Callable[..., np.ndarray]) -> None:
        made = llama_index.QdrantVectorStore(name, client=on)
        for asked in known[::20]:
            embedding = encode([asked])[0].tolist()
            found = made.query(VectorStoreQuery(query_embedding=embedding, similarity_top_k=1))
            [best] = found.nodes
            assert best.get_content() == asked
            [same] = made.get_nodes([best.node_id])
            assert same.get_content() == asked

    check(course.wrapped(), old_model)
    course.backfill(0.5)
    check(course.wrapped(), old_model)
    encoded = marked(tmp_path, Kind.ENCODED)
    store = llama_index.QdrantVectorStore(name, client=course.wrapped("single"))
    texts = course.reencoded("caption")
    for asked in texts[::10]:
        result = store.query(query(asked))
        assert asked in [node.get_content() for node in result.nodes]
        assert len(set(result.ids)) == 5
    only = MetadataFilters(filters=[MetadataFilter(key="group", value="b")])
    one = next(each for each in texts if group(captions, each) == "b")
    filtered = store.query(query(one, filters=only)).nodes
    assert filtered[0].get_content() == one
    assert {node.metadata["group"] for node in filtered} == {"b"}
    [added] = nodes([fresh], new_model)
    store.add([added])
    assert fresh in [node.get_content() for node in store.query(query(fresh)).nodes]
    course.has_both(COUNT + 1, "caption", fresh, encoded)
    store.delete_nodes([added.node_id])
    course.has_both(COUNT, "caption", "")

    async def use(aclient: AsyncQdrantClient) -> list[str]:
        store = llama_index.QdrantVectorStore(name, aclient=aclient)
        await store.async_add([added])
        found = (await store.aquery(query(fresh))).nodes
        course.has_both(COUNT + 1, "caption", fresh, encoded)
        await store.adelete_nodes([added.node_id])
        return [node.get_content() for node in found]

    assert fresh in course.on_asyncio(use)
    course.has_both(COUNT, "caption", "")
    course.end(check)


def test_haystack(client, qdrant_url, captions, tmp_path):
    import haystack_integrations.document_stores.qdrant as haystack
    from haystack import Document
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever

    def documents(texts: list[str], encode) -> list[Document]:
        return [
            Document(
                content=text,
                meta={"group": group(captions, text)},
                embedding=vector.tolist(),
            )
            for text, vector in zip(texts, encode(texts), strict=True)
        ]

    def store(size: int, on: QdrantClient):
        made = haystack.QdrantDocumentStore(
            url=qdrant_url, index=name, embedding_dim=size, progress_bar=False
        )
        made._client = on  # it takes no client
        made._set_up_collection(name, size, False, "cosine", False, False)
        return made

    name, (*known, fresh) = fresh_name(), captions
    store(128, client).write_documents(documents(known, old_model))
    course = Course.start(client, qdrant_url, name, tmp_path, vector="", text="content")

    def check(on: QdrantClient, encode: Callable[..., np.ndarray]) -> None:
        size = encode(known[:1]).shape[1]
        made = store(size, on)
        assert made.count_documents() == COUNT
        retriever = QdrantEmbeddingRetriever(made, top_k=1, return_embedding=True)
        for asked in known[::20]:
            embedding = encode([asked])[0].tolist()
            [best] = retriever.run(query_embedding=embedding)["documents"]
            assert (best.content, len(best.embedding)) == (asked, size)
            assert set(best.meta) == {"group"}

    check(course.wrapped(), old_model)
    course.backfill(0.5)
    check(course.wrapped(), old_model)
    encoded = marked(tmp_path, Kind.ENCODED)
    migrated = store(256, course.wrapped("single"))
    retriever = QdrantEmbeddingRetriever(document_store=migrated, top_k=5)

    def found(asked: str, **more: Any) -> list[Document]:
        return retriever.run(query_embedding=new_model([asked])[0].tolist(), **more)["documents"]

    texts = course.reencoded("content")
    for asked in texts[::10]:
        assert asked in [each.content for each in found(asked)]
    one = next(each for each in texts if group(captions, each) == "b")
    filtered = found(one, filters={"field": "meta.group", "operator": "==", "value": "b"})
    assert filtered[0].content == one
    assert {each.meta["group"] for each in filtered} == {"b"}
    [added] = documents([fresh], new_model)
    migrated.write_documents([added])
    assert fresh in [each.content for each in found(fresh)]
    assert migrated.count_documents() == COUNT + 1
    course.has_both(COUNT + 1, "content", fresh, encoded)
    migrated.delete_documents([added.id])
    course.has_both(COUNT, "content", "")
    course.end(check)
