"""Measure systems and curves from the vectors of both models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.curves import Curve, measure_curves, search_gallery
from xbtmigrate.evaluation.lexical import LexicalIndex, measure_lexical
from xbtmigrate.evaluation.mixed_gallery import Centred, Serving, in_step
from xbtmigrate.evaluation.retrieval import QueryScores, Relevance, Rows, SearchSpace
from xbtmigrate.evaluation.servings import (
    SERVED,
    SERVINGS,
    UNCENTRED,
    GalleryCalibration,
    ServingSpec,
    find_measured,
)
from xbtmigrate.evaluation.systems import HYBRID, KEEP_CENTRED, LEXICAL
from xbtmigrate.ordering import rank, score_points
from xbtmigrate.ordering.benefit import BenefitModel
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Ordering
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.scoring.fusion import PerPoint
from xbtmigrate.scoring.mixture import SINGLE
from xbtmigrate.scoring.slerp import slerp
from xbtmigrate.training.fit_centring import centre_in_place
from xbtmigrate.types import Channel, Distance, Modality, Vectors, normalized
from xbtmigrate.workflows.evaluate.trial import ChannelVectors, Trial

ORACLE = "oracle"
ORDERS = ("random", "uncertainty", "benefit", ORACLE)
"""Orders that are measured by default."""

USUAL_SERVINGS = tuple(name for name, spec in SERVINGS.items() if spec.is_usual)
"""Servings that are measured by default."""


@dataclass(frozen=True, slots=True)
class MappedGallery:
    """What the maps make of the gallery; computed once, since projecting may take seconds.

    Attributes:
        sides: Its vectors in every channel; None without a forward projector.
        uncertainty: Log of the predicted squared error of each projection, (n,); None without a
            projector that predicts it.
        calibrated: What was fitted for a mixed gallery; None without a calibration.
    """

    sides: ChannelVectors | None = None
    uncertainty: PerPoint | None = None
    calibrated: GalleryCalibration | None = None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Figures of every system.

    Attributes:
        cells: Scores by name; keep first, full last.
        curves: The mixed gallery, for each order and serving.
        mapped: What the maps made of the gallery.
    """

    cells: dict[str, QueryScores]
    curves: list[Curve]
    mapped: MappedGallery

    @property
    def deployable(self) -> list[Curve]:
        """Curves that can be deployed: neither the oracle's order, nor servings only measured."""
        return [
            curve for curve in self.curves if curve.ordering != ORACLE and curve.serving in SERVED
        ]


@dataclass(frozen=True, slots=True)
class Maps:
    """What was fitted: projectors of both directions, how a mixed gallery is searched and filled.

    Attributes:
        bridge: New queries into the old space.
        forward: Stored vectors into the new space.
        calibration: How the scores of both spaces are fused.
        benefit: What re-encoding a point is worth.
        tuned: Queries of the trial in the new model with the additions trained for the bridge.
        centring: How far queries of the new space are centred.
    """

    bridge: Projector | None = None
    forward: Projector | None = None
    calibration: Calibration | None = None
    benefit: BenefitModel | None = None
    tuned: Vectors | None = None
    centring: Centring | None = None

    @property
    def reads_texts(self) -> bool:
        """Whether a projector takes the words of texts, beside the vectors."""
        fitted = (self.bridge, self.forward)
        return any(each is not None and each.text_side is not None for each in fitted)


@dataclass(frozen=True, slots=True)
class CurveOptions:
    """Which curves to draw: every order with every serving, as far as the maps allow.

    Attributes:
        orders: Names of orders, those of plugins too; `oracle` needs the answer and is a bound.
        servings: Names of servings, see `evaluation.servings`.
        make: Makes an order by its name.
        spent: Gallery rows that were re-encoded for training pairs. They are spread over every
            order, see `in_step`.
    """

    make: Callable[[str], Ordering]
    orders: Sequence[str] = ORDERS
    servings: Sequence[str] = USUAL_SERVINGS
    spent: Rows = field(default_factory=lambda: np.empty(0, np.intp))


