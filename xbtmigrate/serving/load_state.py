"""Read the serving state of a migration from its journal, its artefacts and a few counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xbtmigrate.errors import ArtefactError, ConfigError
from xbtmigrate.evaluation.servings import SERVED, find_serving, list_measured
from xbtmigrate.migration.phases import MigrationRecord, Phase, Stage
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.journal.journal import record_of
from xbtmigrate.qdrant.wire.own_collection import JOURNAL, record_id
from xbtmigrate.serving.artefact_source import ArtefactSource, ServingArtefacts, Stamp, names_of
from xbtmigrate.serving.formula import match_missing
from xbtmigrate.serving.round_trips import Procedure, Request
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.serving.state import UNTOUCHED, WITHOUT_OLD, ServingState
from xbtmigrate.types import Distance, Layout, Vectors

MIN_FORMULA_VERSION = (1, 14)
"""First server version with formulas."""
# While an application adds points, some may be missing at every count.
MAX_MISSING = 0.01
"""Largest share of points without a new vector in a gallery that counts as covered."""
FRACTION_STEP = 0.05
"""A new state begins after this share of a backfill; each state measures its thresholds again."""
# Phases that follow the passes of a backfill.
COMPLETE = (
    Phase.BACKFILLED,
    Phase.VERIFIED,
    Phase.CUTTING_OVER,
    Phase.CUT_OVER,
    Phase.ROLLING_BACK,
    *WITHOUT_OLD,
)


@dataclass(frozen=True, slots=True)
class StateStamp:
    """Everything that determines the serving state; equal stamps mean that nothing has changed."""

    record: MigrationRecord | None
    switched: bool
    stamp: Stamp
    waiting: bool
    few: bool


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads the serving state of one migration.

    Attributes:
        source: Where its artefacts are.
        serving: The serving that the application chose; "" serves the old vectors until the
            cutover, then the new ones.
        embedded: Whether the database is within this process.
        centre_queries: Whether queries of the new space are centred as training fitted it.
    """

    source: ArtefactSource
    serving: str
    embedded: bool
    centre_queries: bool = True

    def __post_init__(self) -> None:
        if not self.serving or self.serving in SERVED:
            return
        hint = f"choose one of {', '.join(SERVED)}"
        if self.serving not in list_measured():
            raise ConfigError(f"there is no serving '{self.serving}'", hint)
        why = find_serving(self.serving).only_measured
        raise ConfigError(f"'{self.serving}' is only measured, not served: {why}", hint)

    def load(self) -> Procedure[ServingState]:
        """Read everything."""
        parts = yield from self.source.parts()
        seen = yield from self._look(parts.plan)
        return (yield from self._state(parts, seen))

    def reload(self, before: ServingState) -> Procedure[ServingState]:
        """Read everything again if anything has changed.

        Returns:
            `before` itself where nothing has changed.
        """
        if before.phase is Phase.FINALIZED:
            # A further migration of the same name has another new model than this application.
            return before
        # A check takes a few small requests; the artefacts can be megabytes.
        seen = yield from self._look(before.plan)
        if seen == before.seen:
            return before
        parts = yield from self.source.parts()
        # Counts depend on the plan's collections: with another plan, count again.
        if parts.plan.digest != before.plan.digest:
            seen = yield from self._look(parts.plan)
        return (yield from self._state(parts, seen))

    def _look(self, plan: Plan) -> Procedure[StateStamp]:
        stamp = yield from self.source.stamp()
        record = yield from self._record(plan)
        switched, shadow = _is_switched(record), plan.target.layout is Layout.SHADOW
        if (
            record is None
            or record.phase in (*UNTOUCHED, *WITHOUT_OLD)
            or (switched and shadow)  # nothing waits there: the shadow is the collection now
        ):
            return StateStamp(_steady(record), switched, stamp, waiting=False, few=False)
        waiting, points = yield _counts(plan)
        # In a shadow, the first count is of existing copies, not of points that lack one.
        missing = points.count - waiting.count if shadow else waiting.count
        few = missing <= MAX_MISSING * points.count
        return StateStamp(_steady(record), switched, stamp, waiting=missing > 0, few=few)

    def _record(self, plan: Plan) -> Procedure[MigrationRecord | None]:
        # Before the first backfill there is no journal, and a look-up in it would be an error.
        [exists] = yield [lambda client: client.collection_exists(JOURNAL)]
        if not exists:
            return None
        wanted = record_id("migration", self.source.migration)
        [found] = yield [lambda client: client.retrieve(JOURNAL, [wanted], with_payload=True)]
        record = record_of(found[0].payload) if found else None
        # A record of an earlier, finished migration of this name does not belong to this plan.
        return None if record is None or plan.follows(record) else record

    def _state(self, parts: ServingArtefacts, seen: StateStamp) -> Procedure[ServingState]:
        plan, record = parts.plan, seen.record
        _check_same_plan(plan, record)
        old = ServingSpace(
            plan.collection.name,
            plan.collection.vector,
            plan.collection.size,
            Distance(plan.collection.distance),
        )
        target = plan.target
        new = ServingSpace(target.collection, target.vector, target.size, target.distance)
        layout = Layout(target.layout)
        phase = record.phase if record else None
        # A request cannot search two collections, and without old vectors one space answers anyway.
        fuses = False
        if layout is Layout.IN_PLACE and not self.embedded and phase not in WITHOUT_OLD:
            fuses = yield from _fuses(old.collection)
        return ServingState(
            migration=plan.migration,
            names=names_of(plan),
            phase=phase,
            plan=plan,
            layout=layout,
            old=old,
            new=new,
            switched=seen.switched,
            covered=_covered(record, few=seen.few),
            # A shadow gets an application's new points with the next run only: until the switch
            # some may be missing there at any time.
            waiting=seen.waiting or (layout is Layout.SHADOW and not seen.switched),
            asked=self.serving,
            bridge=parts.bridge,
            forward=parts.forward,
            calibration=parts.calibration,
            hubness=parts.hubness,
            away=self._away(parts, record),
            one_request=fuses,
            seen=seen,
        )

    def _away(self, parts: ServingArtefacts, record: MigrationRecord | None) -> Vectors | None:
        """Return the vector that centres queries at this share re-encoded; None for no centring."""
        if not self.centre_queries or parts.centring is None or record is None:
            return None
        return parts.centring.away(record.fraction)


