"""Turn measurements into the documents that `evaluate` and `plan` print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Final, cast

import numpy as np

from xbtmigrate.documents.evaluate import (
    CurveDocument,
    FiguresDocument,
    GateDocument,
    JudgedDocument,
    Means,
    SystemDocument,
    Values,
)
from xbtmigrate.evaluation.comparison import Comparison, bootstrap_intervals, compare
from xbtmigrate.evaluation.curves import Curve
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.evaluation.recommendation import Costs, Criteria, Recommendation, recommend
from xbtmigrate.evaluation.retrieval import METRICS, QueryScores
from xbtmigrate.evaluation.systems import rank_system
from xbtmigrate.scoring.mixture import SINGLE
from xbtmigrate.types import Modality, Strategy
from xbtmigrate.workflows.evaluate.diagnostics import (
    compare_error_estimate,
    find_flips,
    measure_score_shapes,
)
from xbtmigrate.workflows.evaluate.experiment import Maps, TrialResult
from xbtmigrate.workflows.evaluate.trial import Trial

METRIC: Final = "recall@10"
FLATTERED = (
    "most queries are the very text of the point they ask for, which a projector that reads texts "
    "finds by its words: its figures are too high and recommend nothing; set plan.queries to "
    "queries as users type them"
)
OLD_MODEL_GONE = "it is gone"
"""Why the old model cannot be kept where no encoder runs it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything measured with one kind of queries.

    Attributes:
        stored: What the gallery's vectors embed.
        trial: Queries and gallery.
        maps: What was fitted.
        judged: The figures.
        seed: Seed of the resampling.
        further: Cells of projectors that were fitted and not chosen: shown, never recommended.
        task: What the figures are measured on, where that is not what `evaluate` measures on.
    """

    stored: Modality
    trial: Trial
    maps: Maps
    judged: TrialResult
    seed: int
    further: Mapping[str, QueryScores] = field(default_factory=dict)
    task: str = ""

    @property
    def direction(self) -> str:
        """Modality of the queries and of the gallery, such as "text->image"."""
        return f"{self.trial.questions.modality}->{self.stored}"

    @property
    def keep(self) -> QueryScores:
        """The old model's figures."""
        return self.judged.cells["keep"]

    @property
    def crossover(self) -> float | None:
        """Smallest share re-encoded at which the single space reaches keep; None for none."""
        single = [curve for curve in self.judged.deployable if curve.serving == SINGLE.name]
        reached = [curve.smallest_fraction(self.keep.means[METRIC], METRIC) for curve in single]
        return min((each for each in reached if each is not None), default=None)

    @property
    def full(self) -> QueryScores:
        """The new model's own figures."""
        return self.judged.cells["full"]

    @property
    def flattered(self) -> bool:
        """Whether a projector reads the words of texts that the queries repeat."""
        # The cheaper question first: the other one looks at every text.
        return self.maps.reads_texts and self.trial.repeats_texts

    def advise(self, target: float, costs: Costs, must_leave: str = "") -> Recommendation:
        """Recommend a strategy, or none where the queries were not judged."""
        provisional = self.trial.questions.provisional
        criteria = Criteria(
            METRIC,
            target=target,
            provisional=provisional,
            seed=self.seed,
            task=self.task,
            must_leave=must_leave or ("" if self.trial.has_old_model else OLD_MODEL_GONE),
        )
        cells, curves = self.judged.cells, self.judged.deployable
        if self.flattered:
            # What the new model itself finds does not rest on the words that a projector reads.
            cells, curves = {name: cells[name] for name in ("keep", "full")}, []
        return recommend(cells, curves, costs, criteria)

    def document(self, advice: Recommendation) -> JudgedDocument:
        """Return all figures with their explanations, and the recommendation."""
        return {
            **self.figures(),
            "error_estimate": compare_error_estimate(self.judged.mapped),
            "scores": measure_score_shapes(self.trial, self.judged.mapped),
            "examples": find_flips(self.trial, self.keep, self.subject(advice)[1]),
            "recommendation": {
                "strategy": advice.strategy,
                "ordering": advice.ordering,
                "serving": advice.serving,
                "fraction": advice.fraction,
                "reason": advice.reason,
            },
        }

    def figures(self) -> FiguresDocument:
        """Return the figures of cells and curves."""
        questions = self.trial.questions
        # Projectors that were not chosen are shown beside the chosen ones, never recommended.
        cells = {**self.judged.cells, **self.further}
        comparisons = self.comparisons(cells)
        # `sorted` is stable: within a group the chosen projector stays first.
        order = sorted(cells, key=rank_system)
        return {
            "direction": self.direction,
            "basis": questions.basis,
            "provisional": questions.provisional,
            "limits": questions.limits,
            "query_count": len(questions),
            "gallery_count": len(self.trial.ids),
            "systems": [
                _system(
                    name,
                    comparisons[name],
                    chosen=name in self.judged.cells,
                    by_definition=name == "full" and questions.by_definition,
                    estimated=name == "keep" and not self.trial.has_old_model,
                )
                for name in order
            ],
            "curves": [self._curve(curve) for curve in self.judged.curves],
        }

    def comparisons(self, cells: Mapping[str, QueryScores]) -> dict[str, Comparison]:
        """Compare systems with keep; a gap closes only where full truly beats keep."""
        full = compare(self.full, self.keep, self.full, seed=self.seed)
        # gap closed = (system - keep) / (full - keep): noise alone unless full beats keep.
        gaps = [name for name in METRICS if full.beats_keep(name)]
        if self.trial.questions.by_definition:
            gaps = []
        return {
            name: compare(scores, self.keep, self.full, seed=self.seed, gaps=gaps)
            for name, scores in cells.items()
        }

    def subject(self, advice: Recommendation) -> tuple[Strategy, QueryScores]:
        """Return what a gate is applied to: the recommended move, else the new model itself."""
        # A gate on keep would always hold; a gate guards the move to the new model.
        if advice.strategy is None or advice.strategy is Strategy.KEEP:
            return Strategy.FULL, self.full
        return advice.strategy, advice.scores

    def verdict(self, gate: Gate, advice: Recommendation) -> GateDocument:
        """Return whether the recommended move meets a gate, with the figures."""
        strategy, scores = self.subject(advice)
        # What a gate may refer to, as in "recall@10>=0.95*full".
        ends = {"keep": self.keep.means, "full": self.full.means}
        found = gate.judge(scores.means, ends)
        return {
            "gate": found.gate,
            "strategy": strategy,
            "fraction": 1.0 if strategy is Strategy.FULL else advice.fraction,
            "value": found.value,
            "level": found.level,
            "met": found.met,
        }

    def _curve(self, curve: Curve) -> CurveDocument:
        # Queries x fractions: one draw of queries serves all fractions of a curve.
        table = np.stack([point.values[METRIC] for point in curve.points], axis=1)
        shares = curve.fractions_to_full(self.full, METRIC)
        return {
            **cast("Values", {name: curve.values(name) for name in METRICS}),
            "ordering": curve.ordering,
            "serving": curve.serving,
            "fractions": list(curve.fractions),
            "ci95": [[each.low, each.high] for each in bootstrap_intervals(table, seed=self.seed)],
            "auc": curve.auc(METRIC),
            "auc_ci95": [*astuple(curve.auc_interval(METRIC, seed=self.seed))],
            "no_regret": curve.no_regret(self.keep, METRIC),
            "fraction_to_keep": curve.smallest_fraction(self.keep.means[METRIC], METRIC),
            "fraction_to_keep_ci95": [*curve.crossover_interval(self.keep, METRIC, seed=self.seed)],
            # Keys of JSON objects are strings.
            "fraction_to_full": {f"{share:g}": fraction for share, fraction in shares.items()},
        }


def _system(
    system: str, found: Comparison, *, chosen: bool, by_definition: bool, estimated: bool
) -> SystemDocument:
    """Return the figures of one system, its intervals and its comparison with keep."""
    return {
        **cast("Means", {name: found.means[name] for name in METRICS}),
        "name": system,
        "chosen": chosen,
        "by_definition": by_definition,
        "estimated": estimated,
        "ci95": {name: [found.ci95[name].low, found.ci95[name].high] for name in METRICS},
        "p_value": {name: found.p_value[name] for name in METRICS},
        "compatible": {name: found.compatible[name] for name in METRICS},
        "against_keep": {name: found.standing(name) for name in METRICS},
        "gap_closed": {name: found.gap_closed[name] for name in METRICS},
        "negative_flips": found.negative_flips,
    }
