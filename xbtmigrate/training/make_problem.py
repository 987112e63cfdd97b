"""Check pairs and selection task, and arrange them for one direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xbtmigrate.errors import TrainingError
from xbtmigrate.projectors import beside
from xbtmigrate.training.pairs import Pairs
from xbtmigrate.training.problem import ModelSpace, Problem
from xbtmigrate.training.selection import SelectionTask
from xbtmigrate.types import Direction, Distance, Vectors, normalized

MIN_PAIRS = 32
"""Fewer pairs than this do not determine a map between two spaces."""
HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 1000


def make_problem(
    direction: Direction,
    pairs: Pairs,
    task: SelectionTask,
    spaces: tuple[ModelSpace, ModelSpace],
    *,
    seed: int,
    threads: int,
    held_out: bool = True,
) -> Problem:
    """Arrange pairs and task for a direction, and hold out a share of the pairs.

    Args:
        direction: Which way to map.
        pairs: Pairs of one source.
        task: Held-out retrieval.
        spaces: Old and new space.
        seed: Seed of the split and of every later random choice.
        threads: Threads torch may use.
        held_out: Whether a share is held out; false to fit on all pairs.

    Raises:
        TrainingError: The pairs or the task cannot be fitted.
    """
    old, new = spaces
    check_vectors(f"old vectors of the '{pairs.source}' pairs", pairs.old)
    check_vectors(f"new vectors of the '{pairs.source}' pairs", pairs.new)
    if len(pairs) < MIN_PAIRS:
        raise TrainingError(
            f"{len(pairs)} '{pairs.source}' pairs are too few to fit a projector",
            f"give at least {MIN_PAIRS}, preferably a few thousand; with fewer points, set "
            'plan.strategy = "full", which needs no projector',
        )
    sides = [(pairs.old, old.distance), (pairs.new, new.distance)]
    (x, x_distance), (y, y_distance) = sides if direction is Direction.FORWARD else sides[::-1]
    x = normalized(x) if x_distance is Distance.COSINE else np.asarray(x, np.float32)
    y = normalized(y) if y_distance is Distance.COSINE else np.asarray(y, np.float32)
    beside_x = pairs.side if direction is Direction.FORWARD else pairs.query_side
    side = 0
    if beside_x is not None:
        check_vectors(f"side vectors of the '{pairs.source}' pairs", beside_x)
        side, x = beside_x.shape[1], beside(x, beside_x, cosine=False)
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = min(MAX_HELD_OUT, max(2, int(HELD_OUT_SHARE * len(order)))) if held_out else 0
    held = order[:count]
    kept = np.sort(order[len(held) :])
    ids = [pairs.ids[row] for row in kept]
    return Problem(
        direction, pairs.source, ids, x[kept], y[kept], x[held], y[held],
        x_distance, y_distance, task, seed, threads, side,
    )  # fmt: skip


def check_task(task: SelectionTask, pairs: Sequence[Pairs]) -> None:
    """Refuse a task that does not fit the pairs.

    Raises:
        TrainingError: Dimensions differ, vectors are unusable, or relevant rows do not exist.
    """
    check_vectors("queries of the selection task", task.queries_new, constant=True)
    check_vectors("gallery of the selection task", task.gallery_old)
    for group in pairs:
        found = (group.old.shape[1], group.new.shape[1])
        wanted = (task.gallery_old.shape[1], task.queries_new.shape[1])
        if found != wanted:
            raise TrainingError(
                f"'{group.source}' pairs have {found[0]} -> {found[1]} dimensions, the selection "
                f"task {wanted[0]} -> {wanted[1]}",
                "make pairs and task with the same two models",
            )
    if len(task.relevant) != len(task.queries_new) or not all(len(r) for r in task.relevant):
        raise TrainingError(
            f"the selection task has {len(task.queries_new)} queries, not all with relevant rows",
            "give every query at least one relevant gallery row",
        )
    rows = np.concatenate([np.asarray(r, np.int64) for r in task.relevant])
    if rows.min() < 0 or rows.max() >= len(task.gallery_old):
        raise TrainingError(
            f"a relevant row of the selection task is outside its {len(task.gallery_old)} vectors",
            "leave out queries whose answer is not in the gallery",
        )


def check_vectors(name: str, vectors: Vectors, *, constant: bool = False) -> None:
    """Refuse vectors that no map can be fitted on.

    Args:
        name: What they are, for the message.
        vectors: Matrix (n, d).
        constant: Accept rows that are all equal.

    Raises:
        TrainingError: No rows, values that are not finite, or all rows equal.
    """
    if vectors.ndim != 2 or not vectors.size:
        raise TrainingError(f"there are no {name}", "take a larger sample of the collection")
    if not np.isfinite(vectors).all():
        count = int((~np.isfinite(vectors).all(axis=1)).sum())
        raise TrainingError(
            f"{count} of {len(vectors)} {name} hold values that are not finite",
            "find the points whose vectors are broken and leave them out",
        )
    if not constant and (vectors == vectors[0]).all():
        raise TrainingError(
            f"all {len(vectors)} {name} are equal",
            "check the encoder and the payload field: every point got the same vector",
        )
