"""Stop a backfill when held-out queries on the live gallery meet a quality gate.

The queries ask for points that were not paid for when the order was frozen, since the points
written first would answer too well. Every figure is of the gallery as it is written: `keep` is
exact, the mixed
gallery is read back and searched as it would be served, and `full` is estimated from what is
re-encoded and a random sample of the rest, which is encoded once for it and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from xbtmigrate.backfill.goal import StopCheck
from xbtmigrate.documents.backfill import UntilDocument
from xbtmigrate.errors import EncoderError, EvaluationError
from xbtmigrate.evaluation.answer_ranks import evaluate
from xbtmigrate.evaluation.estimate_full import impute_full
from xbtmigrate.evaluation.mixed_gallery import Merge, Serving, Single
from xbtmigrate.evaluation.quality_gate import Gate, GateResult, LiveQuality
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.evaluation.retrieval import (
    DEPTH,
    QueryScores,
    Relevance,
    SearchSpace,
    chunk_queries,
    judge,
    rank_top_k,
)
from xbtmigrate.migration.phases import Stage
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Gallery
from xbtmigrate.scoring.centring import SHARES, Centring
from xbtmigrate.types import Channel, Kind, PointId, Vectors, vectors_of
from xbtmigrate.workflows.backfill.make_loop import LoopTask
from xbtmigrate.workflows.encode_points import Report, encode_gallery
from xbtmigrate.workflows.evaluate.collect import choose_gallery
from xbtmigrate.workflows.evaluate.embed_queries import CollectedPoints, embed_queries
from xbtmigrate.workflows.evaluate.query_sources import make_questions
from xbtmigrate.workflows.evaluate.trial import ChannelVectors, Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

STEPS = 100
"""Most measurements over the whole order."""

MAX_QUERIES = 1000
SAMPLE = 1000
MAX_GALLERY = 100_000


@dataclass(slots=True)
class QualityMonitor:
    """Measures the live gallery during a backfill.

    Attributes:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        work: What the backfill does, on the points as it writes them.
        gate: What has to be met.
        queries: Judged queries; None to make them from the points.
        report: Called with progress.
        verdict: The last result of the gate; None before the first measurement.
        basis: What served as queries, in words.
        query_count: Number of queries.
    """

    store: Store
    models: Models
    workspace: Workspace
    work: LoopTask
    gate: Gate
    queries: Path | None
    report: Report
    verdict: GateResult | None = None
    basis: str = ""
    query_count: int = 0
    _live: LiveGallery | None = None
    _looked: int = 0

    @property
    def met(self) -> bool:
        """Whether the gate was met at the last measurement."""
        return self.verdict is not None and self.verdict.met

    @property
    def _projector(self) -> Projector | None:
        return self.work.projector if self.work.request.projects else None

    def until(self) -> StopCheck:
        """Measure after about every hundredth of the points."""
        points = self.work.request.tally.points
        return StopCheck(max(self.work.batch_size, math.ceil(points / STEPS)), self.reached)

    def reached(self, position: int, places: int) -> bool:
        """Return whether the gallery as written now meets the gate."""
        live = self._live
        if live is None:
            live = self._live = self._first_look()
        else:
            live.look(self.work.gallery, self.work.order()[0][self._looked : position])
        self._looked = position
        self.verdict = live.judge(self.gate)
        self._note(float(live.encoded.mean()), self.verdict)
        self.report(Stage.ENCODE.doing, position, places, f"{self.verdict}")
        return self.verdict.met

    def _note(self, fraction: float, found: GateResult) -> None:
        """Keep the curve so far for `status`; a run that goes on continues it."""
        artefacts, plan = self.workspace.artefacts, self.work.request.plan.digest
        known = artefacts.load_live_quality(plan)
        if known is None or known.gate != found.gate:
            known = LiveQuality(plan, found.gate, found.level)
        artefacts.save_live_quality(known.add(fraction, found))

    def document(self) -> UntilDocument | None:
        """Return what was measured; None before the first measurement."""
        if self.verdict is None:
            return None
        return {
            "gate": self.verdict.gate,
            "met": self.verdict.met,
            "value": self.verdict.value,
            "level": self.verdict.level,
            "query_count": self.query_count,
            "basis": self.basis,
        }

    def _first_look(self) -> LiveGallery:
        """Find the queries, encode their answers and the sample, and read the whole gallery."""
        seed = self.store.config.plan.seed
        # Freeze the order now: which points were unpaid is a column of its file.
        self.work.order()
        unpaid = self.workspace.artefacts.list_unpaid()
        drawn = np.random.default_rng(seed).permutation(len(unpaid))[:SAMPLE]
        sample = take(self.store.reader(), [unpaid[row] for row in np.sort(drawn)])
        needed = set(sample.ids)
        judged = None if self.queries is None else read_questions(self.queries)[0]
        if judged is not None:
            judged = judged.sample(MAX_QUERIES, seed)
            needed |= {point for points in judged.relevant for point in points}
        points = choose_gallery(self.store, needed, MAX_GALLERY, self.report)
        new, known = self._known(points, needed)
        # A needed point that cannot be embedded can be neither an answer nor part of the sample. Of
        # the others it does not matter: their vectors are read back once the run has written them.
        usable = known | ~np.isin(np.asarray(points.ids, np.str_), np.asarray([*needed], np.str_))
        points, new, known = points.rows(np.flatnonzero(usable)), new[usable], known[usable]
        collected = CollectedPoints(points, new)
        trial = self._trial(collected, judged, sample)
        self.basis, self.query_count = trial.questions.basis, len(trial.questions)
        # Judged answers are no random choice: only the sample may represent what is not encoded.
        fair = np.isin(np.asarray(points.ids, np.str_), np.asarray(sample.ids, np.str_))
        live = LiveGallery(trial, self._centring(), self._projector, known, fair & known, seed)
        # An earlier run may have re-encoded some points already.
        live.look(self.work.gallery, points.ids)
        return live

    def _trial(self, collected: CollectedPoints, judged: Questions | None, sample: Points) -> Trial:
        """Embed the queries with both models.

        Raises:
            EvaluationError: No queries could be made that both models can embed.
        """
        if judged is not None:
            return embed_queries(self.store, self.models, collected, judged, self.report)
        for questions in make_questions(self.store, self.models, sample):
            try:
                return embed_queries(self.store, self.models, collected, questions, self.report)
            except EncoderError:
                continue
        raise EvaluationError(
            "no queries to measure the live gallery can be made from the points",
            "give judged queries with --queries FILE",
        )

    def _known(self, points: Points, needed: set[PointId]) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """Return the known new vectors and which these are; encodes those of the needed points."""
        rows = np.array([row for row, point in enumerate(points.ids) if point in needed], np.intp)
        new, known = self.workspace.cache.find(points.hashes)
        new[rows], known[rows] = encode_gallery(
            self.models.new,
            self.workspace.cache,
            points.rows(rows),
            self.models.stored,
            report=self.report,
        )
        return new, known

    def _centring(self) -> Centring | None:
        """Load how queries are centred, where it was fitted for this projector."""
        wanted = self.store.config.serving.centre_queries
        if self._projector is None or not wanted:
            return None
        return self.workspace.artefacts.load_centring(self._projector.digest)


@dataclass(slots=True)
class LiveGallery:
    """The gallery as it is written, in both spaces.

    Attributes:
        trial: Queries, and the gallery with the true new vectors known so far.
        centring: How queries of the new space are centred; None where they are not.
        projector: Old -> new; None where nothing is projected, which takes a merge of two spaces.
        known: Rows whose true new vector is known, (n,).
        sample: Known rows that are a fair sample of what was not paid for, (n,).
        seed: Seed of the estimate of full.
    """

    trial: Trial
    centring: Centring | None
    projector: Projector | None
    known: npt.NDArray[np.bool_]
    sample: npt.NDArray[np.bool_]
    seed: int
    encoded: npt.NDArray[np.bool_] = field(init=False)
    _row: dict[PointId, int] = field(init=False)
    _sides: ChannelVectors = field(init=False)

    def __post_init__(self) -> None:
        """Project the gallery once, and prepare how it is searched."""
        trial = self.trial
        self.encoded = np.zeros(len(trial.ids), np.bool_)
        self._row = {point: row for row, point in enumerate(trial.ids)}
        projected = np.zeros_like(trial.new)
        if self.projector is not None:
            projected = self.projector.apply(trial.old, trial.side)
        self._sides = ChannelVectors(
            trial.old, projected, trial.new, trial.old_distance, trial.new_distance
        )

    def look(self, gallery: Gallery, ids: Sequence[PointId]) -> None:
        """Read back which of these points are re-encoded now, and their vectors."""
        wanted = [point for point in ids if point in self._row]
        for batch in gallery.read({"kind", "new"}, ids=wanted):
            # `kind` is null where a point is due, which must read as false below.
            encoded = pc.equal(batch["kind"], Kind.ENCODED.value)
            done = batch.filter(pc.fill_null(encoded, fill_value=False))
            rows = np.array([self._row[point] for point in done["id"].to_pylist()], np.intp)
            self.trial.new[rows] = vectors_of(done, "new")
            self.encoded[rows] = self.known[rows] = True

    def judge(self, gate: Gate) -> GateResult:
        """Compare the gallery as it is now with a gate."""
        # Only the anchor that the gate names is measured: `full` takes an imputation each time.
        ends: dict[str, Callable[[], QueryScores]] = {
            "keep": partial(evaluate, self.trial.old_space, self.trial.relevance),
            "full": self._full,
        }
        cells = {name: end().means for name, end in ends.items() if name == gate.anchor}
        return gate.judge(self._mixed().means, cells)

    def _mixed(self) -> QueryScores:
        """Search the gallery as it is, with the serving that answers after the cutover."""
        trial, parts = self.trial, []
        serving: Serving = Merge() if self.projector is None else Single()
        asked = {Channel.OLD: trial.queries_old}
        spaces = {
            channel: self._sides.space(channel, asked.get(channel, self._queries()))
            for channel in serving.channels
        }
        relevance = trial.relevance
        # In chunks: the scores of all queries against all points need not fit in memory.
        for chunk in chunk_queries(relevance.query_count, len(trial.ids)):
            blocks = {channel: space.score(chunk) for channel, space in spaces.items()}
            ranked = rank_top_k(serving.score(blocks, self.encoded), DEPTH)
            parts.append(judge(ranked, relevance.part(chunk)))
        return QueryScores.join(parts)

    def _queries(self) -> Vectors:
        """Return the queries in the new model, centred by the share that is re-encoded now."""
        queries, centring = self.trial.queries_new, self.centring
        if centring is None:
            return queries
        share, mean = self.encoded.mean(), np.asarray(centring.mean, np.float32)
        fitted = centring.strengths_for(self.trial.questions.texts)
        strengths = np.array([np.interp(share, SHARES, each) for each in fitted], np.float32)
        return queries - np.outer(strengths * (queries @ mean), mean)

    def _full(self) -> QueryScores:
        """Estimate what the gallery would reach with every point re-encoded."""
        trial, rows = self.trial, np.flatnonzero(self.known)
        # Renumber the answers: the space below holds the known rows only.
        place = np.full(len(trial.ids), -1)
        place[rows] = np.arange(len(rows))
        relevance = trial.relevance
        known = Relevance(relevance.query_count, relevance.query, place[relevance.row])
        return impute_full(
            SearchSpace(trial.queries_new, trial.new[rows], trial.new_distance),
            known,
            encoded=self.encoded[rows],
            # Only for the rest: the re-encoded points are counted exactly.
            sample=(self.sample & ~self.encoded)[rows],
            points=len(trial.ids),
            seed=self.seed,
        )
