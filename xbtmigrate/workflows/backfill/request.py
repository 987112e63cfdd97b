"""Workflows: what a backfill is asked to do, checked against the plan and what is there."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbtmigrate import registry
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.pace import Limits
from xbtmigrate.errors import ConfigError, GateError, StaleError
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.migration.phases import FREE, MigrationRecord, Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.duplicate_ids import refuse_duplicate_ids
from xbtmigrate.qdrant.journal.rivals import refuse_rivals
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.prerequisites import refuse_impossible
from xbtmigrate.workflows.store import Store, choice_of
from xbtmigrate.workflows.tally import Tally

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks of one run.

    Attributes:
        fraction: Share of the points to re-encode; None for what is under way, or the plan's.
        budget: Time after which to stop, such as "30m"; None for none.
        order: Name of the ordering; None for the plan's.
        batch_size: Points per batch.
        max_slowdown: Largest ratio of the queries' p95 to that before the run, or "off".
        max_rate: Most points written per second, or "off".
        metrics_port: Port that Prometheus finds the figures at; None for none.
        metrics_host: Address that this port is opened at.
        demand: Log of the traffic, for the orders that use it.
        until: End the encoding where the live gallery meets this gate; None for no gate.
        queries: Judged queries for the gate; None to make them from the points.
    """

    fraction: float | None
    budget: str | None
    order: str | None
    batch_size: int
    max_slowdown: str = "off"
    max_rate: str = "off"
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    demand: Path | None = None
    until: Gate | None = None
    queries: Path | None = None

    @property
    def seconds(self) -> float:
        """The budget in seconds.

        Raises:
            ConfigError: It is not a time.
        """
        if self.budget is None:
            return math.inf
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", self.budget.strip())
        if match is None or float(match[1]) <= 0:
            raise ConfigError(f"--budget '{self.budget}' is not a time", "write 90s, 30m, 8h or 2d")
        return float(match[1]) * _UNITS[match[2] or "s"]

    @property
    def limits(self) -> Limits:
        """What the run may do to others.

        Raises:
            ConfigError: A limit is not a number.
        """
        return Limits(parse_slowdown(self.max_slowdown), parse_rate(self.max_rate))


@dataclass(frozen=True, slots=True)
class Intent:
    """What a run would do.

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
        most = self.tally.points - self.tally.without_vector
        return max(0, min(most, math.ceil(self.fraction * self.tally.points)) - self.tally.encoded)

    @property
    def to_project(self) -> int:
        """Points still to be projected."""
        return self.tally.pending if self.projects else 0

    def document(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        rate = self.plan.throughput
        seconds = self.to_encode / rate.encode
        seconds += 2 * (self.to_encode + self.to_project) / rate.scan
        target = self.plan.target
        return {
            "collection": self.plan.collection.name,
            "strategy": self.plan.strategy.value,
            "layout": target.layout.value,
            "writes_to": f"{target.collection}, vector '{target.vector}'",
            "phase": self.record.phase.value if self.record else Phase.PLANNED.value,
            "order": self.order,
            "fraction": self.fraction,
            "until": None if self.until is None else self.until.text,
            **self.tally.document(),
            "to_project": self.to_project,
            "to_encode": self.to_encode,
            "estimated_seconds": round(seconds, 1),
            "next": self._next(),
        }

    def _next(self) -> str:
        """The command that does it."""
        command = "xbtmigrate backfill --online"
        if self.until is not None:
            return f'{command} --until "{self.until.text}"'
        return f"{command} --fraction {self.fraction:g}" if self.fraction else command


AS_PLANNED = Request(None, None, None, 256)
"""Nothing is asked but what the plan says, or what is under way."""


def parse_slowdown(text: str) -> float | None:
    """Read a limit to the slowdown; "off" is None.

    Raises:
        ConfigError: It is neither "off" nor a number above 1.
    """
    return _parse("--max-slowdown", text, 1.0, "1.5 for one and a half times the time before")


def parse_rate(text: str) -> float | None:
    """Read a limit to the rate; "off" is None.

    Raises:
        ConfigError: It is neither "off" nor a number above 0.
    """
    return _parse("--max-rate", text, 0.0, "2000 for 2000 points a second")


def _parse(option: str, text: str, above: float, example: str) -> float | None:
    if text == "off":
        return None
    try:
        value = float(text)
    except ValueError:
        value = above
    if not above < value < float("inf"):
        raise ConfigError(
            f"{option} '{text}' is neither a number above {above:g} nor off",
            f"for example {option} {example}",
        )
    return value


def intend(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    request: Request,
    record: MigrationRecord | None,
) -> Intent:
    """Check the plan and the request against each other and against what is there."""
    request.seconds, request.limits  # noqa: B018 - raise where they are not what they should be
    plan = artefacts.load_plan()
    plan.check_current(store.binding(models.new.fingerprint))
    if record is not None and record.phase in FREE:
        record = None
    if record is not None and record.plan_digest != plan.digest:
        raise StaleError(
            f"migration '{record.migration}' is {record.phase} under plan "
            f"{record.plan_digest[:12]}, but the plan here is {plan.digest[:12]}",
            f"restore that plan.json under {artefacts.folder}",
        )
    if not STRATEGIES[plan.strategy].writes:
        raise GateError(
            f"the plan says {plan.strategy}, which writes nothing: {plan.recommendation.reason}",
            'to backfill all the same set plan.strategy = "fastfill" or "full" and plan again',
        )
    if record is None:
        refuse_rivals(store.connection, plan.migration, plan.collections)
        refuse_impossible(store, choice_of(plan.target))
    refuse_duplicate_ids(store.connection, store.facts)
    fraction = _fraction(plan, request, record)
    order = _order(artefacts, request.order, plan)
    written = record is not None and record.stage is not None
    gallery = store.gallery(plan)
    return Intent(
        plan=plan,
        record=record,
        fraction=fraction,
        tally=Tally.take(gallery) if written else Tally(gallery.count()),
        order=order,
        until=request.until,
    )


def _order(artefacts: Artefacts, asked: str | None, plan: Plan) -> str:
    """The order that is asked for, else the one this migration was begun in, else the plan's.

    Raises:
        PluginError: There is no such ordering.
        ConfigError: The order is frozen as another one.
    """
    frozen = artefacts.load_order()
    name = asked or (frozen[1] if frozen is not None else plan.ordering)
    registry.load(registry.ORDERINGS, name)
    if frozen is not None and frozen[1] != name:
        raise ConfigError(
            f"the order of this migration is frozen as '{frozen[1]}', not '{name}'",
            f"run it without --order; to order anew delete {artefacts.order_file}: "
            "what is encoded stays encoded",
        )
    return name


def _fraction(plan: Plan, request: Request, record: MigrationRecord | None) -> float:
    """Share to re-encode: what is asked, else what is under way, else the plan's."""
    if not STRATEGIES[plan.strategy].encodes:
        if request.fraction or request.until:
            raise ConfigError(
                f"the plan says {plan.strategy}, which encodes nothing: neither --fraction nor "
                "--until can be given",
                'set plan.strategy = "fastfill" and plan again',
            )
        return 0.0
    reached = record.fraction if record is not None else 0.0
    if request.fraction is not None:
        return max(request.fraction, reached)
    if request.until is not None:
        return 1.0
    return reached if record is not None else plan.fraction
