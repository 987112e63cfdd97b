"""Fit projectors on pairs of both models' vectors. Torch is imported on use."""

from xbtmigrate.training.fit import FitOptions, FitReport, fit
from xbtmigrate.training.pairs import Pairs, PairSource, load_pairs, pairs_digest, save_pairs
from xbtmigrate.training.problem import Candidate, FittedMap, ModelSpace, Trainer
from xbtmigrate.training.selection import Scores, SelectionTask, measure_retrieval
from xbtmigrate.training.trainers import AUTO, find_trainer, find_trainers

__all__ = [
    "AUTO",
    "Candidate",
    "FitOptions",
    "FitReport",
    "FittedMap",
    "ModelSpace",
    "PairSource",
    "Pairs",
    "Scores",
    "SelectionTask",
    "Trainer",
    "find_trainer",
    "find_trainers",
    "fit",
    "load_pairs",
    "measure_retrieval",
    "pairs_digest",
    "save_pairs",
]
