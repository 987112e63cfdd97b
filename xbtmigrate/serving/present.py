"""Present a collection as its application knows it, in every phase.

The migrated vector and the collection keep their names, and the tool's key is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.own_collection import JOURNAL
from xbtmigrate.serving.dual_write import Model
from xbtmigrate.serving.engine import remove_mark
from xbtmigrate.serving.state import ServingState
from xbtmigrate.types import Layout


@dataclass(frozen=True, slots=True)
class ApplicationView:
    """Translates data read from a collection in one state of the migration.

    Attributes:
        state: Where the migration stands.
        model: The model that the application embeds with.
    """

    state: ServingState
    model: Model

    @property
    def collection(self) -> str:
        """The collection in use, for everything that is not a search."""
        state = self.state
        return state.new.collection if state.switched else state.old.collection

    def name_arguments(self, method: str, args: Any, named: Mapping[str, Any]) -> dict[str, Any]:
        """Name the arguments of a client's method, with the present names of vectors."""
        names = list(signature(getattr(QdrantClient, method)).parameters)[2:]
        given = {**dict(zip(names, args, strict=False)), **named}
        if "with_vectors" in given:
            given["with_vectors"] = self.selector(given["with_vectors"])
        if "using" in given:
            given["using"] = self.using(given["using"])
        if "vectors" in given:
            given["vectors"] = self.stored_names(given["vectors"])
        return given

    def using(self, name: str | None) -> str | None:
        """Return the present name of the vector that is searched."""
        old, new = self.state.old.name, self.state.new.name
        return (new or None) if self.state.switched and (name or "") == old else name

    def stored_names(self, names: Any) -> list[str]:
        """Return the present names of these vectors in the collection."""
        state = self.state
        old, new = state.old.name, state.new.name
        # In place, the application's vector is stored as two. Deleting only the old one would
        # leave a new one that still answers after the cutover.
        in_shadow = [new if state.switched else old]
        own = in_shadow if state.layout is Layout.SHADOW else [old, new]
        return [each for name in names for each in (own if name == old else [name])]

    def selector(self, asked: Any) -> Any:
        """Extend a selector by the vector that is shown under the old name."""
        state = self.state
        old, new = state.old.name, state.new.name
        if asked is None or not isinstance(asked, list) or old not in asked or old == new:
            return False if asked is None else asked
        if state.layout is Layout.SHADOW:
            return [new if state.switched and each == old else each for each in asked]
        # The new vector is fetched beside the old one, not instead of it: `_own` projects the old
        # one of a point that has no new one yet.
        return [*asked, new] if self.model == "new" and new not in asked else asked

    def show_point(self, point: Any) -> Any:
        """Present a point with the vector of the application's model, and without its mark."""
        point = remove_mark(point)
        if not point.vector:
            return point
        old, new = self.state.old.name, self.state.new.name
        vectors = point.vector if isinstance(point.vector, Mapping) else {"": point.vector}
        shown = {name: each for name, each in vectors.items() if name not in (old, new)}
        own = self._own(vectors)
        if own is not None:
            shown[old] = own
        whole = shown if isinstance(point.vector, Mapping) else shown.get("")
        return point.model_copy(update={"vector": whole})

    def show_result(self, found: Any) -> Any:
        """Present the result of a method of the client."""
        if isinstance(found, models.CollectionInfo):
            return self.describe(found)
        if isinstance(found, models.GroupsResult):
            groups = [
                each.model_copy(update={"hits": [self.show_point(hit) for hit in each.hits]})
                for each in found.groups
            ]
            return found.model_copy(update={"groups": groups})
        if isinstance(found, tuple):  # a page and where the next one starts
            return (self.show_result(found[0]), *found[1:])
        if isinstance(found, list):
            return [self.show_point(each) if hasattr(each, "payload") else each for each in found]
        return found

    def describe(self, info: models.CollectionInfo) -> models.CollectionInfo:
        """Describe the collection with the application's model as its one migrated vector."""
        old, new = self.state.old, self.state.new
        info = info.model_copy(deep=True)
        params = info.config.params
        # Vector stores compare size and distance with their embedder's when they are constructed:
        # both must be those of the model to embed with now.
        space = new if self.model == "new" else old
        if isinstance(params.vectors, Mapping):
            held, stored = dict(params.vectors), (new.name, old.name)
            own = held.get(space.name) or next(held[name] for name in stored if name in held)
            own.size, own.distance = space.size, models.Distance(space.distance.value)
            others = {name: each for name, each in held.items() if name not in stored}
            params.vectors = {old.name: own, **others}
        elif params.vectors is not None:
            own = params.vectors
            own.size, own.distance = space.size, models.Distance(space.distance.value)
        # Indexes on the mark are the tool's, and hidden with it.
        schema = info.payload_schema
        info.payload_schema = {
            key: each for key, each in schema.items() if key.partition(".")[0] != PROVENANCE
        }
        return info

    def list_collections(self, found: models.CollectionsResponse) -> models.CollectionsResponse:
        """List the collection by its own name, without what the tool has added."""
        old, new = self.state.old.collection, self.state.new.collection
        # After a cutover the shadow is the collection, and the source may still exist: listed once.
        names = [old if each.name == new else each.name for each in found.collections]
        shown = [name for name in dict.fromkeys(names) if name != JOURNAL]
        return models.CollectionsResponse(
            collections=[models.CollectionDescription(name=name) for name in shown]
        )

    def _own(self, vectors: Mapping[str, Any]) -> Any:
        """Return the vector of the application's model, projected if there is no other yet."""
        state = self.state
        old, new, forward = state.old.name, state.new.name, state.forward
        if self.model == "old" and not state.switched:
            return vectors.get(old)
        if new in vectors and (new != old or state.switched):
            return vectors[new]
        known = vectors.get(old)
        # A projector with side vectors cannot be applied to this vector alone.
        if known is None or state.switched or forward is None or forward.d_side:
            return known
        if len(known) != forward.d_in:
            return known
        return forward.apply(np.asarray([known], np.float32))[0].tolist()
