"""Answer queries over a migrating collection; only sending the requests is left to the searcher.

It chooses the serving, makes the query vectors and the requests, and re-reads the state of the
migration every few seconds. The procedures run on both the sync and the asyncio client.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from qdrant_client import models

from xbtmigrate.errors import UnsupportedError, XbtMigrateError
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.server_errors import EMBEDDED_ERRORS, SERVER_ERRORS
from xbtmigrate.scoring.mixture import KEEP
from xbtmigrate.scoring.slerp import slerp
from xbtmigrate.serving.client_fusion import Points, fuse_here
from xbtmigrate.serving.embed import AnyEncoder, check_vector, embed
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.serving.round_trips import Computation, Procedure, run_together
from xbtmigrate.serving.server_fusion import (
    PreparedQuery,
    SearchOptions,
    search_both_spaces,
    search_one_space,
)
from xbtmigrate.serving.state import ActiveServing, ServingState
from xbtmigrate.serving.thresholds import ANSWERS, Scale, sample_queries
from xbtmigrate.serving.traffic_log import DemandLog
from xbtmigrate.types import Channel, Modality, Vectors

T = TypeVar("T")

CLIENT_ERRORS = (*SERVER_ERRORS, *EMBEDDED_ERRORS)
"""Errors of the client library."""
INTERVAL = 5.0
"""Least seconds between two reads of the journal."""
# A read of 0.1 s is followed by the next after 5 s, one of 1 s after 50 s.
MAX_LOOK_SHARE = 0.02
"""Share of the time that reading the journal may take: slow reads are rarer."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query as the application gave it, before it is embedded.

    Attributes:
        text: A text to be embedded.
        image: An image reference to be embedded.
        vector: A vector of the new model.
        old_vector: A vector of the old model.
        options: What to return; its threshold is in the old model's scale.
    """

    text: str | None = None
    image: str | None = None
    vector: Any = None
    old_vector: Any = None
    options: SearchOptions = SearchOptions()  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class Answer:
    """Points found, best first; iterates over them.

    Attributes:
        points: Qdrant's own points.
        serving: The serving that answered. Scores of `keep` and `bridge` are those of the old
            space and those of `single` of the new one; `merge` and `slerp` mix both as they are;
            both calibrated ones are log-odds up to a constant of the query. Scores of different
            servings never compare, and calibrated ones compare only within one answer.
        note: Why it is not the serving that should be used, "" where it is.
    """

    points: list[models.ScoredPoint]
    serving: str
    note: str = ""

    def __iter__(self) -> Iterator[models.ScoredPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, place: int) -> models.ScoredPoint:
        return self.points[place]


class Core:
    """State and procedures of a searcher.

    Args:
        loader: Reads the state.
        state: The first one.
        encoders: The old and the new encoder, None where there is none.
        interval: Least seconds between two reads of the journal.
        demand: Where the points found are counted.
    """

    def __init__(
        self,
        loader: Loader,
        state: ServingState,
        encoders: tuple[AnyEncoder | None, AnyEncoder | None],
        interval: float,
        demand: DemandLog | None,
    ) -> None:
        self.state = state
        self.problem = ""
        self._noted = ""
        self.demand = demand
        self._loader = loader
        self.encoders = encoders
        self._old, self._new = encoders
        self._interval = interval
        self._look_at = time.monotonic() + interval
        self._looking = threading.Lock()

    def reload(self) -> Procedure[None]:
        """Re-read the state if it has changed; raise errors about which a query only warns."""
        self.state = yield from self._loader.reload(self.state)
        self.problem = ""

    def with_retry(self, procedure: Callable[[], Procedure[T]]) -> Procedure[T]:
        """Run a procedure in the present state, and again if that state was outdated.

        A procedure that writes may then repeat the writes before the failure.
        """
        # One caller reads the journal; the others continue with the present state.
        if time.monotonic() >= self._look_at and self._looking.acquire(blocking=False):
            yield from self._look()
        before = self.state
        try:
            return (yield from procedure())
        except (*CLIENT_ERRORS, UnsupportedError):
            # A cutover since the last read shows as an error: Qdrant's, about a vector that is
            # gone, or the state's, about the other model. In an unchanged state the error is real.
            self.state = yield from self._loader.reload(self.state)
            if self.state is before:
                raise
        return (yield from procedure())

    def search(self, questions: Sequence[Question]) -> Procedure[list[Answer]]:
        """Answer several questions in shared round trips, from embedding to points."""
        return self.with_retry(partial(self.answer, questions))

    def answer(self, questions: Sequence[Question]) -> Procedure[list[Answer]]:
        """Answer several questions in the known state."""
        for each in questions:
            if each.text is not None or each.image is not None:
                # Encoders take milliseconds to seconds, and must not block an event loop.
                [queries] = yield [Computation(lambda: list(map(self.prepare, questions)))]
                break
        else:
            queries = list(map(self.prepare, questions))
        for row, query in enumerate(queries):
            if query.options.score_threshold is not None and query.serving.mixture is not KEEP:
                queries[row] = yield from self._translate_threshold(query)
        found = yield from run_together(list(map(_find_points, queries)))
        answers = []
        for query, points in zip(queries, found, strict=True):
            shown = list(map(remove_mark, points))
            answers.append(Answer(shown, query.serving.mixture.name, query.serving.note))
            if self.demand is not None:
                self.demand.note(query.new or query.old, shown)
        return answers

    def prepare(self, question: Question, *, within: str | None = None) -> PreparedQuery:
        """Choose the serving and make the query vectors; embedding can take seconds.

        Args:
            question: The query.
            within: The collection of the larger request that it is a part of.

        Raises:
            UnsupportedError: Nothing can answer with the models at hand.
            EncoderError: A vector is not of the model's size.
        """
        # Read once: another thread may replace it before the query is ready.
        state = self.state
        to_embed = question.text is not None or question.image is not None
        old_model = question.old_vector is not None or (to_embed and self._old is not None)
        new_model = question.vector is not None or (to_embed and self._new is not None)
        serving = state.servings.get((old_model, new_model, within)) or state.choose(
            old_model=old_model, new_model=new_model, within=within
        )
        if serving.note and serving.note != self._noted:
            warnings.warn(serving.note, stacklevel=3)
        self._noted = serving.note
        old = new = None
        if serving.needs_old:
            given = question.old_vector
            made = _embed_question(self._old, question) if given is None else given
            old = check_vector(made, state.old.size, "old")
        if serving.needs_new:
            given = question.vector
            made = _embed_question(self._new, question) if given is None else given
            new = check_vector(made, state.new.size, "new")
        return place_query(state, serving, (old, new), question.options, text=question.text)

    def _look(self) -> Procedure[None]:
        """Re-read the state if it has changed; the caller holds the lock `_looking`.

        If reading fails, the state stays as it is, with a warning.
        """
        started = time.monotonic()
        try:
            yield from self.reload()
        except XbtMigrateError as error:
            self._warn(f"{error.message}; serving as before ({error.hint})")
        except CLIENT_ERRORS as error:
            self._warn(f"the journal cannot be read, serving as before: {error!r}")
        finally:
            now = time.monotonic()
            # Also after a failure, so that an unreachable journal does not delay every query.
            self._look_at = now + max(self._interval, (now - started) / MAX_LOOK_SHARE)
            self._looking.release()

    def _translate_threshold(self, query: PreparedQuery) -> Procedure[PreparedQuery]:
        """Translate a threshold from the old model's scale to that of the serving."""
        state, space = query.state, query.serving.space
        # Scales are of similarities. Qdrant takes a threshold on one space as a distance where
        # that is its metric; a fused score is always a similarity.
        least = state.old.sign * (query.options.score_threshold or 0.0)
        scale = yield from self._scale(query)
        if scale is None:
            self._warn("a score threshold is used as it is: no calibration translates it")
        else:
            least = scale.translate(least)
        if space is not None:
            least *= state.new.sign if space == "new" else state.old.sign
        return replace(query, options=replace(query.options, score_threshold=least))

    def _scale(self, query: PreparedQuery) -> Procedure[Scale | None]:
        """Compare the scores of both servings for known queries; None if there are none."""
        state, active = query.state, query.serving
        name, calibration = active.mixture.name, state.calibration
        if name in state.scales:
            return state.scales[name]
        if calibration is None or not state.translates:
            return None
        # The bank holds both models' vectors of known queries: nothing has to be embedded for this.
        options = SearchOptions(limit=ANSWERS, with_payload=False)
        bank = calibration.bank
        rows = list(zip(*map(sample_queries, (bank.old, bank.new, bank.bridged)), strict=True))
        scores = []
        for each in (state.activate(KEEP), active):
            known = [
                place_query(state, each, (old[None], new[None]), options, bridged=bridged[None])
                for old, new, bridged in rows
            ]
            found = yield from run_together(list(map(_find_points, known)))
            sign = {"old": state.old.sign, "new": state.new.sign}.get(each.space or "", 1.0)
            scores.append([sign * point.score for points in found for point in points])
        state.scales[name] = Scale.match(*scores)
        return state.scales[name]

    def _warn(self, problem: str) -> None:
        if problem != self.problem:
            warnings.warn(problem, stacklevel=4)
        self.problem = problem


