"""Turn the options of `backfill` into a run that is safe to start.

Fractions only grow, the plan must be current, and the collection free of duplicate ids.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from xbtmigrate import registry
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.pace import Limits
from xbtmigrate.documents.backfill import IntentDocument
from xbtmigrate.errors import ConfigError, GateError, StaleError
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.migration.phases import FREE, MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.duplicate_ids import refuse_duplicate_ids
from xbtmigrate.qdrant.journal.rivals import refuse_rivals
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import BACKFILL, next_step
from xbtmigrate.workflows.prerequisites import refuse_impossible
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.tally import Tally


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """The options of one run.

    Attributes:
        fraction: Share of the points to re-encode; None for what is under way, or the plan's.
        order: Name of the ordering; None for the plan's.
        batch_size: Points per batch.
        limits: How far the run may slow down the queries of others, and how fast it may write.
        max_cost: Money after which the run stops, in the currency of the encoder's price; None for
            no limit.
        metrics_port: Port at which Prometheus finds the figures; None for none.
        metrics_host: Address at which this port is opened.
        demand: Log of the traffic, for the orders that use it.
        tenant_order: Which tenants first: "traffic", or the path of a list; None for no order.
        until: End the encoding where the live gallery meets this gate; None for no gate.
        queries: Judged queries for the gate; None to make them from the points.
    """

    fraction: float | None = None
    order: str | None = None
    batch_size: int = 256
    limits: Limits = Limits(max_slowdown=None)  # noqa: RUF009
    max_cost: float | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    demand: Path | None = None
    tenant_order: str | None = None
    until: Gate | None = None
    queries: Path | None = None


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """The goal of one run, before it starts.

    Attributes:
        plan: The plan it follows.
        record: Where the migration stands, None before the first run.
        fraction: Share to be re-encoded.
        tally: Exact counts of the collection now; none by kind before the first run.
        order: Name of the ordering.
        until: Gate that ends the encoding before `fraction`, if one was given.
    """

    plan: Plan
    record: MigrationRecord | None
    fraction: float
    tally: Tally
    order: str
    until: Gate | None = None

    @property
    def projects(self) -> bool:
        """Whether every point gets at least a projected vector."""
        return STRATEGIES[self.plan.strategy].projects

    @property
    def to_encode(self) -> int:
        """Points still to be encoded."""
        # Points that can get no vector count towards the share, but cannot be encoded to reach it.
        most = self.tally.points - self.tally.without_vector
        return max(0, min(most, math.ceil(self.fraction * self.tally.points)) - self.tally.encoded)

    @property
    def to_project(self) -> int:
        """Points still to be projected."""
        return self.tally.pending if self.projects else 0

    def document(self) -> IntentDocument:
        """Return the document of `backfill` without `--online`."""
        rate = self.plan.throughput
        seconds = self.to_encode / rate.encode
        seconds += 2 * (self.to_encode + self.to_project) / rate.scan
        target = self.plan.target
        return {
            "collection": self.plan.collection.name,
            "strategy": self.plan.strategy,
            "layout": target.layout,
            "writes_to": f"{target.collection}, vector '{target.vector}'",
            "phase": self.record.phase if self.record else Phase.PLANNED,
            "order": self.order,
            "fraction": self.fraction,
            "until": None if self.until is None else self.until.text,
            **self.tally.document(),
            "to_project": self.to_project,
            "to_encode": self.to_encode,
            "estimated_seconds": round(seconds, 1),
            **next_step(BACKFILL),
        }


def current_plan(
    store: Store, models: Models, artefacts: Artefacts, record: MigrationRecord | None
) -> Plan:
    """Load the plan, and check that it still fits the config, the collection and the record.

    Raises:
        StaleError: It does not fit; names each difference.
        GateError: It writes nothing.
    """
    plan = artefacts.load_plan()
    plan.check_current(store.binding(models.new.fingerprint))
    # Marks name their plan: under another one, every written point would be due again.
    begun = record is not None and record.phase not in FREE
    if record is not None and begun and record.plan_digest != plan.digest:
        raise StaleError(
            f"migration '{record.migration}' is {record.phase} under plan "
            f"{record.plan_digest[:12]}, but the plan here is {plan.digest[:12]}",
            f"restore that plan.json under {artefacts.folder}",
        )
    if not STRATEGIES[plan.strategy].writes:
        raise GateError(
            f"the plan is to {plan.strategy}, which writes nothing: {plan.recommendation.reason}",
            'to backfill nevertheless, set plan.strategy = "fastfill" or "full" and plan again',
        )
    return plan


def load_request(
    store: Store, models: Models, artefacts: Artefacts, record: MigrationRecord
) -> BackfillRequest:
    """Return the goal of a migration under way, checked against the present collection.

    Raises:
        XbtMigrateError: The plan is stale, or the collection cannot be used.
    """
    plan = current_plan(store, models, artefacts, record)
    refuse_duplicate_ids(store.connection, store.facts)
    fraction = record.fraction if STRATEGIES[plan.strategy].encodes else 0.0
    return BackfillRequest(
        plan, record, fraction, _count(store, plan, record), _order(artefacts, plan)
    )


def build_request(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    options: BackfillOptions,
    record: MigrationRecord | None,
) -> BackfillRequest:
    """Turn the options of `backfill` into a run that is safe: fractions only grow.

    Raises:
        XbtMigrateError: The plan is stale or does not go with the options, or the collection
            cannot be used.
    """
    plan = current_plan(store, models, artefacts, record)
    # Nothing was written under such a record, so it binds nothing.
    if record is not None and record.phase in FREE:
        record = None
    if record is None:
        # Only at the first run: from then on the journal reserves these collections.
        refuse_rivals(store.connection, plan.migration, plan.collections)
        refuse_impossible(store, plan.target)
    refuse_duplicate_ids(store.connection, store.facts)
    fraction, order = _fraction(plan, options, record), _order(artefacts, plan, options.order)
    return BackfillRequest(
        plan, record, fraction, _count(store, plan, record), order, options.until
    )


def _count(store: Store, plan: Plan, record: MigrationRecord | None) -> Tally:
    """Count by kind once something is written; before that, every point is due."""
    gallery = store.gallery(plan)
    written = record is not None and record.stage is not None
    return Tally.take(gallery) if written else Tally(gallery.count())


def _order(artefacts: Artefacts, plan: Plan, asked: str | None = None) -> str:
    """Return the order of the options, else the one this migration began with, else the plan's.

    Raises:
        PluginError: There is no such ordering.
        ConfigError: The order is frozen as another one.
    """
    frozen = artefacts.load_order()
    name = asked or (frozen[1] if frozen is not None else plan.ordering)
    registry.load(registry.ORDERINGS, name)
    # A run follows the frozen file, so another --order would be ignored silently.
    if frozen is not None and frozen[1] != name:
        raise ConfigError(
            f"the order of this migration is frozen as '{frozen[1]}', not '{name}'",
            f"run it without --order; to order anew delete {artefacts.order_file}: "
            "what is encoded stays encoded",
        )
    return name


def _fraction(plan: Plan, options: BackfillOptions, record: MigrationRecord | None) -> float:
    """Return the share to re-encode: the options', else the present run's, else the plan's."""
    if not STRATEGIES[plan.strategy].encodes:
        if options.fraction or options.until:
            raise ConfigError(
                f"the plan is to {plan.strategy}, which encodes nothing: neither "
                "--fraction nor --until can be given",
                'set plan.strategy = "fastfill" and plan again',
            )
        return 0.0
    reached = record.fraction if record is not None else 0.0
    if options.fraction is not None:
        # A true vector is not replaced by a projected one, so a smaller fraction changes nothing.
        return max(options.fraction, reached)
    if options.until is not None:
        # The gate ends the encoding; the share it takes is not known before.
        return 1.0
    return reached if record is not None else plan.fraction
