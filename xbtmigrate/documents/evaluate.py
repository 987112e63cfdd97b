"""Types of the document of `evaluate`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.evaluation.comparison import Significance
from xbtmigrate.evaluation.retrieval import Metric
from xbtmigrate.types import Strategy

MainMeans = TypedDict(
    "MainMeans",
    {
        "recall@1": Annotated[float, Field(description="Mean recall at 1, 0 to 1.")],
        "recall@10": Annotated[float, Field(description="Mean recall at 10, 0 to 1.")],
        "mrr@10": Annotated[float, Field(description="Mean reciprocal rank at 10, 0 to 1.")],
    },
)

FurtherMeans = TypedDict(
    "FurtherMeans",
    {
        "recall@5": Annotated[float, Field(description="Mean recall at 5, 0 to 1.")],
        "ndcg@10": Annotated[float, Field(description="Mean nDCG at 10, 0 to 1.")],
        "map@100": Annotated[float, Field(description="Mean average precision at 100, 0 to 1.")],
    },
)


class Means(MainMeans, FurtherMeans):
    """Mean of each metric over the queries."""


Values = TypedDict(
    "Values",
    {
        "recall@1": Annotated[list[float], Field(description="Mean recall at 1 at each share.")],
        "recall@5": Annotated[list[float], Field(description="Mean recall at 5 at each share.")],
        "recall@10": Annotated[list[float], Field(description="Mean recall at 10 at each share.")],
        "mrr@10": Annotated[list[float], Field(description="Mean reciprocal rank at each share.")],
        "ndcg@10": Annotated[list[float], Field(description="Mean nDCG at 10 at each share.")],
        "map@100": Annotated[list[float], Field(description="Average precision at each share.")],
    },
)


class SystemDocument(Means):
    """Quality of one way to answer queries, the mean over the queries, and how it compares."""

    name: str
    """`keep`, `keep:centred`, `lexical`, `keep+lexical`, `bridge:<kind>`, `bridge:<kind>+lora`,
    `forward:<kind>`, `fusion:<serving>` with nothing re-encoded, or `full`."""
    by_definition: bool
    """True for `full` where the answers are what the new model finds: its figures mean nothing."""
    estimated: bool
    """True for `keep` where the old model is gone, see
    [a provider shut down](how-to/provider-shut-down.md)."""
    chosen: bool
    """False for a projector that was fitted but not chosen: it is shown and never recommended."""
    ci95: dict[Metric, list[float]]
    """Low and high end of the 95 % interval of each mean."""
    p_value: dict[Metric, float]
    """Paired test against `keep`, 0 to 1."""
    compatible: dict[Metric, bool]
    """Whether its mean is above that of `keep`; read `p_value` with it."""
    against_keep: dict[Metric, Significance]
    """How it compares with `keep`; `no difference` where it is not significant (p of 0.05 or
    more)."""
    gap_closed: dict[Metric, float | None]
    """Share of the way from `keep` (0) to `full` (1), below 0 for worse than `keep`; null where
    `full` does not beat `keep` significantly: there is no gap."""
    negative_flips: float
    """Share of the queries, 0 to 1, that `keep` answers within the first 10 and this system does
    not."""


class CurveDocument(Values):
    """Quality of a mixed gallery by the share of re-encoded points."""

    ordering: str
    """An order of [backfill](commands.md#backfill), or `oracle`, which uses the true error and is
    only an upper bound; points re-encoded for training pairs are spread evenly over each."""
    serving: str
    """How queries are answered meanwhile, see [Servings](#servings)."""
    fractions: list[float]
    """Shares of re-encoded points, 0 to 1."""
    ci95: list[list[float]]
    """Low and high end of the 95 % interval of `recall@10` at each of them."""
    auc: float
    """Mean of `recall@10` over the curve."""
    auc_ci95: list[float]
    """Its bootstrap interval over queries: low, high."""
    no_regret: bool
    """Whether no point of the curve is below `keep`."""
    fraction_to_keep: float | None
    """The crossover: least share, 0 to 1, that reaches the quality of `keep`; null where none
    does."""
    fraction_to_keep_ci95: list[float | None]
    """Its bootstrap interval over queries, in steps of the curve: low, high; null for never."""
    fraction_to_full: dict[str, float | None]
    """Share of the quality of `full` (0.9, 0.95, 0.98) -> least share of points, 0 to 1, that
    reaches it; null where none does."""


class FiguresDocument(TypedDict):
    """What was measured with one kind of queries."""

    direction: str
    """Kind of query and of what is searched, such as `text->image`."""
    basis: str
    """Where queries and relevance came from."""
    provisional: bool
    """Whether queries were made from the collection, without judged ones."""
    limits: str
    """What made queries can and cannot show; `""` for judged ones."""
    query_count: int
    """Number of queries."""
    gallery_count: int
    """Number of points they were searched in."""
    systems: list[SystemDocument]
    """Ways to answer queries, `keep` first."""
    curves: list[CurveDocument]
    """Mixed galleries, by order and serving."""


class ErrorEstimateDocument(TypedDict):
    """Predicted and true error of the projected vectors, by twentieths of the points."""

    rank_correlation: float
    """Of the predicted with the true error of each projected vector, -1 to 1."""
    predicted: list[float]
    """Mean predicted distance between projected and true vector, for each twentieth."""
    true: list[float]
    """Mean true distance of these points."""
    low: list[float]
    """Its 10 % quantile."""
    high: list[float]
    """Its 90 % quantile."""


class ShapesDocument(TypedDict):
    """Distributions of scores."""

    edges: list[float]
    """Edges of the bins of scores."""
    right_waiting: list[float]
    """Share of the queries, 0 to 1, whose right answer scores in each bin, as long as it is not
    re-encoded."""
    right_encoded: list[float]
    """The same once it is re-encoded."""
    wrong_waiting: list[float]
    """The same for the best wrong answer that is not re-encoded."""
    wrong_encoded: list[float]
    """The same for the best wrong answer that is re-encoded."""


class ScoresDocument(TypedDict):
    """Distributions of scores before and after calibration."""

    raw: ShapesDocument
    """As they are."""
    calibrated: ShapesDocument
    """Calibrated, log-probabilities."""


class FlipDocument(TypedDict):
    """A query that one of two systems answers."""

    query: str
    """Its text, or the reference of its image."""
    before: int | None
    """Rank of its first right answer by `keep`; null beyond 10."""
    after: int | None
    """The same by the move."""


class FlipsDocument(TypedDict):
    """Queries that `keep` and the recommended move answer differently."""

    lost: list[FlipDocument]
    """Queries that `keep` answers within the first 10 and the recommended move (or `full`, where
    `keep` is recommended) does not."""
    gained: list[FlipDocument]
    """Queries that only the move answers within the first 10."""


class RecommendationDocument(TypedDict):
    """The recommended move."""

    strategy: Strategy | None
    """The recommended strategy; null without judged queries."""
    ordering: str | None
    """Order of re-encoding; null where there is none."""
    serving: str | None
    """How to answer queries meanwhile, see [Servings](#servings); null where it does not apply."""
    fraction: float
    """Share of the points, 0 to 1, to re-encode."""
    reason: str
    """Why, with the figures."""


class JudgedDocument(FiguresDocument):
    """Figures of the queries that decide, explained, and what follows from them."""

    error_estimate: ErrorEstimateDocument | None
    """How well the projector predicts its errors; null without one that does."""
    scores: ScoresDocument | None
    """Scores before and after calibration; null where nothing was calibrated."""
    examples: FlipsDocument
    """Single queries."""
    recommendation: RecommendationDocument
    """The recommended move."""


class GateDocument(TypedDict):
    """Whether a gate is met."""

    gate: str
    """The gate as it was written."""
    strategy: Strategy
    """What it was compared with: the recommended strategy, `full` where that is `keep`."""
    fraction: float
    """Share of re-encoded points there, 0 to 1."""
    value: float
    """Its metric there, 0 to 1."""
    level: float
    """The level, 0 to 1."""
    met: bool
    """Whether it is met; exit code 3 where one is not."""


class EvaluateDocument(JudgedDocument, NextDocument):
    """Quality of every system and of mixed galleries, and the recommended move."""

    metric: Metric
    """Metric that decides: `recall@10`."""
    seed: int
    """Seed of every random choice."""
    directions: list[FiguresDocument]
    """The same figures for queries of further kinds."""
    gates: list[GateDocument]
    """The gates that were given."""
    warnings: list[str]
    """What to know when reading the figures."""
