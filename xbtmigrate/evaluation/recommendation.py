"""Turn measured figures into a recommendation with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbtmigrate.evaluation.comparison import gap_closed, paired_permutation_test
from xbtmigrate.evaluation.curves import Curve
from xbtmigrate.evaluation.retrieval import QueryScores
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.scoring.mixture import SINGLE
from xbtmigrate.types import Strategy

UNJUDGED = (
    "there are no judged queries; queries made from the collection are provisional and cannot "
    "tell whether the new model serves your users better than the old one"
)
MAX_FRACTION = 0.9
"""Above this share, re-encode everything rather than keep two kinds of vectors."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of the strategies, in seconds or money.

    Attributes:
        forward: Project and write every point.
        full: Encode and write every point.
        limit: The most that may be spent; None for no limit.

    All zero means that they are not known.
    """

    forward: float = 0.0
    full: float = 0.0
    limit: float | None = None

    def allow(self, strategy: Strategy, fraction: float) -> bool:
        """Return whether a strategy that re-encodes this share of the points fits the budget."""
        return self.limit is None or self._spent(strategy, fraction) <= self.limit

    def saves(self, fraction: float) -> bool:
        """Return whether projecting everything and re-encoding a part is cheaper than full."""
        return self.full == 0 or self._spent(Strategy.FASTFILL, fraction) < self.full

    def _spent(self, strategy: Strategy, fraction: float) -> float:
        spec = STRATEGIES[strategy]
        return spec.projects * self.forward + spec.encodes * fraction * self.full


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria of a recommendation.

    Attributes:
        metric: The metric that decides.
        target: Share of full's metric to reach by re-encoding a part; with nothing re-encoded,
            the share of the gap between keep and full to close.
        level: Largest p-value of a difference that counts.
        provisional: The queries and their answers are self-made; they decide nothing.
        seed: Seed of the significance tests.
        task: What the metric is measured on, where that is not the whole collection.
        must_leave: Why the old model cannot be kept; "" where it can.
    """

    metric: str = "recall@10"
    target: float = 0.95
    level: float = 0.05
    provisional: bool = False
    seed: int = 0
    task: str = ""
    must_leave: str = ""

    @property
    def figure(self) -> str:
        """Name of the figure that decides, as it is shown."""
        return f"{self.task} {self.metric}".lstrip()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do with this collection.

    Attributes:
        strategy: The strategy; None where nobody judged the queries.
        ordering: Which points are re-encoded first; None unless fastfill.
        serving: How queries are answered; None for keep, and without a strategy.
        fraction: Share of the points to re-encode.
        reason: Why, with the numbers, in plain words.
        scores: What was measured of it, at the first measured fraction that covers `fraction`.
        provisional: Whether the figures rest on relevance that nobody judged.
    """

    strategy: Strategy | None
    ordering: str | None
    serving: str | None
    fraction: float
    reason: str
    scores: QueryScores
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class _Option:
    """One option; `scores` at the first measured fraction that covers it."""

    strategy: Strategy
    name: str
    serving: str
    scores: QueryScores
    fraction: float = 0.0
    curve: Curve | None = None

    def value(self, metric: str) -> float:
        if self.curve is None:
            return self.scores.means[metric]
        return float(np.interp(self.fraction, self.curve.fractions, self.curve.values(metric)))


@dataclass(frozen=True, slots=True)
class _Ends:
    """The two ends with which every option is compared."""

    keep: QueryScores
    full: QueryScores
    criteria: Criteria

    @property
    def ends(self) -> tuple[float, float]:
        metric = self.criteria.metric
        return self.keep.means[metric], self.full.means[metric]

    def p_value(self, scores: QueryScores) -> float:
        metric = self.criteria.metric
        system, keep = scores.values[metric][:, None], self.keep.values[metric][:, None]
        return paired_permutation_test(system, keep, seed=self.criteria.seed)[0]

    def is_better(self, first: QueryScores, second: QueryScores) -> bool:
        """Return whether the first system is significantly better than the second."""
        metric, criteria = self.criteria.metric, self.criteria
        one, other = (each.values[metric][:, None] for each in (first, second))
        p_value = paired_permutation_test(one, other, seed=criteria.seed)[0]
        return first.means[metric] > second.means[metric] and p_value < criteria.level

    def beats_keep(self, scores: QueryScores) -> bool:
        # The test is two-sided: a significant loss has a small p-value too.
        better = scores.means[self.criteria.metric] > self.ends[0]
        return better and self.p_value(scores) < self.criteria.level


def recommend(
    cells: Mapping[str, QueryScores],
    curves: Sequence[Curve],
    costs: Costs,
    criteria: Criteria = Criteria(),
) -> Recommendation:
    """Choose the cheapest strategy that is good enough and better than doing nothing.

    Nothing where the queries are self-made: `full` can be right by definition, or by their very
    words.

    `keep` where full does not beat keep significantly (paired p < 0.05) or nothing affordable
    does. A bridge, then a projected gallery, where it beats keep and closes the target share of
    the gap to full. Else the smallest re-encoded fraction that reaches the target share of full
    and beats keep, where it is at most 0.9 and costs less than full; else full. Where the budget
    ends before the target, the best of what it allows.

    Where the old model cannot be kept, the cheapest way to the crossover takes the place of `keep`:
    the smallest share at which the single space is as good as the old model.

    Args:
        cells: `keep`, `full` and any `bridge:<kind>` and `forward:<kind>`, on the same queries.
        curves: Backfilling curves on the same queries, without orders that need the answer; a
            point at fraction 0 counts as forward.
        costs: What each strategy costs and what may be spent.
        criteria: Criteria of a recommendation.
    """
    measured = _Ends(cells["keep"], cells["full"], criteria)
    keep, full = measured.ends
    # Checked first: on made queries even a letter hash can beat a good model (docs/judging.md).
    if criteria.provisional:
        return Recommendation(None, None, None, 0.0, UNJUDGED, measured.keep, provisional=True)
    if measured.beats_keep(measured.full):
        chosen, reason = _choose(cells, curves, costs, measured)
    else:
        chosen = None
        reason = (
            f"the new model does not beat the old one on these queries: {criteria.figure} "
            f"{full:.3f} against {keep:.3f} (paired p = {measured.p_value(measured.full):.2g})"
        )
    if chosen is None and criteria.must_leave:
        chosen, way = _leave(curves, costs, measured)
        reason = f"the old model cannot be kept ({criteria.must_leave}): {way}. Otherwise: {reason}"
    if chosen is None:
        return Recommendation(Strategy.KEEP, None, None, 0.0, reason, measured.keep)
    # Where nothing is re-encoded, the order of the curve has no meaning.
    ordering = chosen.curve.ordering if chosen.curve and chosen.fraction > 0 else None
    return Recommendation(
        chosen.strategy, ordering, chosen.serving, chosen.fraction, reason, chosen.scores
    )


def _choose(
    cells: Mapping[str, QueryScores], curves: Sequence[Curve], costs: Costs, measured: _Ends
) -> tuple[_Option | None, str]:
    """Take the first good enough option by cost, or the best one that can be afforded."""
    # Options by rising cost: nothing written, all projected, a part re-encoded, all re-encoded. The
    # first that is good enough is therefore the cheapest.
    partial = _partial(curves, measured)
    saving = [option for option in partial if costs.saves(option.fraction)]
    options = [*_without_encoding(cells, curves), *saving]
    options.append(_Option(Strategy.FULL, "full", "single", measured.full, fraction=1.0))
    affordable = [o for o in options if costs.allow(o.strategy, o.fraction)]
    for option in affordable:
        if _good_enough(option, measured):
            dearer = partial if option.strategy is Strategy.FULL and not saving else []
            return option, _reason(option, measured) + _dearer(dearer)
    # No option within the budget reaches the target: use the best measured point of a curve.
    affordable += [o for o in _grid(curves) if costs.allow(o.strategy, o.fraction)]
    better = [o for o in affordable if measured.beats_keep(o.scores)]
    if not better:
        keep, full = measured.ends
        figure = measured.criteria.figure
        return None, (
            f"nothing within the budget beats keep ({figure} {keep:.3f}) significantly; "
            f"full would reach {full:.3f}"
        )
    # By the metric alone: the budget has already bounded the cost.
    best = max(better, key=lambda option: option.value(measured.criteria.metric))
    return best, f"the budget ends before the target; {_reason(best, measured)}"


def _leave(curves: Sequence[Curve], costs: Costs, measured: _Ends) -> tuple[_Option, str]:
    """Take the cheapest way to where the single space reaches keep; full where none does."""
    keep, metric = measured.ends[0], measured.criteria.metric
    single = [curve for curve in curves if curve.serving == SINGLE.name]
    reached = [(curve.smallest_fraction(keep, metric), curve) for curve in single]
    options = [
        _part_of(curve, fraction)
        for fraction, curve in reached
        if fraction is not None and fraction <= MAX_FRACTION and costs.saves(fraction)
    ]
    whole = _Option(Strategy.FULL, "full", SINGLE.name, measured.full, fraction=1.0)
    best = min(options, key=lambda option: option.fraction, default=whole)
    if best.fraction == 0:
        # Projected vectors are already as good: nothing has to be re-encoded.
        best = replace(best, strategy=Strategy.FORWARD)
    return best, _reason(best, measured)


def _without_encoding(
    cells: Mapping[str, QueryScores], curves: Sequence[Curve]
) -> Iterator[_Option]:
    """List the options without encoding, bridges first, which write nothing."""
    for strategy in (Strategy.BRIDGE, Strategy.FORWARD):
        for name, scores in cells.items():
            if name.startswith(f"{strategy}:"):
                yield _Option(strategy, name, "single", scores)
    for curve in curves:
        if curve.fractions[0] == 0:
            name = f"forward served {curve.serving}"
            yield _Option(Strategy.FORWARD, name, curve.serving, curve.points[0], curve=curve)


def _partial(curves: Sequence[Curve], measured: _Ends) -> list[_Option]:
    """List for each curve the fraction that reaches the target, the smallest first."""
    goal = measured.criteria.target * measured.ends[1]
    reached = [(c.smallest_fraction(goal, measured.criteria.metric), c) for c in curves]
    options = [
        _part_of(curve, fraction)
        for fraction, curve in reached
        if fraction is not None and 0 < fraction <= MAX_FRACTION
    ]
    # One space in one search is preferred to a fusion that is no better at its share.
    kept = [option for option in options if not _is_matched(option, curves, measured)]
    return sorted(kept, key=lambda option: option.fraction)


def _is_matched(option: _Option, curves: Sequence[Curve], measured: _Ends) -> bool:
    """Return whether the single space is as good as a fusion where that reaches the target."""
    if option.curve is None or option.serving == SINGLE.name:
        return False
    fractions = option.curve.fractions
    at = next(i for i, each in enumerate(fractions) if each >= option.fraction - 1e-9)
    return any(
        not measured.is_better(option.scores, curve.points[at])
        for curve in curves
        if (curve.serving, curve.ordering) == (SINGLE.name, option.curve.ordering)
    )


def _grid(curves: Sequence[Curve]) -> Iterator[_Option]:
    """List every measured point of every curve that re-encodes something."""
    for curve in curves:
        for fraction in curve.fractions:
            if 0 < fraction <= MAX_FRACTION:
                yield _part_of(curve, fraction)


def _part_of(curve: Curve, fraction: float) -> _Option:
    # The tolerance keeps an interpolated fraction from missing its own grid point by rounding.
    at = next(i for i, measured in enumerate(curve.fractions) if measured >= fraction - 1e-9)
    name = f"re-encoding {fraction:.0%} in {curve.ordering} order, served {curve.serving},"
    return _Option(Strategy.FASTFILL, name, curve.serving, curve.points[at], fraction, curve)


def _good_enough(option: _Option, measured: _Ends) -> bool:
    """Return whether an option beats keep and, if it encodes nothing, closes enough of the gap."""
    # A part of a curve was chosen to reach the target, and full is the target.
    if not STRATEGIES[option.strategy].encodes:
        closed = gap_closed(option.value(measured.criteria.metric), *measured.ends)
        if closed is None or closed < measured.criteria.target:
            return False
    return measured.beats_keep(option.scores)


def _dearer(partial: Sequence[_Option]) -> str:
    """Return a note if a part would be enough, but costs more than full."""
    if not partial:
        return ""
    return f"; {partial[0].name} would be enough, but to map every point first costs more"


def _reason(option: _Option, measured: _Ends) -> str:
    """State the figures, and warn if the gallery is worse than keep on the way."""
    (keep, full), metric = measured.ends, measured.criteria.metric
    text = (
        f"{option.name} reaches {measured.criteria.figure} {option.value(metric):.3f}; "
        f"keep {keep:.3f}, full {full:.3f}"
    )
    if option.curve is None:
        return text
    points = zip(option.curve.fractions, option.curve.values(metric), strict=True)
    # A stage worse than keep needs a warning even if the end is better.
    below = [(value, f) for f, value in points if value < keep and f < option.fraction]
    if not below:
        return text
    value, fraction = min(below)
    return (
        f"{text}; until more than {max(f for _, f in below):.0%} is re-encoded the mixed gallery "
        f"is worse than keep ({value:.3f} at {fraction:.0%}): serve the old vectors until then"
    )
