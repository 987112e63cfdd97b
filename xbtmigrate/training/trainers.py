"""Look up the kinds of projector by name, in the entry-point group xbtmigrate.projectors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import cast

from xbtmigrate import registry
from xbtmigrate.errors import ConfigError, TrainingError
from xbtmigrate.training.problem import Trainer

AUTO = "auto"


def find_trainer(kind: str) -> Trainer:
    """Look a kind up.

    Raises:
        PluginError: There is none of this name, or it cannot be imported.
    """
    return cast("Trainer", registry.load(registry.PROJECTORS, kind))


def find_trainers(kinds: Sequence[str]) -> list[Trainer]:
    """Look kinds up, closed forms first, since a network may start from one of them.

    Imports no torch, so call it before anything is encoded.

    Args:
        kinds: Names of kinds; "auto" means the closed forms, which need no torch.

    Raises:
        ConfigError: There is no such kind.
        TrainingError: A kind needs torch, which is not installed.
    """
    known = registry.list_names(registry.PROJECTORS)
    unknown = sorted(set(kinds) - {AUTO, *known})
    if unknown or not kinds:
        raise ConfigError(
            f"unknown kind of projector: {', '.join(unknown) or 'none given'}",
            f"use one or more of: {AUTO}, {', '.join(known)}",
        )
    # A kind that was not named is imported only if "auto" may include it, so that a
    # broken package does not stop the others.
    found = [find_trainer(name) for name in known if name in kinds or AUTO in kinds]
    trainers = [
        each for each in found if each.kind in kinds or (AUTO in kinds and each.closed_form)
    ]
    # Checked before points are encoded for pairs, which may cost money.
    neural = [each.kind for each in trainers if not each.closed_form]
    if neural and find_spec("torch") is None:
        closed = ",".join(name for name in known if find_trainer(name).closed_form)
        raise TrainingError(
            f"these kinds need torch, which is not installed: {', '.join(neural)}",
            f"pip install 'xbtmigrate[train]', or use --kind {closed}",
        )
    # False sorts before True, and equals keep the registry's order.
    return sorted(trainers, key=lambda each: not each.closed_form)
