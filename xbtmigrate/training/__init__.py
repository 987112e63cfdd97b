"""Fit projectors on pairs of both models' vectors. Torch is imported on use."""

from xbtmigrate.training.fit import FitOptions, FitReport, fit
from xbtmigrate.training.pairs import Pairs, PairSource, load_pairs, pairs_digest, save_pairs
from xbtmigrate.training.problem import Candidate, Fitted, Space, Trainer
from xbtmigrate.training.selection import Scores, SelectionTask, retrieval_scores
from xbtmigrate.training.trainers import AUTO, trainer_of, trainers_of

__all__ = [
    "AUTO",
    "Candidate",
    "FitOptions",
    "FitReport",
    "Fitted",
    "PairSource",
    "Pairs",
    "Scores",
    "SelectionTask",
    "Space",
    "Trainer",
    "fit",
    "load_pairs",
    "pairs_digest",
    "retrieval_scores",
    "save_pairs",
    "trainer_of",
    "trainers_of",
]
