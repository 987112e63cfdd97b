"""Domain: projectors between the spaces of two models, in numpy, and their form on disk."""

from xbtmigrate.projectors.architectures import (
    Affine,
    Architecture,
    Mlp,
    beside,
    followed_by,
    project,
)
from xbtmigrate.projectors.artefact import Manifest
from xbtmigrate.projectors.projector import Projector
from xbtmigrate.projectors.shared_space import SharedSpace
from xbtmigrate.projectors.uncertainty import HeteroscedasticHead, NeighbourResidual, Uncertainty

__all__ = [
    "Affine",
    "Architecture",
    "HeteroscedasticHead",
    "Manifest",
    "Mlp",
    "NeighbourResidual",
    "Projector",
    "SharedSpace",
    "Uncertainty",
    "beside",
    "followed_by",
    "project",
]
