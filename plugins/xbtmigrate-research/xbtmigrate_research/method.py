"""What a method is, and what it makes of a trial."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xbtmigrate.evaluation.mixed_gallery import Serving, Single
from xbtmigrate.evaluation.retrieval import SearchSpace
from xbtmigrate.types import Channel, Vectors
from xbtmigrate_research.corpora import CORPORA
from xbtmigrate_research.trial import Trial


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
        order: Gallery rows, first to be embedded first, (m,); None for random order alone.
    """

    spaces: Mapping[Channel, SearchSpace]
    serving: Serving
    order: npt.NDArray[np.intp] | None = None


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
        published: Share of the gap between old and new model that the paper closes, in words.
        compares_with_old: Whether its queries are those of the old model's row.
    """

    name: str
    source: str
    run: Callable[[Trial], Outcome]
    needs: Needs
    served: str
    beside: str = ""
    epochs: int = 0
    corpora: Collection[str] = CORPORA
    published: str = ""
    compares_with_old: bool = True


def answer_in_old(trial: Trial, bridged: Vectors, note: str = "") -> Outcome:
    """Search the stored vectors with mapped queries, (q, d_old)."""
    return Outcome(SearchSpace(bridged, trial.corpus.old), note=note)


def answer_in_new(
    trial: Trial, projected: Vectors, uncertainty: Vectors | None = None, note: str = ""
) -> Outcome:
    """Search a mapped gallery, (m, d_new), with plain new queries, and backfill it.

    Args:
        trial: Corpus and pairs.
        projected: The mapped gallery.
        uncertainty: Expected error of each point, (m,): the worst is embedded first.
        note: Settings that were chosen.
    """
    corpus = trial.corpus
    forward = SearchSpace(corpus.asked_new, projected)
    spaces = {Channel.FORWARD: forward, Channel.NEW: SearchSpace(corpus.asked_new, corpus.new)}
    order = None if uncertainty is None else np.argsort(-uncertainty, kind="stable")
    return Outcome(forward, backfill=Backfill(spaces, Single(), order), note=note)
