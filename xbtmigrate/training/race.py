"""Try every kind on every source of pairs, but train only the leaders in full.

Closed forms are solved on all pairs. Networks run a heat first, for a few of the epochs; the leader
of the heats goes on to all pairs and all epochs (successive halving, Jamieson & Talwalkar 2016).
Heats save on epochs rather than on pairs: with few pairs no network gets beyond the closed form it
starts from, and what is right for many pairs looks wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings, Trainer
from xbtmigrate.types import Direction

FEW_PAIRS = 2000
"""With up to this many pairs, networks are trained in full at once, without a heat."""
HEAT_PAIRS = 8000
"""Pairs of a heat, at most; from three sources two thirds of that, to keep the time."""
HEAT_EPOCHS = 3
FINALISTS = 1
TRIAL_QUERIES = 300
"""Held-out queries on which the settings of a closed form are compared."""

OnFit = Callable[[int, int, str], None]
"""Called with the number of finished fits, that of all, and a description of the best one."""


def race(
    trainers: Sequence[Trainer],
    problems: Sequence[Problem],
    named: Collection[str],
    progress: OnFit,
) -> list[Candidate]:
    """Fit every trainer to every problem.

    Args:
        trainers: Closed forms first.
        problems: The same direction with pairs of several sources.
        named: Kinds that are to be trained in full even if their heats are not the best.
        progress: Called before each fit.

    Returns:
        A candidate for each problem and setting, the leaders' from the full training.
    """
    done: list[Candidate] = []
    heats: list[_Heat] = []
    rounds = list(product(trainers, problems))
    for number, (trainer, problem) in enumerate(rounds):
        # Only candidates of the same pairs: networks start from the ridge penalty that was best on
        # these.
        found = trainer.settings(problem, [c for c in done if c.source == problem.source])
        for settings, solved in _promising(trainer, problem, found):
            tried = [*done, *(each.candidate for each in heats)]
            progress(number, len(rounds), _best(tried))
            # Only networks have epochs to save on.
            if "epochs" not in settings or len(problem.x) <= FEW_PAIRS:
                done.append(attempt(trainer, problem, settings, solved))
            else:
                count = min(HEAT_PAIRS, 2 * HEAT_PAIRS // len(problems))
                heats.append(_heat(trainer, problem, settings, count))
    finals = _leaders(heats, named)
    for number, each in enumerate(finals):
        progress(len(rounds) + number, len(rounds) + len(finals), _best(done))
        done.append(attempt(each.trainer, each.problem, each.settings))
    progress(len(rounds) + len(finals), len(rounds) + len(finals), _best(done))
    # Heats of other candidates stay in the report, for comparison.
    return done + [each.candidate for each in heats if each not in finals]


def preference(candidate: Candidate, problem: Problem, *, closed: bool) -> tuple[float, ...]:
    """Return the key by which candidates are ranked; larger is better.

    By retrieval, with two exceptions. A projected gallery of a dot or Euclidean space lives among
    true new vectors, and retrieval alone does not see that all of its vectors are too short: there
    the error decides. Where points ask for themselves, every good map finds nearly all of them; how
    near its vectors are to the true ones foretells much better what real queries find. That holds
    among closed forms, which are fitted to be near, and not for networks with other losses.

    Args:
        candidate: What was fitted and measured.
        problem: What it was fitted on.
        closed: Whether all that are compared are closed forms.
    """
    if problem.direction is Direction.FORWARD and not problem.cosine:
        return (-candidate.squared_error,)
    if closed and problem.task.self_asked:
        return (candidate.cosine,)
    return candidate.scores.order


def _promising(
    trainer: Trainer, problem: Problem, found: Sequence[Settings]
) -> list[tuple[Settings, _Solved | None]]:
    """Keep the best settings of a closed form, with and without side vectors, as they were solved.

    Settings without a rival are not solved yet.
    """
    if not trainer.closed_form:
        return [(each, None) for each in found]
    small = problem.shrink(len(problem.x), TRIAL_QUERIES)

    def order(tried: tuple[Settings, _Solved]) -> tuple[float, ...]:
        measured = _measured(trainer, small, tried[0], tried[1].fitted, quick=True)
        return preference(measured, problem, closed=True)

    leaders: list[tuple[Settings, _Solved | None]] = []
    for side in (False, True):
        view = [each for each in found if bool(each.get("side")) is side]
        if len(view) > 1:
            # Solved on `problem`, which measures the moments of its pairs only once.
            rivals = [(each, _solve(trainer, problem, each)) for each in view]
            leaders.append(max(rivals, key=order))
        else:
            leaders += [(each, None) for each in view]
    return leaders


def attempt(
    trainer: Trainer, problem: Problem, settings: Settings, solved: _Solved | None = None
) -> Candidate:
    """Fit, unless that is done already, and measure once."""
    solved = solved or _solve(trainer, problem, settings)
    measured = _measured(trainer, problem, settings, solved.fitted)
    return replace(measured, seconds=solved.seconds)


@dataclass(frozen=True, slots=True)
class _Solved:
    """A fitted map, and the seconds that it took without its scoring."""

    fitted: FittedMap
    seconds: float


def _solve(trainer: Trainer, problem: Problem, settings: Settings) -> _Solved:
    started = time.monotonic()
    fitted = trainer.fit(problem.with_inputs_for(settings), settings)
    return _Solved(fitted, time.monotonic() - started)


def _measured(
    trainer: Trainer,
    problem: Problem,
    settings: Settings,
    fitted: FittedMap,
    *,
    quick: bool = False,
) -> Candidate:
    """Measure a map on held-out queries and pairs."""
    problem = problem.with_inputs_for(settings)
    mapped, target = problem.project(fitted.architecture, problem.x_held), problem.y_held
    norms = np.linalg.norm(mapped, axis=1) * np.linalg.norm(target, axis=1)
    cosine = float(np.mean((mapped * target).sum(axis=1) / np.maximum(norms, 1e-12)))
    score = problem.quick_score if quick else problem.score
    return Candidate(
        kind=trainer.kind,
        source=problem.source,
        pairs=len(problem.x),
        settings=settings,
        scores=score(fitted.architecture),
        cosine=cosine,
        squared_error=float(np.mean((mapped - target) ** 2)),
        seconds=0.0,
        fitted=fitted,
    )


@dataclass(frozen=True, eq=False)
class _Heat:
    """A short training, with all that the full one needs."""

    trainer: Trainer
    problem: Problem
    settings: Settings
    candidate: Candidate


def _heat(trainer: Trainer, problem: Problem, settings: Settings, count: int) -> _Heat:
    rows = np.random.default_rng(problem.seed).permutation(len(problem.x))[:count]
    # A whole schedule in fewer epochs: the learning rate ends low, as in the full training.
    shorter = {**settings, "epochs": HEAT_EPOCHS}
    short = attempt(trainer, problem.take_subset(np.sort(rows)), shorter)
    return _Heat(trainer, problem, settings, short)


def _leaders(heats: Sequence[_Heat], named: Collection[str]) -> list[_Heat]:
    """Return the best heats of all, and the best of each kind that is named."""
    ranked = sorted(heats, key=lambda each: each.candidate.scores.order, reverse=True)
    # Reversed, so that the best heat of a kind is the one that stays.
    first = {each.trainer.kind: each for each in reversed(ranked)}
    wanted = [each for kind, each in first.items() if kind in named]
    return [*ranked[:FINALISTS], *(each for each in wanted if each not in ranked[:FINALISTS])]


def _best(tried: Sequence[Candidate]) -> str:
    """Return the best kind so far, with its mean reciprocal rank."""
    if not tried:
        return ""
    found = max(tried, key=lambda each: each.scores.order)
    return f"best {found.kind} {found.scores.mrr:.3f}"