def remove_mark(point: Any) -> Any:
    """Remove the tool's own key from the payload of a point that the client returned."""
    if point.payload and PROVENANCE in point.payload:
        # The point belongs to this answer, but its payload may be the embedded database's: copy it.
        # Copying the point too would be a third of a searcher's overhead.
        payload = dict(point.payload)
        del payload[PROVENANCE]
        point.payload = payload
    return point


def place_query(
    state: ServingState,
    serving: ActiveServing,
    vectors: tuple[Vectors | None, Vectors | None],
    options: SearchOptions,
    *,
    text: str | None = None,
    bridged: Vectors | None = None,
) -> PreparedQuery:
    """Prepare a query: make the vectors with which a serving searches each space.

    Args:
        state: Where the migration stands.
        serving: How to serve.
        vectors: The query in the old model, shape (1, d_old), and in the new one, (1, d_new); None
            where it is not needed.
        options: What to return.
        text: The query's text, whose words help the bridge; None where it is unknown.
        bridged: The new vector in the old space, where it was projected before, (1, d_old).
    """
    old, new = vectors
    space, asks = serving.space, serving.mixture.asks
    # The query for the old vectors: the old model's (keep, merge, calibrated), the bridged one
    # (bridge, calibrated_bridge, and single for waiting points), or a blend of both (slerp, arXiv
    # 2609.39836).
    met = old
    if space != "new" and asks is not Channel.OLD and new is not None:
        met = bridged
        if met is None and state.bridge is not None:
            met = state.bridge.apply_to_queries(new, [text])
        if asks is Channel.BLEND and old is not None and met is not None:
            met = slerp(old, met, state.calibration.blend if state.calibration else 0.0)
    # A threshold that is not translated applies to queries without centring.
    as_it_is = options.score_threshold is not None and not state.translates
    if serving.away is not None and new is not None and not as_it_is:
        new = new - (new @ serving.away)[:, None] * serving.away
    return PreparedQuery(
        state,
        serving,
        None if met is None or space == "new" else np.asarray(met)[0].tolist(),
        None if new is None or space == "old" else np.asarray(new)[0].tolist(),
        options,
    )


def _embed_question(encoder: AnyEncoder, question: Question) -> Vectors:
    if question.text is not None:
        return embed(encoder, [question.text], Modality.TEXT)
    return embed(encoder, [question.image or ""], Modality.IMAGE)


def _find_points(query: PreparedQuery) -> Procedure[Points]:
    """Search the spaces for which a query has vectors, in as few requests as possible."""
    state, options = query.state, query.options
    if query.new is None and query.old is not None:
        [found] = yield [search_one_space(state.old, query.old, options)]
    elif query.old is None and query.new is not None:
        [found] = yield [search_one_space(state.new, query.new, options)]
    elif state.one_request:
        [found] = yield [search_both_spaces(query)]
        if options.score_threshold is not None:
            found = [point for point in found if point.score >= options.score_threshold]
        # Qdrant leaves the order of equal scores open; sorted by id, pages do not overlap.
        found.sort(key=lambda point: (-point.score, isinstance(point.id, str), point.id))
    else:
        found = yield from fuse_here(query)
    points: Points = found
    return points