def _counts(plan: Plan) -> Sequence[Request]:
    """Count the points without a new vector, or those in the shadow; and all points."""
    name, target = plan.collection.name, plan.target
    if target.layout is Layout.SHADOW:
        counted, condition = target.collection, None
    else:
        counted, condition = name, match_missing(target.vector)
    return [
        # Exact, because Qdrant's own counts are estimates: one missing point decides `waiting`.
        lambda client: client.count(counted, condition, exact=True),
        lambda client: client.count(name, exact=True),
    ]


def _steady(record: MigrationRecord | None) -> MigrationRecord | None:
    """Reduce a record to the fields that matter here; the others change with every batch."""
    if record is None:
        return None
    return MigrationRecord(
        migration=record.migration,
        phase=record.phase,
        plan_digest=record.plan_digest,
        projector_digest=record.projector_digest,
        stage=record.stage,
        # In steps, within which the best strength of centred queries does not change.
        fraction=math.floor(record.fraction / FRACTION_STEP + 1e-9) * FRACTION_STEP,
    )


def _is_switched(record: MigrationRecord | None) -> bool:
    """Return whether applications should query the new vectors.

    The phase decides, except during a rollback, which may have begun on either side of the switch:
    there the journal's copy of the switch does.
    """
    if record is None or record.phase is not Phase.ROLLING_BACK:
        # CUTTING_OVER is not among them: until the switch, the old vectors answer.
        return record is not None and record.phase in (Phase.CUT_OVER, *WITHOUT_OLD)
    return (record.switch or {}).get("active") == "new"


def _covered(record: MigrationRecord | None, *, few: bool) -> bool:
    """Return whether every point has had a new vector at some time, projected or encoded."""
    if record is None:
        return False
    # A strategy that projects gives every point a vector in its first pass; one that only encodes
    # has done so at fraction 1.
    projects = record.projector_digest != ""
    if record.phase in COMPLETE:
        return projects or record.fraction >= 1
    # The first pass projects; a run in a later stage has finished it.
    return few or (projects and record.stage in (Stage.ENCODE, Stage.SWEEP))


def _check_same_plan(plan: Plan, record: MigrationRecord | None) -> None:
    if record is not None and record.phase not in UNTOUCHED and record.plan_digest != plan.digest:
        raise ArtefactError(
            f"the artefacts at hand are of plan {plan.digest[:12]}, the migration "
            f"'{plan.migration}' runs plan {record.plan_digest[:12]}",
            "give the application the present folder .xbtmigrate, or none so that it reads what "
            "`xbtmigrate publish --yes` stored in Qdrant",
        )


def _fuses(collection: str) -> Procedure[bool]:
    """Return whether the server can fuse: it has formulas, and strict mode allows them here."""
    [info, found] = yield [
        lambda client: client.info(),
        lambda client: client.get_collection(collection),
    ]
    # Strict mode may refuse filters on unindexed payload keys, and a formula filters by the mark.
    numbers = tuple(int(part) for part in info.version.split("-")[0].split(".")[:2])
    strict: Any = found.config.strict_mode_config
    forbidden = strict and strict.enabled and strict.unindexed_filtering_retrieve is False
    return numbers >= MIN_FORMULA_VERSION and not forbidden
