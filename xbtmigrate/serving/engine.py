"""Room `search`: all of a searcher but waiting for the answers; sync and async share it."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from qdrant_client import models

from xbtmigrate.errors import UnsupportedError, XbtMigrateError
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE
from xbtmigrate.qdrant.wire.server_errors import EMBEDDED_ERRORS, SERVER_ERRORS
from xbtmigrate.scoring.mixture import KEEP, Mixture
from xbtmigrate.scoring.slerp import slerp
from xbtmigrate.serving.client_fusion import Points, fused_here
from xbtmigrate.serving.embed import AnyEncoder, checked, embed
from xbtmigrate.serving.load_state import Loader
from xbtmigrate.serving.round_trips import Steps, Work, together
from xbtmigrate.serving.server_fusion import QueryVectors, Wanted, in_both_spaces, in_one_space
from xbtmigrate.serving.state import WITHOUT_OLD, Situation
from xbtmigrate.serving.thresholds import ANSWERS, Scale, sampled
from xbtmigrate.serving.traffic_log import DemandLog
from xbtmigrate.types import Channel, Modality, Vectors

T = TypeVar("T")

REFUSED = (*SERVER_ERRORS, *EMBEDDED_ERRORS)
"""Errors of the client library."""
INTERVAL = 5.0
"""Seconds between two looks at the journal, at least."""
LOOK_SHARE = 0.02
"""Share of the time that looks may take: slow ones are rarer."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query before it is known which vectors it takes.

    Attributes:
        text: A text to be embedded.
        image: An image reference to be embedded.
        vector: A vector of the new model.
        old_vector: A vector of the old model.
        wanted: What to return; its threshold is in the old model's scale.
    """

    text: str | None = None
    image: str | None = None
    vector: Any = None
    old_vector: Any = None
    wanted: Wanted = Wanted()  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class Answer:
    """Points found, best first; iterates over them.

    Attributes:
        points: Qdrant's own points.
        serving: The serving that answered. Scores of `keep` and `bridge` are those of the old
            space and those of `single` of the new one; `merge` and `slerp` mix both as they are;
            `calibrated` are log-odds up to a constant of the query. Scores of different servings
            never compare, and calibrated ones compare only within one answer.
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query with its vectors, in the situation it was prepared for."""

    situation: Situation
    mixture: Mixture
    note: str
    query: QueryVectors
    wanted: Wanted


class Core:
    """State and procedures of a searcher.

    Args:
        loader: Reads the situation.
        situation: The first one.
        encoders: The old and the new encoder, None where there is none.
        interval: Seconds between two looks at the journal, at least.
        demand: Where the points found are counted.
    """

    def __init__(
        self,
        loader: Loader,
        situation: Situation,
        encoders: tuple[AnyEncoder | None, AnyEncoder | None],
        interval: float,
        demand: DemandLog | None,
    ) -> None:
        self.situation = situation
        self.problem = ""
        self.note = ""
        self.demand = demand
        self._loader = loader
        self.encoders = encoders
        self._old, self._new = encoders
        self._interval = interval
        self._look_at = time.monotonic() + interval
        self._looking = threading.Lock()
        self._scales: dict[tuple[int, str], Scale] = {}

    def is_due(self) -> bool:
        """Whether it is time to look at the journal; true for one caller only."""
        return time.monotonic() >= self._look_at and self._looking.acquire(blocking=False)

    def look(self) -> Steps[None]:
        """Look whether the situation has changed; the caller was told that it `is_due`.

        What cannot be read leaves the situation as it is and is told by `problem`.
        """
        started = time.monotonic()
        try:
            self._replace((yield from self._loader.again(self.situation)))
            self.problem = ""
        except XbtMigrateError as error:
            self._tell(f"{error.message}; serving as before ({error.hint})")
        except REFUSED as error:
            self._tell(f"the journal cannot be read, serving as before: {error!r}")
        finally:
            now = time.monotonic()
            self._look_at = now + max(self._interval, (now - started) / LOOK_SHARE)
            self._looking.release()

    def reload(self) -> Steps[None]:
        """Look whether the situation has changed, now; raises what `look` only tells."""
        self._replace((yield from self._loader.again(self.situation)))
        self.problem = ""

    def look_after(self, error: Exception) -> Steps[None]:
        """Look again because a request was refused; raise its error if nothing has changed."""
        before = self.situation
        self._replace((yield from self._loader.again(before)))
        if self.situation is before:
            raise error

    def prepare(self, question: Question, *, within: str | None = None) -> Prepared:
        """Choose how to serve, and make the query vectors. Embeds, so it may take its time.

        Args:
            question: The query.
            within: The collection of the larger request that it is a part of.

        Raises:
            UnsupportedError: Nothing can answer with the models at hand.
            EncoderError: A vector is not of the model's size.
        """
        situation = self.situation
        item = question.text is not None or question.image is not None
        mixture, note = situation.mixture(
            old_model=question.old_vector is not None or (item and self._old is not None),
            new_model=question.vector is not None or (item and self._new is not None),
            within=within,
        )
        if note and note != self.note:
            warnings.warn(note, stacklevel=3)
        self.note = note
        waiting = situation.waiting
        old = new = None
        if mixture.needs_old_model(waiting=waiting):
            given = question.old_vector
            made = self._embedded(self._old, question) if given is None else given
            old = checked(made, situation.old.size, "old")
        if mixture.needs_new_model(waiting=waiting):
            given = question.vector
            made = self._embedded(self._new, question) if given is None else given
            new = checked(made, situation.new.size, "new")
        query = query_vectors(situation, mixture, old, new)
        return Prepared(situation, mixture, note, query, question.wanted)

    def attended(self, procedure: Callable[[], Steps[T]]) -> Steps[T]:
        """Run a procedure in the present situation.

        What is refused is done once more if the situation has changed: it may be done twice.
        """
        if self.is_due():
            yield from self.look()
        try:
            return (yield from procedure())
        except (*REFUSED, UnsupportedError) as error:
            yield from self.look_after(error)
        return (yield from procedure())

    def ask(self, questions: Sequence[Question]) -> Steps[list[Answer]]:
        """Answer several questions in common round trips, from embedding to the points."""
        return self.attended(lambda: self.answered(questions))

    def answers(self, prepared: list[Prepared]) -> Steps[list[Answer]]:
        """Answer several queries in common round trips."""
        answers = yield from together([self._answer(each) for each in prepared])
        if self.demand is not None:
            for each, found in zip(prepared, answers, strict=True):
                self.demand.note(each.query.new or each.query.old, found)
        return answers

    def translated(
        self, threshold: float, situation: Situation, mixture: Mixture
    ) -> Steps[float | None]:
        """Translate a threshold of the old model's scale; None where nothing tells how."""
        key = id(situation), mixture.name
        if key not in self._scales:
            known = situation.arrangement is not None and len(situation.arrangement.bank.ids)
            if not known or situation.phase in WITHOUT_OLD:
                return None
            self._scales[key] = yield from self._scale(situation, mixture)
        return self._scales[key].translated(threshold)

    def answered(self, questions: Sequence[Question]) -> Steps[list[Answer]]:
        """Answer several questions in the situation as it is known."""
        if any(each.text is not None or each.image is not None for each in questions):
            [prepared] = yield [Work(lambda: [self.prepare(each) for each in questions])]
        else:
            prepared = [self.prepare(each) for each in questions]
        return (yield from self.answers(prepared))

    def _answer(self, prepared: Prepared) -> Steps[Answer]:
        situation, mixture, wanted = prepared.situation, prepared.mixture, prepared.wanted
        if wanted.score_threshold is not None and mixture.name != KEEP.name:
            least = yield from self._threshold(situation, mixture, wanted.score_threshold)
            wanted = replace(wanted, score_threshold=least)
        points = yield from _points(replace(prepared, wanted=wanted))
        return Answer([without_mark(each) for each in points], mixture.name, prepared.note)

    def _threshold(self, situation: Situation, mixture: Mixture, threshold: float) -> Steps[float]:
        """Translate a threshold as Qdrant takes it for one space, or as a fusion's least score."""
        space = mixture.space(waiting=situation.waiting)
        found = yield from self.translated(situation.old.sign * threshold, situation, mixture)
        if found is None:
            self._tell("nothing tells how to translate a score threshold: used as it is")
            found = situation.old.sign * threshold
        sign = situation.new.sign if space == "new" else situation.old.sign
        return sign * found if space else found

    def _scale(self, situation: Situation, mixture: Mixture) -> Steps[Scale]:
        """Ask known queries of both servings."""
        if situation.arrangement is None:
            raise UnsupportedError("nothing was calibrated", "run `xbtmigrate train-projector`")
        bank = situation.arrangement.bank
        wanted = Wanted(limit=ANSWERS, with_payload=False)
        rows = list(zip(sampled(bank.old), sampled(bank.new), strict=True))
        scores = []
        for each in (KEEP, mixture):
            prepared = [
                Prepared(
                    situation,
                    each,
                    "",
                    query_vectors(situation, each, old[None], new[None]),
                    wanted,
                )
                for old, new in rows
            ]
            found = yield from together([_points(one) for one in prepared])
            space = each.space(waiting=situation.waiting)
            sign = {"old": situation.old.sign, "new": situation.new.sign}.get(space or "", 1.0)
            scores.append([sign * point.score for points in found for point in points])
        return Scale.matched(*scores)

    def _embedded(self, encoder: AnyEncoder, question: Question) -> Vectors:
        if question.text is not None:
            return embed(encoder, [question.text], Modality.TEXT)
        return embed(encoder, [question.image or ""], Modality.IMAGE)

    def _replace(self, situation: Situation) -> None:
        if situation is not self.situation:
            self._scales.clear()
            self.situation = situation

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            warnings.warn(problem, stacklevel=4)
        self.problem = problem


