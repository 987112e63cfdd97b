"""Wrap a Qdrant client so that an application keeps its code through a migration.

`wrap` and `wrap_async` return clients that translate the requests to one collection.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, Unpack, cast

from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.models import QueryResponse

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.serving.arguments import (
    BATCH,
    DELETE,
    GROUPS,
    QUERIES,
    UPDATE,
    UPSERT,
    make_request,
    name_options,
    name_upload_options,
    points_from_columns,
    split_batches,
)
from xbtmigrate.serving.dual_write import Model
from xbtmigrate.serving.open_searcher import OpenOptions, open_core
from xbtmigrate.serving.round_trips import is_embedded, run, run_async
from xbtmigrate.serving.translate import RequestTranslator
from xbtmigrate.serving.translate_writes import WriteTranslator


class MigratingClient(QdrantClient):
    """A `QdrantClient` that translates requests to one collection; made by `wrap`."""

    _bare: QdrantClient
    _requests: RequestTranslator
    _writes: WriteTranslator

    def __del__(self) -> None:
        """Do nothing: the connections belong to the wrapped client, which closes them."""

    def query_points(self, collection_name: str, *args: Any, **kwargs: Any) -> QueryResponse:
        """Answer with the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return super().query_points(collection_name, *args, **kwargs)
        [points] = run(self._bare, self._requests.query([make_request(args, kwargs)]))
        return QueryResponse(points=points)

    def query_batch_points(
        self, collection_name: str, requests: Any, *args: Any, **kwargs: Any
    ) -> list[QueryResponse]:
        """Answer several requests with the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return super().query_batch_points(collection_name, requests, *args, **kwargs)
        options = name_options(QUERIES, args, kwargs)
        found = run(self._bare, self._requests.query([(each, options) for each in requests]))
        return [QueryResponse(points=points) for points in found]

    def query_points_groups(
        self, collection_name: str, group_by: str, *args: Any, **kwargs: Any
    ) -> models.GroupsResult:
        """Group the answer of the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return super().query_points_groups(collection_name, group_by, *args, **kwargs)
        given = name_options(GROUPS, args, kwargs)
        return run(self._bare, self._requests.groups(group_by, given))

    def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
        """Write points with both vectors and provenance."""
        if not self._requests.concerns(collection_name):
            return super().upsert(collection_name, points, *args, **kwargs)
        options = name_options(UPSERT, args, kwargs)
        return run(self._bare, self._writes.upsert(points, options))

    def upload_points(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> None:
        """Write points with both vectors and provenance, in batches."""
        if not self._requests.concerns(collection_name):
            return super().upload_points(collection_name, points, *args, **kwargs)
        # In batches and in turn: parallel workers of the client would bypass the translation.
        size, options = name_upload_options(args, kwargs)
        for part in split_batches(points, size):
            run(self._bare, self._writes.upsert(part, options))
        return None

    def upload_collection(
        self,
        collection_name: str,
        vectors: Any,
        payload: Any = None,
        ids: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Write points with both vectors and provenance, in batches."""
        if not self._requests.concerns(collection_name):
            return super().upload_collection(
                collection_name, vectors, payload, ids, *args, **kwargs
            )
        return self.upload_points(
            collection_name, points_from_columns(vectors, payload, ids), *args, **kwargs
        )

    def update_vectors(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
        """Write vectors of existing points in both spaces."""
        if not self._requests.concerns(collection_name):
            return super().update_vectors(collection_name, points, *args, **kwargs)
        options = name_options(UPDATE, args, kwargs)
        return run(self._bare, self._writes.update_vectors(points, options))

    def delete(self, collection_name: str, points_selector: Any, *args: Any, **kwargs: Any) -> Any:
        """Delete points, also in the shadow."""
        if not self._requests.concerns(collection_name):
            return super().delete(collection_name, points_selector, *args, **kwargs)
        options = name_options(DELETE, args, kwargs)
        return run(self._bare, self._writes.delete(points_selector, options))

    def batch_update_points(
        self, collection_name: str, update_operations: Any, *args: Any, **kwargs: Any
    ) -> list[models.UpdateResult]:
        """Run update operations in their order, each translated by its kind."""
        if not self._requests.concerns(collection_name):
            return super().batch_update_points(collection_name, update_operations, *args, **kwargs)
        options = name_options(BATCH, args, kwargs)
        return run(self._bare, self._writes.batch_update(update_operations, options))

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        """List the collections, the migrated one under its original name."""
        return run(self._bare, self._requests.list_collections(kwargs))

    @property
    def embeds_with(self) -> Model:
        """The model to embed with now: by default "old" until the cutover, then "new"."""
        return self._requests.model


class AsyncMigratingClient(AsyncQdrantClient):
    """An `AsyncQdrantClient` that translates requests to one collection; made by `wrap_async`."""

    _bare: AsyncQdrantClient
    _requests: RequestTranslator
    _writes: WriteTranslator

    async def query_points(self, collection_name: str, *args: Any, **kwargs: Any) -> QueryResponse:
        """Answer with the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return await super().query_points(collection_name, *args, **kwargs)
        [points] = await run_async(self._bare, self._requests.query([make_request(args, kwargs)]))
        return QueryResponse(points=points)

    async def query_batch_points(
        self, collection_name: str, requests: Any, *args: Any, **kwargs: Any
    ) -> list[QueryResponse]:
        """Answer several requests with the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return await super().query_batch_points(collection_name, requests, *args, **kwargs)
        options = name_options(QUERIES, args, kwargs)
        requested = [(each, options) for each in requests]
        found = await run_async(self._bare, self._requests.query(requested))
        return [QueryResponse(points=points) for points in found]

    async def query_points_groups(
        self, collection_name: str, group_by: str, *args: Any, **kwargs: Any
    ) -> models.GroupsResult:
        """Group the answer of the serving of the present phase."""
        if not self._requests.concerns(collection_name):
            return await super().query_points_groups(collection_name, group_by, *args, **kwargs)
        given = name_options(GROUPS, args, kwargs)
        return await run_async(self._bare, self._requests.groups(group_by, given))

    async def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
        """Write points with both vectors and provenance."""
        if not self._requests.concerns(collection_name):
            return await super().upsert(collection_name, points, *args, **kwargs)
        options = name_options(UPSERT, args, kwargs)
        return await run_async(self._bare, self._writes.upsert(points, options))

    def upload_points(self, collection_name: str, *args: Any, **kwargs: Any) -> None:
        """Upload to other collections; raises for this one, whose writes must be awaited."""
        self._refuse("upload_points", collection_name)
        super().upload_points(collection_name, *args, **kwargs)

    def upload_collection(self, collection_name: str, *args: Any, **kwargs: Any) -> None:
        """Upload to other collections; see `upload_points`."""
        self._refuse("upload_collection", collection_name)
        super().upload_collection(collection_name, *args, **kwargs)

    def _refuse(self, method: str, collection: str) -> None:
        if self._requests.concerns(collection):
            raise UnsupportedError(
                f"`{method}` of the asyncio client cannot write both vectors of '{collection}'",
                "await `upsert` with batches of points, or use the client of `wrap`",
            )

    async def update_vectors(
        self, collection_name: str, points: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Write vectors of existing points in both spaces."""
        if not self._requests.concerns(collection_name):
            return await super().update_vectors(collection_name, points, *args, **kwargs)
        options = name_options(UPDATE, args, kwargs)
        return await run_async(self._bare, self._writes.update_vectors(points, options))

    async def delete(
        self, collection_name: str, points_selector: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Delete points, also in the shadow."""
        if not self._requests.concerns(collection_name):
            return await super().delete(collection_name, points_selector, *args, **kwargs)
        options = name_options(DELETE, args, kwargs)
        return await run_async(self._bare, self._writes.delete(points_selector, options))

    async def batch_update_points(
        self, collection_name: str, update_operations: Any, *args: Any, **kwargs: Any
    ) -> list[models.UpdateResult]:
        """Run update operations in their order, each translated by its kind."""
        if not self._requests.concerns(collection_name):
            return await super().batch_update_points(
                collection_name, update_operations, *args, **kwargs
            )
        options = name_options(BATCH, args, kwargs)
        return await run_async(self._bare, self._writes.batch_update(update_operations, options))

    async def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        """List the collections, the migrated one under its original name."""
        return await run_async(self._bare, self._requests.list_collections(kwargs))

    @property
    def embeds_with(self) -> Model:
        """The model to embed with now: by default "old" until the cutover, then "new"."""
        return self._requests.model


def _forward(name: str) -> Callable[..., Any]:
    """Make a method that is forwarded to the collection in use."""

    @wraps(getattr(QdrantClient, name))
    def method(self: MigratingClient, collection_name: str, *args: Any, **kwargs: Any) -> Any:
        if not self._requests.concerns(collection_name):
            return getattr(self._bare, name)(collection_name, *args, **kwargs)
        return run(self._bare, self._requests.forward(name, args, kwargs))

    return method


def _forward_async(name: str) -> Callable[..., Any]:
    @wraps(getattr(AsyncQdrantClient, name))
    async def method(
        self: AsyncMigratingClient, collection_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        if not self._requests.concerns(collection_name):
            return await getattr(self._bare, name)(collection_name, *args, **kwargs)
        return await run_async(self._bare, self._requests.forward(name, args, kwargs))

    return method


for _name in (
    "retrieve",
    "scroll",
    "count",
    "facet",
    "search_matrix_pairs",
    "search_matrix_offsets",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "delete_vectors",
    "create_payload_index",
    "delete_payload_index",
    "collection_exists",
    "get_collection",
):
    setattr(MigratingClient, _name, _forward(_name))
    setattr(AsyncMigratingClient, _name, _forward_async(_name))


def wrap(
    client: QdrantClient,
    collection: str,
    *,
    model: Model | None = None,
    **opening: Unpack[OpenOptions],
) -> MigratingClient:
    """Return a client with which an application works as if nothing were migrated.

    Until the cutover, searches use the old vectors, and afterwards the new ones. Upserts,
    vector updates and deletes reach both vectors, with their provenance, and the collection shows
    one vector under the name it had before the migration. All other collections pass through.

    Args:
        client: The application's client. It stays usable; both share their connections.
        collection: Name or alias of the collection, as the application uses it.
        model: The model that the application embeds with in every phase: its vectors under the old
            name, or without a name, are taken for this model's where both models' have one length.
            None: the old one until the cutover, unless `serving` names another than keep.
        **opening: As for `MigrationSearcher.open`.

    Raises:
        XbtMigrateError: As `MigrationSearcher.open`.
    """
    # A copy with another class shares connections and settings, and still counts as the client
    # in every `isinstance` check of a framework.
    core = run(client, open_core(collection, embedded=is_embedded(client), **opening))
    wrapped = copy.copy(client)
    wrapped.__class__ = MigratingClient
    requests = RequestTranslator(core, collection, model)
    writes = WriteTranslator(requests)
    wrapped.__dict__ |= {"_bare": client, "_requests": requests, "_writes": writes}
    return cast("MigratingClient", wrapped)


async def wrap_async(
    client: AsyncQdrantClient,
    collection: str,
    *,
    model: Model | None = None,
    **opening: Unpack[OpenOptions],
) -> AsyncMigratingClient:
    """Wrap an asyncio client; see `wrap`."""
    steps = open_core(collection, embedded=is_embedded(client), **opening)
    core = await run_async(client, steps)
    wrapped = copy.copy(client)
    wrapped.__class__ = AsyncMigratingClient
    requests = RequestTranslator(core, collection, model)
    writes = WriteTranslator(requests)
    wrapped.__dict__ |= {"_bare": client, "_requests": requests, "_writes": writes}
    return cast("AsyncMigratingClient", wrapped)
