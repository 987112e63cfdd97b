"""Choose the curves to draw, and find the points that were encoded before the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xbtmigrate.projectors import Projector
from xbtmigrate.workflows.evaluate.experiment import CurveOptions
from xbtmigrate.workflows.evaluate.traffic import read_demand
from xbtmigrate.workflows.evaluate.trial import Trial
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Curves:
    """Which curves of the mixed gallery to draw: every order with every serving.

    Attributes:
        orders: Names of orders; None for the usual ones.
        servings: Names of servings; None for the usual ones.
        demand: Log of the traffic, for the orders that use it.
    """

    orders: Sequence[str] | None = None
    servings: Sequence[str] | None = None
    demand: Path | None = None


USUAL = Curves()
"""The curves that are drawn by default."""


def choose_curves(
    store: Store,
    models: Models,
    workspace: Workspace,
    curves: Curves,
    trial: Trial,
    *,
    forward: Projector | None,
) -> CurveOptions:
    """Return which curves to draw, how to make their orders, and the rows already re-encoded."""
    hits = None if curves.demand is None else read_demand(store, models, curves.demand)
    # Points encoded for training pairs come first in any order: their vectors are paid for.
    spent = workspace.artefacts.load_spent()
    rows = [row for row, point in enumerate(trial.ids) if point in spent]
    usual = CurveOptions(
        make=lambda name: workspace.ordering(name, forward, hits),
        spent=np.array(rows, np.intp),
    )
    return replace(
        usual, orders=curves.orders or usual.orders, servings=curves.servings or usual.servings
    )
