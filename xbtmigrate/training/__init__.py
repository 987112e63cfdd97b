"""Training: from pairs of both models' vectors to a fitted projector. Torch is imported on use."""

from xbtmigrate.training.fit import AUTO, TRAINERS, FitOptions, FitReport, fit, trainers_of
from xbtmigrate.training.pairs import Pairs, PairSource, load_pairs, pairs_digest, save_pairs
from xbtmigrate.training.problem import Candidate, Space, Trainer
from xbtmigrate.training.selection import Scores, SelectionTask, retrieval_scores

__all__ = [
    "AUTO",
    "TRAINERS",
    "Candidate",
    "FitOptions",
    "FitReport",
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
    "trainers_of",
]
