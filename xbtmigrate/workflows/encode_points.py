"""Embed items except those that cannot be embedded; never encode the same content twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xbtmigrate.backfill.equal_contents import find_distinct
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.errors import UnreadableSourceError
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality, PointId, Vectors
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points

BATCH = 256


class Report(Protocol):
    """The callback by which a procedure reports its progress."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Report a stage's name, what is done, the total (0: none), and the best so far."""
        ...


def encode_readable(
    encoder: Encoder,
    items: Sequence[str | None],
    modality: Modality,
    *,
    ids: Sequence[PointId] | None = None,
    report: Report = lambda *_: None,
    stage: str = "encoding",
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Embed n items, leaving out those that are missing or cannot be embedded.

    Returns:
        Float32 vectors of shape (n, d), zero where nothing could be embedded, and the mask of
        rows that were, shape (n,).

    Raises:
        EncoderError: The encoder failed as a whole.
    """
    vectors = np.zeros((len(items), encoder.dimension), np.float32)
    done = np.zeros(len(items), np.bool_)
    for start in range(0, len(items), BATCH):
        rows = [row for row in range(start, min(start + BATCH, len(items))) if items[row]]
        # An encoder refuses the whole batch and names the rows it cannot embed: retry without them.
        while rows:
            try:
                vectors[rows] = encoder.encode(
                    [str(items[row]) for row in rows],
                    modality,
                    ids=None if ids is None else [ids[row] for row in rows],
                )
                done[rows] = True
                break
            except UnreadableSourceError as error:
                rows = [row for place, row in enumerate(rows) if place not in error.failures]
        report(stage, min(start + BATCH, len(items)), len(items))
    return vectors, done


def encode_questions(
    models: Models, questions: Questions, *, report: Report = lambda *_: None
) -> tuple[Questions, Vectors | None, Vectors]:
    """Embed queries with both models, leaving out those that one of them cannot embed.

    Comparisons are paired, so every system must answer the same queries.

    Returns:
        The m queries that are left, and their old and new vectors, (m, d_old) and (m, d_new); None
        for the old ones where the old model is gone.

    Raises:
        EncoderError: A model failed as a whole.
    """

    def embed(encoder: Encoder, name: str) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        return encode_readable(
            encoder, questions.texts, questions.modality, report=report, stage=f"queries, {name}"
        )

    old, readable = embed(models.old, "old model") if models.has_old else (None, None)
    new, readable_too = embed(models.new, "new model")
    rows = np.flatnonzero(readable_too if readable is None else readable & readable_too)
    return questions.select(rows), None if old is None else old[rows], new[rows]


def encode_gallery(
    encoder: Encoder,
    known: VectorCache,
    points: Points,
    modality: Modality,
    *,
    report: Report = lambda *_: None,
    stage: str = "encoding",
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Embed points of the gallery with the new model, keeping every vector for later use.

    Returns:
        As `encode_readable`.
    """
    # The cache is keyed by content, so points with equal content share a vector.
    hashes = np.array(points.hashes, dtype=object)
    vectors, done = known.find(points.hashes)
    todo = np.flatnonzero(~done)
    firsts, places = find_distinct(hashes[todo].tolist())
    distinct, contents = todo[firsts], points.content(modality)
    for start in range(0, len(distinct), 4 * BATCH):
        rows = distinct[start : start + 4 * BATCH]
        found, readable = encode_readable(
            encoder,
            [contents[row] for row in rows],
            modality,
            ids=[points.ids[row] for row in rows],
        )
        vectors[rows], done[rows] = found, readable
        # Saved after every 1,024 points: a kill loses only those of the present block.
        known.add(list(hashes[rows[readable]]), found[readable])
        report(stage, min(start + 4 * BATCH, len(distinct)), len(distinct))
    vectors[todo], done[todo] = vectors[distinct[places]], done[distinct[places]]
    return vectors, done
