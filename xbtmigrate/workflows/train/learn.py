"""Learn from queries with known answers after the projectors are fitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.scoring.centring import Centring
from xbtmigrate.training.fit import FitOptions, FitReport
from xbtmigrate.types import Direction
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.embed_queries import CollectedPoints
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.calibrate import CalibrationResult, calibrate_on_points
from xbtmigrate.workflows.train.centre import centre, centre_on_judged
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows
from xbtmigrate.workflows.workspace import Workspace


def learn_from_queries(
    store: Store,
    models: Models,
    workspace: Workspace,
    sampled: tuple[Points, EmbeddedRows],
    *,
    reports: Mapping[Direction, FitReport],
    options: FitOptions,
    report: Report,
) -> tuple[CalibrationResult | None, Centring | None]:
    """Learn from queries with known answers how scores compare, and how to centre queries.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files; what was learned is stored there.
        sampled: The points, and their new vectors where they could be embedded.
        reports: Fit of each direction.
        options: How they were fitted.
        report: Called with progress.

    Returns:
        The calibration and the centring, each None where it could not be learned.
    """
    points, new = sampled
    learned = centring = None
    # The calibration is bound to the digests of both maps, so it needs both.
    if len(reports) == len(Direction):
        report("calibrating", 0, 0)
        learned = _calibrate(store, models, workspace.artefacts, points, new, reports=reports)
    if Direction.FORWARD in reports:
        report("centring queries", 0, 0)
        forward = reports[Direction.FORWARD]
        # A row without its true vector cannot show what a query should have found.
        rows = np.flatnonzero(new.valid)
        centring = centre_on_judged(
            *(store, models, workspace),
            CollectedPoints(points.rows(rows), new.vectors[rows]),
            forward=forward,
            text_side=options.text_sides.get(Direction.FORWARD),
            report=report,
        )
        # Made queries only stand in for real ones, and fitting on them takes seconds.
        if centring is None and learned is not None and learned.trial is not None:
            centring = centre(learned.trial, forward, models.stored)
        workspace.artefacts.save_centring(centring)
    return learned, centring


def _calibrate(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    points: Points,
    new: EmbeddedRows,
    *,
    reports: Mapping[Direction, FitReport],
) -> CalibrationResult | None:
    fits = reports[Direction.BRIDGE], reports[Direction.FORWARD]
    learned = calibrate_on_points(store, models, points, new, fits, learn_benefit=True)
    if learned is not None:
        artefacts.save_calibration(learned.calibration)
        if learned.benefit is not None:
            artefacts.save_benefit(learned.benefit)
    return learned
