"""The protocol of an engine, which carries out the passes of a backfill, and the built-in one.

An engine holds neither lease nor journal: the loop does, in the process of the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xbtmigrate import registry
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.backfill.pace import Limits, Pace
from xbtmigrate.backfill.passes import LocalPasses, Passes
from xbtmigrate.projectors import Projector
from xbtmigrate.workflows.backfill.request import BackfillRequest
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is going to do, checked, while nothing is written yet.

    Attributes:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        request: What the run does.
        projector: Old -> new; None where it needs none.
        batch_size: Points per batch.
        spend: Called with money that the engine has spent elsewhere.
    """

    store: Store
    models: Models
    workspace: Workspace
    request: BackfillRequest
    projector: Projector | None
    batch_size: int
    spend: Callable[[float], None]


class Crew(Protocol):
    """An engine that is ready for one run."""

    def pace(self, limits: Limits, batch_size: int, say: Callable[[str], None]) -> Pace:
        """Make the pace that all requests of the run keep; see `Pace`."""
        ...

    def passes(self, maker: VectorMaker) -> Passes:
        """Make what carries out the passes; `maker` knows what the run has found so far."""
        ...


class Engine(Protocol):
    """Carries out the passes of backfills."""

    def open(self, job: Job) -> AbstractContextManager[Crew]:
        """Get ready for a run; called before the lease is taken.

        Raises:
            XbtMigrateError: It cannot be carried out. Nothing has been written.
        """
        ...


class LocalEngine:
    """The built-in engine: this process alone."""

    def open(self, job: Job) -> AbstractContextManager[Crew]:  # noqa: ARG002
        """Return itself: nothing has to be prepared."""
        return nullcontext(self)

    def pace(self, limits: Limits, batch_size: int, say: Callable[[str], None]) -> Pace:
        """Make a pace for this process."""
        return Pace(limits, batch_size, say)

    def passes(self, maker: VectorMaker) -> Passes:
        """Return the passes in this process."""
        return LocalPasses(maker)


BUILT_IN = LocalEngine()


def choose_engine(name: str | None, options: Mapping[str, object], base: Path) -> Engine:
    """Build an engine from the options that were given.

    Args:
        name: Its name; None for the built-in one.
        options: What was given of its options.
        base: Folder that relative paths among them start from.

    Raises:
        PluginError: There is no such engine, or it does not take these options.
    """
    if name is None and not options:
        return BUILT_IN
    engine: Engine = registry.build(registry.ENGINES, name or "local", options, base)
    return engine
