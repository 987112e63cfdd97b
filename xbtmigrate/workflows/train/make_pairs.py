"""Turn sampled points into pairs of both models' vectors and a held-out retrieval task.

Where the stored vectors embed text they are the old side, and the old model is not needed. Where
they embed images, the old text tower embeds the captions once, and each caption is also paired with
the stored vector of its image: in that case no image has to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from xbtmigrate.errors import TrainingError
from xbtmigrate.protocols import Encoder
from xbtmigrate.side_information import TextSide
from xbtmigrate.training.fit import FitOptions
from xbtmigrate.training.pairs import Pairs, PairSource
from xbtmigrate.training.problem import ModelSpace
from xbtmigrate.training.selection import SelectionTask
from xbtmigrate.types import Direction, Modality, Vectors
from xbtmigrate.workflows.encode_points import Report, encode_gallery, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

HELD_OUT_SHARE = 0.2
MAX_HELD_OUT = 1000
MAX_GALLERY = 5000


@dataclass(frozen=True, slots=True)
class Material:
    """Pairs to fit projectors on, and the task to choose between them.

    Attributes:
        pairs: Pairs of one or more sources, none of them held out.
        task: Held-out retrieval.
    """

    pairs: Sequence[Pairs]
    task: SelectionTask


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """Vectors of the same n points by one encoder, and which rows could be embedded."""

    vectors: Vectors
    valid: npt.NDArray[np.bool_]


def make_material(
    models: Models,
    workspace: Workspace,
    points: Points,
    new: EmbeddedRows | None,
    *,
    text_sides: Mapping[Direction, TextSide],
    report: Report,
) -> Material:
    """Make pairs and a selection task from points.

    Args:
        models: Both models.
        workspace: The migration's files.
        points: Sampled points.
        new: New vectors of the embedded field, where it was encoded.
        text_sides: What makes side vectors of texts, by direction.
        report: Called with progress.
    """
    seed, bridge = models.config.plan.seed, text_sides.get(Direction.BRIDGE)
    query_side = None if bridge is None else bridge.embed(points.texts)
    if models.stored is Modality.TEXT:
        if new is None:
            new = EmbeddedRows(
                *encode_gallery(models.new, workspace.cache, points, Modality.TEXT, report=report)
            )
        return pair_texts(points, new, seed, query_side)
    # Captions are not kept in the cache: its keys are hashes of the embedded field, the image.
    new_captions = embed(models.new, points, Modality.TEXT, report, "captions, new model")
    old_captions = None
    if models.has_old:
        old_captions = embed(models.old, points, Modality.TEXT, report, "captions, old model")
    return pair_captions(
        *(points, new_captions, old_captions, new), seed=seed, query_side=query_side
    )


def fit_options(store: Store, models: Models, kinds: Sequence[str], threads: int = 2) -> FitOptions:
    """Return the options of a fit between this migration's two models."""
    return FitOptions(
        old=ModelSpace(models.old_fingerprint, store.facts.distance),
        new=ModelSpace(models.new.fingerprint, store.new_distance),
        kinds=kinds,
        seed=store.config.plan.seed,
        threads=threads,
    )


def pair_texts(
    points: Points, new: EmbeddedRows, seed: int, query_side: Vectors | None = None
) -> Material:
    """Pair stored text vectors with new ones; each held-out point searches for itself.

    Args:
        points: Sampled points whose stored vectors embed their text.
        new: New vectors of the same texts.
        seed: Seed of the split.
        query_side: Side vectors of the texts for a bridge, where there are any.
    """
    usable = np.flatnonzero(new.valid)
    stored = EmbeddedRows(points.old, np.ones(len(points), np.bool_))
    # Held-out points come first: query i is answered by row i, and the cut drops no answer.
    kept, held = _split(usable, seed)
    gallery = np.concatenate([held, kept])[:MAX_GALLERY]
    pairs, final = (
        _pairs(points, rows, stored, new, PairSource.TEXT, query_side=query_side)
        for rows in (kept, held)
    )
    task = SelectionTask(
        queries_new=new.vectors[held],
        gallery_old=points.old[gallery],
        relevant=[np.array([row]) for row in range(len(held))],
        gallery_new=new.vectors[gallery],
        gallery_side=None if points.side is None else points.side[gallery],
        queries_side=None if query_side is None else query_side[held],
        # A point's own text is the query, so `full` finds it by definition, which proves nothing.
        self_asked=True,
        pairs=[final] if final else [],
    )
    return Material([pairs] if pairs else [], task)


