"""Fit the space that both models share, for `train-projector --kind lambda_orthogonal`.

The space needs both directions, so it is fitted after them and apart from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xbtmigrate.training.fit import FitOptions, FitReport
from xbtmigrate.training.kinds.lambda_orthogonal import LAMBDA_ORTHOGONAL, SharedReport, fit_shared
from xbtmigrate.training.pairs import Pairs
from xbtmigrate.training.problem import make_problem
from xbtmigrate.training.selection import SelectionTask
from xbtmigrate.types import Direction, Distance


def fit_shared_space(
    pairs: Sequence[Pairs],
    task: SelectionTask,
    options: FitOptions,
    fits: Mapping[Direction, FitReport],
) -> SharedReport | None:
    """Fit the space that both models share, if its kind is among the options and it is possible.

    Args:
        pairs: What both directions were fitted on.
        task: Held-out retrieval to choose by.
        options: The kinds; the one for the shared space is "lambda_orthogonal".
        fits: The fit of each direction.

    Returns:
        None where that kind is not among the options, a direction is missing, a space knows
        lengths, or the forward map takes more than the old vector.
    """
    wanted = LAMBDA_ORTHOGONAL.kind in options.kinds
    cosine = {options.old.distance, options.new.distance} == {Distance.COSINE}
    if not wanted or not cosine or set(fits) != set(Direction):
        return None
    bridge, forward = (fits[each].projector for each in Direction)
    # The shared space maps old vectors alone.
    if forward.d_side:
        return None
    group = next(each for each in pairs if each.source == bridge.manifest.pair_source)
    spaces = (options.old, options.new)
    problem = make_problem(
        Direction.BRIDGE, group, task, spaces, seed=options.seed, threads=options.threads
    )
    return fit_shared(problem, bridge, forward)
