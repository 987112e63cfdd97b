"""Types of the document of `train-projector`."""

from __future__ import annotations

from typing_extensions import TypedDict

from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.training.pairs import PairSource
from xbtmigrate.training.selection import HeldOut
from xbtmigrate.types import Direction


class CandidateDocument(HeldOut):
    """A kind of projector with one choice of settings, and its held-out figures."""

    kind: str
    """Kind that was tried."""
    source: PairSource
    """Pairs it was fitted on."""
    pairs: int
    """How many of them: networks that did not lead were trained on some only."""
    settings: dict[str, float | int | str | bool]
    """Its settings."""
    cosine: float
    """Mean cosine between map and target on held-out pairs."""
    seconds: float
    """Time for fitting it, in seconds."""
    chosen: bool
    """Whether it was kept."""


class DirectionDocument(TypedDict):
    """The projector of one direction."""

    kind: str
    """Kind that was kept."""
    side_vector: str | None
    """Name of the vector that it takes beside the stored one; null for none, and for a bridge
    always."""
    side_information: list[str]
    """What it takes of a point's text beside the stored vector, or a bridge of a query's: `words`,
    `lexical`; empty for nothing."""
    folder: str
    """Folder that it is in."""
    digest: str
    """Its digest."""
    seconds: float
    """Time for this direction, in seconds."""
    baselines: dict[str, HeldOut]
    """Held-out retrieval of `keep` and `full`, for comparison."""
    uncertainty: dict[str, float]
    """Rank correlation of each estimate of the error with the true error, -1 to 1."""
    candidates: list[CandidateDocument]
    """What was tried, the best first."""


class LoraDocument(TypedDict):
    """Results of tuning the new text tower."""

    folder: str
    """The PEFT directory."""
    pairs: int
    """Pairs it was tuned on."""
    seconds: float
    """Time for tuning it, in seconds."""
    off: HeldOut
    """Held-out retrieval of the bridge with the model as it is."""
    on: HeldOut
    """Held-out retrieval of the bridge with the tuned model."""


class CalibrationDocument(TypedDict):
    """What the servings of a mixed gallery were fitted on."""

    basis: str
    """Where the queries come from, see [serving.md](serving.md#without-judged-queries)."""
    queries: int
    """Queries behind the weights; as many again measure the hubness."""
    loss: float
    """Mean negative log-likelihood of the right answer, in nats."""


class CentringDocument(TypedDict):
    """How far queries of the new space are centred: [serving.md](serving.md#centred-queries)."""

    basis: str
    """Where the queries come from."""
    queries: int
    """Queries behind the strengths."""
    strengths: list[float]
    """Strength at 0, 0.1 ... 1 of the points re-encoded; 0 changes nothing."""


class TrainDocument(NextDocument):
    """The projectors that were fitted."""

    migration: str
    """Name of the migration."""
    plan: str
    """Digest of the plan."""
    pairs: dict[PairSource, int]
    """Number of pairs by source."""
    held_out: int
    """Queries of the held-out selection task."""
    directions: dict[Direction, DirectionDocument]
    """The projector of each direction."""
    lora: LoraDocument | None
    """Results of tuning the new text tower; null without `--lora`."""
    calibration: CalibrationDocument | None
    """What the servings of a mixed gallery were fitted on; null where no query could be made nor
    points stand in for them, or one direction was trained."""
    centring: CentringDocument | None
    """How far queries of the new space are centred; null among images, where too few queries have
    known answers, without a forward projector, and under Euclid and Manhattan."""