def without_mark(point: Any) -> Any:
    """Take the tool's own key from the payload of a point that is returned."""
    if not point.payload or PROVENANCE not in point.payload:
        return point
    payload = {key: value for key, value in point.payload.items() if key != PROVENANCE}
    return point.model_copy(update={"payload": payload})


def query_vectors(
    situation: Situation, mixture: Mixture, old: Vectors | None, new: Vectors | None
) -> QueryVectors:
    """Make the vectors that a mixture asks each space with.

    Args:
        situation: Where the migration stands.
        mixture: How to serve.
        old: The query in the old model, shape (1, d_old); None where it is not needed.
        new: The query in the new model, shape (1, d_new); None where it is not needed.
    """
    space = mixture.space(waiting=situation.waiting)
    asks = old
    if space != "new" and mixture.asks is not Channel.OLD and new is not None:
        asks = situation.bridge.apply(new) if situation.bridge is not None else None
        if mixture.asks is Channel.BLEND and old is not None and asks is not None:
            alpha = situation.arrangement.blend if situation.arrangement else 0.0
            asks = slerp(old, asks, alpha)
    return QueryVectors(
        None if asks is None or space == "new" else np.asarray(asks)[0].tolist(),
        None if new is None or space == "old" else np.asarray(new)[0].tolist(),
    )


def _points(prepared: Prepared) -> Steps[Points]:
    situation, mixture, query = prepared.situation, prepared.mixture, prepared.query
    if query.new is None and query.old is not None:
        [found] = yield [in_one_space(situation.old, query.old, prepared.wanted)]
    elif query.old is None and query.new is not None:
        [found] = yield [in_one_space(situation.new, query.new, prepared.wanted)]
    elif situation.one_request:
        [found] = yield [in_both_spaces(situation, mixture, query, prepared.wanted)]
        # Servers take no threshold for a formula.
        least = prepared.wanted.score_threshold
        found = [point for point in found if least is None or point.score >= least]
        found.sort(key=lambda point: (-point.score, isinstance(point.id, str), point.id))
    else:
        found = yield from fused_here(situation, mixture, query, prepared.wanted)
    points: Points = found
    return points
