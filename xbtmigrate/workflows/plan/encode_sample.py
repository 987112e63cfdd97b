"""Encode the sample of a plan with the new model, and measure how fast it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from xbtmigrate.types import Vectors
from xbtmigrate.workflows.encode_points import Report, encode_gallery, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows
from xbtmigrate.workflows.workspace import Workspace

RATE_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """Points of the sample, their new vectors, and the points encoded per second."""

    points: Points
    new: EmbeddedRows
    rate: float

    @property
    def pairs(self) -> tuple[Vectors, Vectors]:
        """Stored and new vectors of the points that could be embedded, (n, d_old), (n, d_new)."""
        return self.points.old[self.new.valid], self.new.vectors[self.new.valid]


def encode_sample(
    models: Models, workspace: Workspace, points: Points, report: Report
) -> EncodedSample:
    """Encode the sample with the new model, cut to what the time limit allows."""
    limit, cache = models.config.plan.measure_seconds, workspace.cache
    first = points.rows(range(min(RATE_SAMPLE, len(points))))
    # The first few items include the warm-up of the model, so they are not timed.
    warm, timed = first.rows(range(min(4, len(first)))), first.rows(range(4, len(first)))
    encode_gallery(models.new, cache, warm, models.stored)
    start = time.monotonic()
    fresh = len(timed) - int(cache.find(timed.hashes)[1].sum())
    encode_gallery(models.new, cache, timed, models.stored)
    seconds = max(time.monotonic() - start, 1e-6)
    # Vectors from the cache take no time, so the rate needs enough that are not.
    if fresh < len(timed) / 2:
        seconds, fresh = _time_again(models, timed)
    rate = max(fresh, 1) / seconds
    # As many as `plan.measure_seconds` allows, at this rate.
    size = int(np.clip(rate * limit, len(first), len(points)))
    points = points.rows(range(size))
    start, fresh = time.monotonic(), size - int(cache.find(points.hashes)[1].sum())
    vectors, valid = encode_gallery(
        models.new, cache, points, models.stored, report=report, stage="encoding"
    )
    # Texts differ in length: the whole sample says more than its first points.
    if fresh >= RATE_SAMPLE:
        rate = fresh / max(time.monotonic() - start, 1e-6)
    return EncodedSample(points, EmbeddedRows(vectors, valid), rate)


def _time_again(models: Models, points: Points) -> tuple[float, int]:
    """Encode a few known points again to time it; returns seconds and points."""
    usable = [row for row, content in enumerate(points.content(models.stored)) if content]
    # Few, because each of them is encoded, and perhaps paid for, a second time.
    chosen = points.rows(usable[:17])
    items, stored = chosen.content(models.stored), models.stored
    # A model whose vectors were all known is loaded only here.
    encode_readable(models.new, items[:1], stored, ids=chosen.ids[:1])
    start = time.monotonic()
    _, done = encode_readable(models.new, items[1:], stored, ids=chosen.ids[1:])
    return max(time.monotonic() - start, 1e-6), int(done.sum())