def judge(trial: Trial, maps: Maps, asked: CurveOptions) -> TrialResult:
    """Score every cell and draw the chosen curves.

    Args:
        trial: Queries and gallery in both spaces.
        maps: What was fitted.
        asked: Which curves.

    Raises:
        ConfigError: There is no such serving.
        PluginError: There is no such order.
    """
    specs = find_measured(asked.servings)
    mapped = _map_gallery(trial, maps)
    spaces, relevance = _spaces(trial, maps, mapped.sides), trial.relevance
    # 1. The curves. Orders are compared by the points that are still to be paid for.
    ranked = {
        name: in_step(rank(trial.ids, scores), asked.spent)
        for name, scores in _orders(trial, mapped.sides, maps, asked).items()
    }
    # Without the old model no serving can ask in the old space, however good its estimate looks.
    asking = spaces if trial.has_old_model else _without_old_queries(spaces)
    plain, remapped = _servings(specs, trial, maps, mapped, asking, spent=asked.spent)
    alone, curves = search_gallery(spaces, relevance, orders=ranked, servings=plain)
    for searched, serving in remapped:
        curves += measure_curves(searched, relevance, orders=ranked, servings=[serving])
    # 2. Each system that searches a single space.
    rows = dict(_cells(trial, maps, spaces[Channel.OLD], alone))
    rows |= _lexical(trial, spaces[Channel.OLD], relevance)
    # 3. A fusion with nothing re-encoded is a cell, too. All orders agree at fraction 0, so the
    #    first one is as good as any.
    fusions = {spec.name for spec in specs if spec.fuses}
    for curve in curves:
        if curve.ordering == next(iter(ranked)) and curve.serving in fusions:
            rows[f"fusion:{curve.serving}"] = curve.points[0]
    # Last, because tables show keep first and full last.
    rows["full"] = alone[Channel.NEW]
    return TrialResult(rows, curves, mapped)


def _spaces(trial: Trial, maps: Maps, sides: ChannelVectors | None) -> dict[Channel, SearchSpace]:
    """Return the query and gallery vectors of every channel that the maps allow."""
    spaces = {Channel.OLD: trial.old_space, Channel.NEW: trial.full_space}
    if maps.bridge is not None:
        bridged = maps.bridge.apply_to_queries(trial.queries_new, trial.questions.wording)
        spaces[Channel.BRIDGE] = SearchSpace(bridged, trial.old, trial.old_distance)
        if maps.calibration is not None:
            # Both queries meet the same stored vectors, so one search with a blend is enough.
            blended = slerp(trial.queries_old, bridged, maps.calibration.blend)
            spaces[Channel.BLEND] = SearchSpace(blended, trial.old, trial.old_distance)
    if sides is not None:
        spaces[Channel.FORWARD] = sides.space(Channel.FORWARD, trial.queries_new)
    return spaces


def _without_old_queries(spaces: Mapping[Channel, SearchSpace]) -> dict[Channel, SearchSpace]:
    asks_old = (Channel.OLD, Channel.BLEND)
    return {channel: space for channel, space in spaces.items() if channel not in asks_old}


def _cells(
    trial: Trial, maps: Maps, old: SearchSpace, alone: Mapping[Channel, QueryScores]
) -> Iterator[tuple[str, QueryScores]]:
    """Yield the systems that search one space and re-encode nothing, keep first."""
    yield "keep", alone[Channel.OLD]
    # What can be had beside keep needs the old model as keep does.
    centred = None
    if trial.has_old_model:
        centred = centre_in_place(old, trial.questions.texts, trial.relevance)
    if centred is not None:
        yield KEEP_CENTRED, evaluate(centred, trial.relevance)
    if maps.bridge is not None:
        yield f"bridge:{maps.bridge.kind}", alone[Channel.BRIDGE]
        if maps.tuned is not None:
            tuned = maps.bridge.apply_to_queries(maps.tuned, trial.questions.wording)
            space = SearchSpace(tuned, trial.old, trial.old_distance)
            yield f"bridge:{maps.bridge.kind}+lora", evaluate(space, trial.relevance)
    if maps.forward is not None:
        yield f"forward:{maps.forward.kind}", alone[Channel.FORWARD]


