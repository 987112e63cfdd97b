"""What a method is, and what it makes of a trial."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.mixed_gallery import Serving, Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Channel, Vectors
from xbtmigrate_research.corpora import CORPORA
from xbtmigrate_research.trial import Trial

Rows: TypeAlias = npt.NDArray[np.intp]
Orders: TypeAlias = Mapping[str, Callable[[], Rows]]
"""By name, what makes an order: gallery rows, first to be embedded first, (m,)."""

OWN, VARIANCE = "own", "variance"
"""Orders: the method's own, and that of the Gaussian process."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a method takes that a collection may not have.

    Attributes:
        old_model: The old model has to run, for training or for queries.
        labels: Points need a class or a known question.
        pairs: Some points are embedded by the new model.
        encoder: The new model itself is trained.
    """

    old_model: bool = False
    labels: bool = False
    pairs: bool = True
    encoder: bool = False


@dataclass(frozen=True, slots=True)
class Backfill:
    """A gallery of which more and more points are embedded again.

    Attributes:
        spaces: What is searched, by channel, for all queries.
        serving: How the two halves are searched.
        orders: Orders to measure beside a random one; made after the clock of the training stops.
    """

    spaces: Mapping[Channel, SearchSpace]
    serving: Serving
    orders: Orders = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method made of a trial; queries are all those of the corpus.

    Attributes:
        space: What is searched while nothing but the pairs is embedded again.
        own: What is searched at the end, where that is another space than the new model's.
        backfill: What is searched in between, where the method says.
        steps: What is searched after each of several updates, in their order.
        note: Settings that were chosen.
    """

    space: SearchSpace
    own: SearchSpace | None = None
    backfill: Backfill | None = None
    steps: Mapping[str, SearchSpace] = field(default_factory=dict)
    note: str = ""


class Share(StrEnum):
    """By what a paper's own figure can stand beside ours."""

    GAP = "gap closed"
    """Share of the gap between old and new model, while only the pairs are embedded again."""
    BACKFILL = "gap closed over the backfill"
    """The same of the mean over a backfill, in the method's order where it has one."""
    FULL = "of the new model's own figure"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a paper reports of itself.

    Attributes:
        share: What it counts; the same of ours stands beside it.
        text: Its figure, with metric and data.
    """

    share: Share
    text: str


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table.

    Attributes:
        name: Name in the table and on the command line.
        source: Authors, venue and number of the paper.
        run: Trains and projects.
        needs: What it takes.
        served: How the tool offers it; "no" where it does not.
        beside: Name of the method that it has to be better than; "" for the old model alone.
        epochs: Passes over the pairs as published; 0 for closed forms and for what the tool trains
            itself.
        corpora: Where it can be measured.
        claim: What the paper reports, where the like can be measured here.
        compares_with_old: Whether its queries are those of the old model's row.
        compatible: Whether its queries search stored vectors as they are, and its own vectors too.
        remark: A sentence that the figures do not say.
    """

    name: str
    source: str
    run: Callable[[Trial], Outcome]
    needs: Needs
    served: str
    beside: str = ""
    epochs: int = 0
    corpora: Collection[str] = CORPORA
    claim: Claim | None = None
    compares_with_old: bool = True
    compatible: bool = False
    remark: str = ""


def answer_in_old(trial: Trial, bridged: Vectors, note: str = "") -> Outcome:
    """Search the stored vectors with mapped queries, (q, d_old)."""
    return Outcome(SearchSpace(bridged, trial.corpus.old), note=note)


def answer_in_new(
    trial: Trial,
    projected: Vectors,
    uncertainty: Vectors | None = None,
    note: str = "",
    others: Orders | None = None,
) -> Outcome:
    """Search a mapped gallery, (m, d_new), with plain new queries, and backfill it.

    Args:
        trial: Corpus and pairs.
        projected: The mapped gallery.
        uncertainty: Expected error of each point, (m,): the worst is embedded first.
        note: Settings that were chosen.
        others: Orders to compare that one with.
    """
    corpus = trial.corpus
    forward = SearchSpace(corpus.asked_new, projected)
    spaces = {Channel.FORWARD: forward, Channel.NEW: SearchSpace(corpus.asked_new, corpus.new)}
    orders = dict(others or {})
    if uncertainty is not None:
        orders[OWN] = partial(worst_first, uncertainty)
    return Outcome(forward, backfill=Backfill(spaces, Single(), orders), note=note)


def worst_first(uncertainty: Vectors) -> Rows:
    """Order gallery rows by their expected error, (m,), largest first."""
    return np.argsort(-uncertainty, kind="stable")
