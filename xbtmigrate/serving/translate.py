"""Translate an application's requests for a collection that is being migrated.

Searches go to the space that answers now, also within larger requests; everything else goes to the
collection in use. Writes of points are in `translate_writes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import BaseModel
from qdrant_client import models

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.serving.arguments import make_request
from xbtmigrate.serving.client_fusion import Points
from xbtmigrate.serving.dual_write import Model, PointCompleter
from xbtmigrate.serving.engine import Core, Question
from xbtmigrate.serving.present import ApplicationView
from xbtmigrate.serving.round_trips import Procedure, Search, run_together
from xbtmigrate.serving.server_fusion import SearchOptions, prefetch_both
from xbtmigrate.serving.state import ServingState
from xbtmigrate.types import Layout

Node = TypeVar("Node", models.QueryRequest, models.Prefetch)

_HOLDING_VECTORS = ("nearest", "target", "positive", "negative", "recommend", "discover", "context")
_GROUPED = ("group_size", "with_lookup")


@dataclass(frozen=True, slots=True)
class RequestTranslator:
    """Translates the requests for one collection.

    Attributes:
        core: The searcher's.
        collection: Name that the application uses.
        declared: The model that the application embeds with in every phase; None for the old one
            until the cutover and the new one from then on.
    """

    core: Core
    collection: str
    declared: Model | None

    def concerns(self, name: str) -> bool:
        """Return whether a request for this collection is to be translated."""
        return name == self.collection or name in self.core.state.names

    @property
    def state(self) -> ServingState:
        """The state of the migration."""
        return self.core.state

    @property
    def model(self) -> Model:
        """The model that the application embeds with now."""
        # Until the cutover, an application that does not know of the migration embeds with the old
        # model; one that chose another serving is expected to use the new one.
        return self.declared or ("old" if self.state.is_transparent else "new")

    @property
    def view(self) -> ApplicationView:
        """The view of the collection as the application knows it."""
        return ApplicationView(self.state, self.model)

    @property
    def home(self) -> str:
        """The collection in use, for everything that is not a search."""
        return self.view.collection

    def query(
        self, requests: Sequence[tuple[models.QueryRequest, Mapping[str, Any]]]
    ) -> Procedure[list[Points]]:
        """Answer searches as a single space would have answered the application.

        Args:
            requests: Each with its options, such as a timeout.
        """
        return self.core.with_retry(
            lambda: run_together([self._query(request, options) for request, options in requests])
        )

    def _query(self, request: models.QueryRequest, options: Mapping[str, Any]) -> Procedure[Points]:
        vector = self._own_vector(request)
        if vector is None:
            # Not a plain search of the migrated vector: the server answers all of it, with the
            # searches inside it replaced.
            made = self.rewrite(request)
            made = made.model_copy(update={"with_vector": self.view.selector(made.with_vector)})
            [found] = yield [Search(self.home, made, tuple(options.items()))]
            return [self.view.show_point(point) for point in found]
        search_options = SearchOptions(
            limit=10 if request.limit is None else request.limit,
            offset=request.offset or 0,
            filter=request.filter,
            with_payload=request.with_payload,
            with_vectors=self.view.selector(request.with_vector),
            score_threshold=request.score_threshold,
            params=request.params,
            shard_key=request.shard_key,
            request=tuple(options.items()),
        )
        [answer] = yield from self.core.answer([self._question(request, vector, search_options)])
        return [self.view.show_point(point) for point in answer.points]

    def rewrite(self, node: Node) -> Node:
        """Replace each search of the migrated vector within a larger request."""
        vector = self._own_vector(node)
        if vector is None:
            node = self._move_vectors(node)
            children = node.prefetch if isinstance(node.prefetch, list) else [node.prefetch]
            if node.prefetch is None:
                return node
            below = [self.rewrite(each) for each in children if each is not None]
            return node.model_copy(update={"prefetch": below})
        search_options = SearchOptions(
            limit=node.limit or 10, filter=node.filter, params=node.params
        )
        prepared = self.core.prepare(self._question(node, vector, search_options), within=self.home)
        # The formula replaces the search; filter and parameters move into its prefetches.
        if prepared.old is not None and prepared.new is not None:
            return node.model_copy(
                update={
                    "prefetch": prefetch_both(prepared),
                    "query": prepared.serving.formula,
                    "using": None,
                    "filter": None,
                    "params": None,
                }
            )
        space = prepared.state.new if prepared.old is None else prepared.state.old
        nearest = models.NearestQuery(nearest=prepared.old or prepared.new or [])
        return node.model_copy(update={"query": nearest, "using": space.name or None})

    def _move_vectors(self, node: Node) -> Node:
        """Translate vectors of other queries (diversity, examples) to the space that answers.

        Raises:
            UnsupportedError: There is no such space for a vector of the new model.
        """
        state, using = self.state, node.using or ""
        if node.query is None or using not in (state.old.name, state.new.name):
            return node
        # Examples and diversity compare stored vectors with each other, which no formula can
        # express, so one space has to answer them.
        if self.model == "old" and not state.switched:
            return node
        # In place, new vectors can answer once every point has one.
        complete = state.switched or (state.covered and state.layout is Layout.IN_PLACE)

        def move(vector: list[float]) -> list[float]:
            nonlocal using
            if not self.completer.is_new(node.using or "", len(vector)):
                return vector
            if complete:
                using = state.new.name
                return vector
            if state.bridge is None:
                raise UnsupportedError(
                    "with a vector of the new model only a plain search is possible now: old "
                    "vectors answer all others, and there is no bridge",
                    "train one with `xbtmigrate train-projector`, or give ids of points",
                )
            [bridged] = state.bridge.apply(np.asarray([vector], np.float32)).tolist()
            return cast("list[float]", bridged)

        using = self.view.using(using) or ""
        query = replace_vectors(node.query, move)
        return node.model_copy(update={"query": query, "using": using or None})

    def groups(self, group_by: str, given: Mapping[str, Any]) -> Procedure[models.GroupsResult]:
        """Group the answer of a search; see `query_points_groups`.

        Args:
            group_by: Payload key.
            given: The other arguments of `query_points_groups`, by name.
        """
        return self.core.with_retry(lambda: self._groups(group_by, given))

    def _groups(self, group_by: str, given: Mapping[str, Any]) -> Procedure[models.GroupsResult]:
        # A query request has no grouping arguments, so these bypass the rewriting.
        rest = {name: given[name] for name in _GROUPED if name in given}
        asked = {name: value for name, value in given.items() if name not in _GROUPED}
        request, options = make_request((), asked)
        made = self.rewrite(request)
        query = {name: getattr(made, name) for name in ("query", "using", "prefetch")}
        query |= {"query_filter": made.filter, "search_params": made.params}
        query["with_vectors"] = self.view.selector(made.with_vector)
        merged = {**asked, **rest, **options, **query}
        [found] = yield [lambda client: client.query_points_groups(self.home, group_by, **merged)]
        groups: models.GroupsResult = self.view.show_result(found)
        return groups

    def forward(self, method: str, args: Sequence[Any], named: Mapping[str, Any]) -> Procedure[Any]:
        """Call a method of the client on the collection in use, and present its result."""

        def call() -> Procedure[Any]:
            view = self.view
            given = view.name_arguments(method, args, named)
            [found] = yield [lambda client: getattr(client, method)(view.collection, **given)]
            return view.show_result(found)

        return self.core.with_retry(call)

    def list_collections(self, named: Mapping[str, Any]) -> Procedure[models.CollectionsResponse]:
        """List all collections, this one by the name that the application knows."""

        def call() -> Procedure[models.CollectionsResponse]:
            [found] = yield [lambda client: client.get_collections(**named)]
            return self.view.list_collections(found)

        return self.core.with_retry(call)

    @property
    def completer(self) -> PointCompleter:
        """Completes the points that the application writes now."""
        return PointCompleter(self.state, self.core.encoders, self.model)

    def _own_vector(self, node: models.QueryRequest | models.Prefetch) -> list[float] | None:
        """Return the vector of a plain search of the migrated vector; None for other searches."""
        state = self.state
        own = {state.old.name, *([] if state.is_transparent else [state.new.name])}
        # A prefetch narrows the candidates and `lookup_from` reads another collection: neither is
        # a search that two spaces could answer.
        if (node.using or "") not in own or node.prefetch or node.lookup_from:
            return None
        return plain_vector(node.query)

    def _question(
        self,
        node: models.QueryRequest | models.Prefetch,
        vector: list[float],
        search_options: SearchOptions,
    ) -> Question:
        if self.completer.is_new(node.using or "", len(vector)):
            return Question(vector=vector, options=search_options)
        return Question(old_vector=vector, options=search_options)


def plain_vector(query: Any) -> list[float] | None:
    """Return the vector of a plain nearest-neighbour query, None for any other query."""
    if isinstance(query, models.NearestQuery):
        return plain_vector(query.nearest) if query.mmr is None else None
    if isinstance(query, np.ndarray):
        return query.tolist() if query.ndim == 1 else None
    if isinstance(query, list | tuple) and query and isinstance(query[0], float | int):
        return [float(each) for each in query]
    return None


def replace_vectors(query: Any, move: Callable[[list[float]], list[float]]) -> Any:
    """Replace every dense vector in a query of any kind; ids and the rest stay."""
    if isinstance(query, models.RecommendInput):
        sides = {name: getattr(query, name) or [] for name in ("positive", "negative")}
        return query.model_copy(
            update={
                name: [replace_vectors(each, move) for each in side] for name, side in sides.items()
            }
        )
    if isinstance(query, BaseModel):
        parts = {name: getattr(query, name, None) for name in _HOLDING_VECTORS}
        return query.model_copy(
            update={
                name: replace_vectors(part, move)
                for name, part in parts.items()
                if part is not None
            }
        )
    vector = plain_vector(query)
    if vector is None and isinstance(query, list):
        return [replace_vectors(each, move) for each in query]
    return query if vector is None else move(vector)