def pair_captions(
    points: Points,
    new_captions: EmbeddedRows,
    old_captions: EmbeddedRows | None,
    new_images: EmbeddedRows | None,
    *,
    seed: int,
    query_side: Vectors | None = None,
) -> Material:
    """Pair captions and images; held-out captions search for the stored vectors of their images.

    Args:
        points: Sampled points whose stored vectors embed their image.
        new_captions: New vectors of their captions.
        old_captions: Old vectors of the captions; None where the old model cannot be run.
        new_images: New vectors of the images, where some were encoded.
        seed: Seed of the split.
        query_side: Side vectors of the captions for a bridge, where there are any.
    """
    measurable = new_captions.valid if new_images is None else new_captions.valid & new_images.valid
    usable, held = _split(np.flatnonzero(measurable), seed)
    gallery = np.concatenate([held, usable])[:MAX_GALLERY]
    # Pairs need only the caption; measuring needs the new image vector too.
    kept = np.setdiff1d(np.flatnonzero(new_captions.valid), held)
    stored = EmbeddedRows(points.old, np.ones(len(points), np.bool_))

    # An image as a query has no words.
    caption_pairs = partial(_pairs, query_side=query_side)

    def paired(rows: npt.NDArray[np.intp]) -> list[Pairs]:
        groups = [
            # The pairs that lift both directions above keep (docs/benchmarks.md, clip art).
            caption_pairs(points, rows, stored, new_captions, PairSource.CAPTION_IMAGE),
            caption_pairs(points, rows, old_captions, new_captions, PairSource.TEXT),
            _pairs(points, rows, stored, new_images, PairSource.IMAGE),
        ]
        return [group for group in groups if group is not None]

    task = SelectionTask(
        queries_new=new_captions.vectors[held],
        gallery_old=points.old[gallery],
        relevant=[np.array([row]) for row in range(len(held))],
        # Vectors for only some of the rows would compare systems on different tasks: none, then.
        queries_old=_all_valid(old_captions, held),
        gallery_new=_all_valid(new_images, gallery),
        gallery_side=None if points.side is None else points.side[gallery],
        queries_side=None if query_side is None else query_side[held],
        pairs=paired(held),
    )
    return Material(paired(kept), task)


def embed(
    encoder: Encoder, points: Points, modality: Modality, report: Report, stage: str
) -> EmbeddedRows:
    """Embed the points' texts or images, except those that cannot be embedded."""
    return EmbeddedRows(
        *encode_readable(
            encoder,
            points.content(modality),
            modality,
            ids=points.ids,
            report=report,
            stage=stage,
        )
    )


def _split(
    usable: npt.NDArray[np.intp], seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    if len(usable) < 2:
        raise TrainingError(
            f"only {len(usable)} of the sampled points can be embedded by the new model",
            "check payload.text and payload.image, and that the new model takes them",
        )
    shuffled = np.random.default_rng(seed).permutation(usable)
    # At least one is held out: without a task, no candidate can be chosen.
    count = min(MAX_HELD_OUT, max(1, int(HELD_OUT_SHARE * len(shuffled))))
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _pairs(
    points: Points,
    rows: npt.NDArray[np.intp],
    old: EmbeddedRows | None,
    new: EmbeddedRows | None,
    source: PairSource,
    *,
    query_side: Vectors | None = None,
) -> Pairs | None:
    """Pair the rows that both sides could embed; None where there are none."""
    if old is None or new is None:
        return None
    rows = rows[old.valid[rows] & new.valid[rows]]
    if not len(rows):
        return None
    return Pairs(
        ids=[points.ids[row] for row in rows],
        content_hashes=[points.hashes[row] for row in rows],
        old=old.vectors[rows],
        new=new.vectors[rows],
        source=source,
        side=None if points.side is None else points.side[rows],
        query_side=None if query_side is None else query_side[rows],
    )


def _all_valid(embedded: EmbeddedRows | None, rows: npt.NDArray[np.intp]) -> Vectors | None:
    if embedded is None or not embedded.valid[rows].all():
        return None
    return embedded.vectors[rows]