def _lexical(trial: Trial, old: SearchSpace, relevance: Relevance) -> dict[str, QueryScores]:
    """Measure what a sparse vector would bring, where judged queries and the gallery are texts."""
    questions = trial.questions
    # Queries made from the texts share their very words, and would flatter a search by words.
    if questions.provisional or questions.modality is not Modality.TEXT or not any(trial.texts):
        return {}
    if not trial.has_old_model:
        return {}
    if trial.repeats_texts:
        return {}
    index = LexicalIndex.build(trial.texts)
    alone, fused = measure_lexical(index, questions.texts, old, relevance)
    return {LEXICAL: alone, HYBRID: fused}


def _orders(
    trial: Trial, sides: ChannelVectors | None, maps: Maps, asked: CurveOptions
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the points' scores in every chosen order that the maps allow."""
    # Orders of plugins are not listed: `possible` lets them through.
    uncertain = maps.forward is not None and maps.forward.has_uncertainty
    possible = {
        ORACLE: sides is not None,
        "uncertainty": uncertain,
        "combined": uncertain and maps.benefit is not None,
        "benefit": uncertain and maps.benefit is not None and maps.benefit.trees is not None,
    }
    found = {}
    for name in asked.orders:
        if name == ORACLE and sides is not None:
            # The true error needs every new vector, which a backfill does not have: an upper bound.
            error = np.linalg.norm(sides.new - sides.projected, axis=1)
            found[name] = error.astype(np.float32)
        elif possible.get(name, True):
            found[name] = score_points(asked.make(name), trial.ids, trial.old, trial.side)
    return found


def _servings(
    specs: Sequence[ServingSpec],
    trial: Trial,
    maps: Maps,
    mapped: MappedGallery,
    spaces: Mapping[Channel, SearchSpace],
    *,
    spent: Rows,
) -> tuple[list[Serving | Centred], list[tuple[Mapping[Channel, SearchSpace], Serving]]]:
    """Return the chosen servings that the maps allow; apart those that have their own spaces."""
    plain: list[Serving | Centred] = []
    remapped: list[tuple[Mapping[Channel, SearchSpace], Serving]] = []
    for spec in specs:
        serving = None if spec.measure is None else spec.measure(mapped.calibrated)
        if serving is None or not serving.channels <= set(spaces):
            continue
        # Without centring both would be the same curve.
        if spec.name == UNCENTRED and maps.centring is None:
            continue
        if spec.name == SINGLE.name and maps.centring is not None and mapped.sides is not None:
            plain.append(centred_single(maps.centring, trial, mapped.sides))
        elif spec.remap is None:
            plain.append(serving)
        # It may learn only from rows re-encoded for pairs: the other vectors are unknown.
        elif (apply := spec.remap(trial.old[spent], trial.new[spent])) is not None:
            own: dict[Channel, SearchSpace] = {
                channel: SearchSpace(apply(space.query), apply(space.gallery), space.distance)
                for channel, space in spaces.items()
                if channel in (Channel.FORWARD, Channel.NEW)
            }
            remapped.append(({**spaces, **own}, serving))
    return plain, remapped


def centred_single(centring: Centring, trial: Trial, sides: ChannelVectors) -> Centred:
    """Serve the single space with queries centred as a searcher centres them.

    Each query is centred with strengths that were fitted without it.
    """
    mean = np.asarray(centring.mean, np.float32)
    cosine = trial.new_distance is Distance.COSINE
    queries, projected, new = (
        (normalized(each) if cosine else each) @ mean
        for each in (trial.queries_new, sides.projected, sides.new)
    )
    strengths = centring.strengths_for(trial.questions.texts)
    return Centred(queries, strengths, {Channel.FORWARD: projected, Channel.NEW: new})


def _map_gallery(trial: Trial, maps: Maps) -> MappedGallery:
    """Project the gallery, and compute what a calibration reads of it."""
    if maps.forward is None:
        return MappedGallery()
    sides = trial.channel_vectors(maps.forward)
    # Projectors of some kinds estimate no error.
    predicts = maps.forward.has_uncertainty
    uncertainty = maps.forward.uncertainty(trial.old, trial.side) if predicts else None
    if maps.calibration is None:
        return MappedGallery(sides, uncertainty)
    hubness = sides.hubness(maps.calibration.bank, trial.ids)
    calibrated = GalleryCalibration(maps.calibration, hubness, uncertainty)
    return MappedGallery(sides, uncertainty, calibrated)
