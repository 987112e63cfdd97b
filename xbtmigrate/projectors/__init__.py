"""Fitted maps between the spaces of two models, in numpy, and their form on disk."""

from xbtmigrate.projectors.architectures import (
    Affine,
    Architecture,
    Mlp,
    beside,
    project,
)
from xbtmigrate.projectors.artefact import Manifest
from xbtmigrate.projectors.gaussian_process import GaussianProcess, ProcessVariance
from xbtmigrate.projectors.projector import EmbedTexts, Projector, open_side
from xbtmigrate.projectors.uncertainty import HeteroscedasticHead, NeighbourResidual, Uncertainty

__all__ = [
    "Affine",
    "Architecture",
    "EmbedTexts",
    "GaussianProcess",
    "HeteroscedasticHead",
    "Manifest",
    "Mlp",
    "NeighbourResidual",
    "ProcessVariance",
    "Projector",
    "Uncertainty",
    "beside",
    "open_side",
    "project",
]
