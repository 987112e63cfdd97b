"""Decide which point is re-encoded next."""

from xbtmigrate.ordering.benefit import BenefitOrdering, CombinedOrdering
from xbtmigrate.ordering.centroid import CentroidOrdering
from xbtmigrate.ordering.simple import (
    DemandOrdering,
    PriorityScores,
    RandomOrdering,
    UncertaintyOrdering,
    rank,
    score_points,
)

__all__ = [
    "BenefitOrdering",
    "CentroidOrdering",
    "CombinedOrdering",
    "DemandOrdering",
    "PriorityScores",
    "RandomOrdering",
    "UncertaintyOrdering",
    "rank",
    "score_points",
]
