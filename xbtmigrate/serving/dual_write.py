"""Complete a point that an application writes: both vectors, and the mark of the new one.

A missing vector is embedded if there is an encoder, else projected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from qdrant_client import models

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.projectors import Projector
from xbtmigrate.qdrant.gallery.provenance import (
    PROVENANCE,
    build_provenance,
    build_shared_provenance,
    pack_sketch,
    sketch,
    whole_hash,
    whole_sketches,
)
from xbtmigrate.qdrant.wire.points import EmbeddedFields, stored_id
from xbtmigrate.serving.embed import AnyEncoder, embed
from xbtmigrate.serving.state import WITHOUT_NEW, WITHOUT_OLD, ServingState
from xbtmigrate.types import Kind, Layout, Modality, Vectors, is_unicode, usable

Model: TypeAlias = Literal["new", "old"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two vectors of a written point.

    Attributes:
        others: Its other vectors, by name.
        old: Vector of the old model, None where there is none yet.
        new: Vector of the new model or projected.
        kind: How the new one was made.
    """

    others: Mapping[str, Any]
    old: Any = None
    new: Any = None
    kind: Kind = Kind.ENCODED


@dataclass(frozen=True, slots=True)
class PointCompleter:
    """Completes points in one state of the migration.

    Attributes:
        state: Where the migration stands.
        encoders: The old and the new encoder, None where there is none.
        model: The model whose vectors the application writes under the old name.
    """

    state: ServingState
    encoders: tuple[AnyEncoder | None, AnyEncoder | None]
    model: Model

    @property
    def fields(self) -> EmbeddedFields:
        """The payload fields that are embedded."""
        binding = self.state.plan.binding
        return EmbeddedFields(
            binding.get("payload.text"),
            binding.get("payload.image"),
            Modality(binding["old_model.stored"]),
        )

    @property
    def side(self) -> str:
        """Name of the vector that a forward projector may take beside the old one."""
        return self.state.plan.binding.get("qdrant.side_vector", "")

    @property
    def writes_new(self) -> bool:
        """Whether new vectors can be stored."""
        return self.state.phase not in WITHOUT_NEW

    @property
    def writes_old(self) -> bool:
        """Whether old vectors can still be stored."""
        return self.state.phase not in WITHOUT_OLD

    def complete_pairs(
        self, vectors: Sequence[Any], payloads: Sequence[Mapping[str, Any] | None]
    ) -> list[Pair]:
        """Return both vectors of each point; embed or project a missing one.

        Args:
            vectors: Vectors of the points, as Qdrant takes them.
            payloads: Their payloads.
        """
        pairs = [self.split_vectors(each) for each in vectors]
        found = [self.fields.content_of(each or {}) for each in payloads]
        # JSON can escape half a surrogate pair, which UTF-8 cannot hold: it counts as no content.
        contents = [each if each and is_unicode(each) else None for each in found]
        texts = [self.fields.text_of(each or {}) for each in payloads]
        state = self.state
        if self.writes_new:
            wanting = [row for row, pair in enumerate(pairs) if pair.new is None]
            # The model itself is better than a map, so it comes first.
            self._embed_missing(pairs, contents, wanting, 1)
            left = [row for row in wanting if pairs[row].new is None]
            self._project_missing(pairs, left, state.forward, "old", texts)
        if self.writes_old:
            wanting = [row for row, pair in enumerate(pairs) if pair.old is None]
            self._embed_missing(pairs, contents, wanting, 0)
            left = [row for row in wanting if pairs[row].old is None]
            # Until the cutover, this application searches old vectors. A bridged one is only an
            # approximation, so its point would rank worse than without a migration.
            if state.is_transparent and any(pairs[row].new is not None for row in left):
                raise UnsupportedError(
                    f"'{state.old.collection}' is not cut over, and a point was written with only "
                    "a vector of the new model",
                    "write vectors of the old model, or give it as old_encoder",
                )
            self._project_missing(pairs, left, state.bridge, "new", texts)
        return pairs

    def split_vectors(self, vector: Any) -> Pair:
        """Separate the vectors of the old model, of the new model and all others."""
        state = self.state
        named = vector if isinstance(vector, Mapping) else {"": vector}
        own = {state.old.name, state.new.name}
        given = {name: value for name, value in named.items() if name in own}
        others = {name: value for name, value in named.items() if name not in own}
        if len(given) == 2:
            return Pair(others, given[state.old.name], given[state.new.name])
        # If both models may use this name, the length decides, or else the
        # model that the application declared.
        for name, value in given.items():
            if self.is_new(name, len(value)):
                return Pair(others, new=value)
            return Pair(others, old=value)
        return Pair(others)

    def is_new(self, name: str, size: int) -> bool:
        """Return whether a vector is from the new model, by its name or else by its length."""
        old, new = self.state.old, self.state.new
        # Only the new name decides: an application keeps using the old name after a cutover.
        if old.name != new.name and name == new.name:
            return True
        return size == new.size and (size != old.size or self.model == "new")

    def complete_points(
        self, points: Sequence[models.PointStruct]
    ) -> tuple[list[models.PointStruct], list[models.PointStruct]]:
        """Complete whole points.

        Returns:
            What the source collection gets, and what the shadow gets.
        """
        pairs = self.complete_pairs(
            [each.vector for each in points], [each.payload for each in points]
        )
        made = list(zip(points, pairs, strict=True))
        if self.state.layout is Layout.IN_PLACE:
            return [self._in_place(*each) for each in made], []
        # A point without a new vector is left to the backfill, which copies it to the shadow.
        source = [self._side(point, pair, old=True) for point, pair in made]
        shadow = [self.copy_to_shadow(point, pair) for point, pair in made if pair.new is not None]
        return source if self.writes_old else [], shadow if self.writes_new else []

    def vectors_in_place(self, pair: Pair) -> dict[str, Any]:
        """Join all vectors of a point, if one collection holds both spaces."""
        state, vectors = self.state, dict(pair.others)
        if pair.old is not None and self.writes_old:
            vectors[state.old.name] = pair.old
        if pair.new is not None and self.writes_new:
            vectors[state.new.name] = pair.new
        return vectors

    def mark(self, point_id: Any, payload: Mapping[str, Any], pair: Pair) -> dict[str, Any] | None:
        """Make the mark of a point's new vector; None leaves the point due for the next sweep."""
        state, content = self.state, self.fields.hash_of(payload)
        if not self.marks or pair.new is None or not content:
            return None
        plan = state.plan.digest
        if state.layout is Layout.SHADOW:
            # Sparse vectors have no sketch here: the next sweep marks the point.
            if not all(isinstance(each, list) for each in pair.others.values()):
                return None
            bound = dict(pair.others)
            if pair.old is not None:
                bound[state.old.name] = pair.old
            entry = pack_sketch(
                whole_sketches([{name: _row(each)[0] for name, each in bound.items()}])
            )
            made = build_provenance(plan, pair.kind, content)
            return {**made, "payload": whole_hash(payload), "vectors": entry[0]}
        made_of = sketch(state.new.name, _row(pair.new))
        # A projected vector is valid only for the vectors that it was made from. The mark names
        # them too, so the point is due again when one of them changes.
        if pair.kind is Kind.PROJECTED:
            made_of = made_of + sketch(state.old.name, _row(pair.old))
            forward = state.forward
            if forward is not None and forward.d_side and forward.text_side is None:
                made_of = made_of + sketch(self.side, _row(pair.others[self.side]))
        # An application may write a UUID in any form, and Qdrant returns it in one.
        known = str(stored_id(str(point_id)))
        return dict(build_shared_provenance(plan, pair.kind, {known: content}, made_of))

    @property
    def marks(self) -> bool:
        """Whether points get marks: from the backfill until the old vectors are removed."""
        return self.writes_new and self.writes_old

    def copy_to_shadow(self, point: models.PointStruct, pair: Pair) -> models.PointStruct:
        """Make the copy of a point for the shadow."""
        return self._marked(self._side(point, pair, old=False), pair)

    def _in_place(self, point: models.PointStruct, pair: Pair) -> models.PointStruct:
        vectors = self.vectors_in_place(pair)
        return self._marked(point.model_copy(update={"vector": vectors}), pair)

    def _marked(self, point: models.PointStruct, pair: Pair) -> models.PointStruct:
        """Replace the mark, which the application may have read and written back."""
        payload = {key: each for key, each in (point.payload or {}).items() if key != PROVENANCE}
        mark = self.mark(point.id, payload, pair)
        if mark is not None:
            payload[PROVENANCE] = mark
        return point.model_copy(update={"payload": payload})

    def _side(self, point: models.PointStruct, pair: Pair, *, old: bool) -> models.PointStruct:
        space, value = (self.state.old, pair.old) if old else (self.state.new, pair.new)
        vectors = dict(pair.others) if value is None else {**pair.others, space.name: value}
        return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)

    def _embed_missing(
        self, pairs: list[Pair], contents: Sequence[str | None], rows: Sequence[int], side: int
    ) -> None:
        encoder = self.encoders[side]
        rows = [row for row in rows if contents[row] is not None]
        if encoder is None or not rows:
            return
        items = [str(contents[row]) for row in rows]
        made = embed(encoder, items, self.fields.stored, gallery=True)
        _put(pairs, rows, ("old", "new")[side], made)

    def _project_missing(
        self,
        pairs: list[Pair],
        rows: Sequence[int],
        projector: Projector | None,
        given: Literal["old", "new"],
        texts: Sequence[str | None],
    ) -> None:
        wanted = "new" if given == "old" else "old"
        rows = [row for row in rows if getattr(pairs[row], given) is not None]
        text_side = projector.text_side if projector is not None else None
        if projector is not None and projector.d_side and text_side is None:
            # Without its side vector a point cannot be projected; it is left to the backfill.
            rows = [row for row in rows if self.side in pairs[row].others]
        if projector is None or not rows:
            return
        known = np.array([getattr(pairs[row], given) for row in rows], np.float32)
        side = None
        if text_side is not None:
            side = text_side.embed([texts[row] for row in rows])
        elif projector.d_side:
            side = np.array([pairs[row].others[self.side] for row in rows], np.float32)
        _put(pairs, rows, wanted, projector.apply(known, side))
        if wanted == "new":
            for row in rows:
                pairs[row] = replace(pairs[row], kind=Kind.PROJECTED)


def _row(vector: Any) -> Vectors:
    return np.asarray(vector, np.float32).reshape(1, -1)


def _put(pairs: list[Pair], rows: Sequence[int], name: str, vectors: Vectors) -> None:
    """Set the vectors that were made, except those that cannot be compared (zero, not finite)."""
    for row, vector, fit in zip(rows, vectors.tolist(), usable(vectors), strict=True):
        if fit:
            pairs[row] = replace(pairs[row], **{name: vector})
