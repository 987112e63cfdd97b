"""Keep a run from slowing down other clients' queries, and let other shells control it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from xbtmigrate.backfill.pace import Limits, Pace, WaitReason, Windows
from xbtmigrate.backfill.paced_gallery import PacedGallery
from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.documents.status import LoadDocument
from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.migration.phases import utc_now
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.collection.health import OptimizerQueue
from xbtmigrate.qdrant.collection.other_clients import OtherClients
from xbtmigrate.qdrant.collection.probes import Probes, draw_queries, spacing_of
from xbtmigrate.qdrant.gallery.open_gallery import EMBEDDED_PAGE, PAGE
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.workflows.backfill.request import BackfillOptions
from xbtmigrate.workflows.store import Store

log = logging.getLogger("xbtmigrate.load")
# Seconds, as docs/load.md states them: the thread's step, how often commands and the server's state
# are read, the longest measurement and wait for the optimizer, and the work between two waits.
TICK = 0.25
ASK_EVERY = 1.0
LOOK_EVERY = 2.0
CHECK_PATIENCE = 30.0
BACKLOG_PATIENCE = 60.0
BACKLOG_REST = 15.0


class _Published(LoadDocument):
    token: str


@dataclass(slots=True)
class LoadMonitor:
    """Watches one run from a separate thread: probes, backlog, commands, and the published load.

    Attributes:
        connection: The open Qdrant.
        facts: The collection whose queries are protected.
        control: Where other shells leave commands, and where the run confirms them.
        backlog: What the server has still to do for the collection that is written.
        own: Limits the run was started with.
        seed: Seed of the drawn probe queries.
        pace: The pace that it sets.
    """

    connection: Connection
    facts: CollectionFacts
    control: Control
    backlog: OptimizerQueue
    own: Limits
    seed: int
    pace: Pace
    _windows: Windows = field(default_factory=Windows)
    _queries: list[str] = field(default_factory=list)
    _probes: Probes | None = None
    _probed: int = 0
    _others: OtherClients | None = None
    _alone: bool = False
    _blind: bool = False
    _token: str = ""
    _published: tuple[str | None, str] = ("", "")
    _due: dict[str, float] = field(default_factory=dict)
    _check_ends: float | None = None
    _backlog_ends: float = 0.0
    _busy: bool = False
    _refusals: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Apply the commands in force, then start the thread."""
        # In this thread, since an earlier pause or limit has to hold before the first write.
        self.tick(time.monotonic())
        # From here on, a tick that fails is made up for by the next one, a moment later.
        brief = self.connection.brief()
        self.connection = self.backlog.connection = brief
        self.control = replace(self.control, connection=brief)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop the thread, and publish that the run has ended."""
        self._ended.set()
        # Joined before publishing, or a late tick could overwrite "ended".
        if self._thread is not None:
            self._thread.join()
        self._end_probes()
        with suppress(XbtMigrateError):
            self.control.publish_load({**self.state(), "state": "ended", "reason": ""})

    def tick(self, now: float) -> None:
        """Do once what is due at this time."""
        if self._is_due("ask", now, ASK_EVERY):
            self._obey()
        self._probe(now)
        due = self._is_due("look", now, LOOK_EVERY)
        if due:
            self._look(now)
        state = self.state()
        # A new state or token is published at once: `pause` and `throttle` wait for it.
        if due or (state["state"], state["token"]) != self._published:
            self._published = (state["state"], state["token"])
            self.control.publish_load(state)

    def state(self) -> _Published:
        """Return the load to publish, with the token of the command in force."""
        return {**read_load(self.pace, self.connection), "token": self._token}

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            # If Qdrant is away the run itself reports it, and the next tick is a moment later.
            with suppress(XbtMigrateError):
                self.tick(time.monotonic())

    def _is_due(self, what: str, now: float, every: float) -> bool:
        if now < self._due.get(what, now):
            return False
        self._due[what] = now + every
        return True

    def _obey(self) -> None:
        command = self.control.read_command()
        if command.token == self._token:
            return
        # Each command gives the probes another chance: new limits may call for them.
        self._token, self._blind = command.token, False
        self.pace.limit_to(command.limits or self.own)
        if command.limits:
            log.info("limits changed at %s: %s", command.asked_at, _shown(command.limits))
        if command.paused:
            text = f"by `xbtmigrate pause` at {command.asked_at}; `xbtmigrate resume` continues it"
            self.pace.hold(WaitReason.REQUEST, text)
        else:
            self.pace.release(WaitReason.REQUEST, "resumed by `xbtmigrate resume`")

    def _probe(self, now: float) -> None:
        """Pass the times of the probe queries to the pace."""
        if self.pace.limits.max_slowdown is None or self._blind or self._alone:
            return
        if self._probes is None and not self._start_probes():
            return
        assert self._probes is not None
        times = self._probes.take()
        checking = WaitReason.CHECK in self.pace.holds
        if checking and self._check_ends is None:
            # Until now the queries were timed with the run.
            self._check_ends, times = now + CHECK_PATIENCE, []
        for each in times:
            self._windows.add(each)
        overdue = checking and self._check_ends is not None and now >= self._check_ends
        verdict = self._windows.take_p95(hurried=overdue)
        if verdict is not None:
            # While the optimizer works off this run's writes, the load counts as the run's.
            self.pace.judge(verdict, settled=not self._busy)
            self._check_ends = None
        elif self._probes.refused:
            self._go_blind(self._probes.refused)
        elif overdue:
            self._go_blind(f"only {len(self._windows)} were answered in {CHECK_PATIENCE:.0f} s")

    def _start_probes(self) -> bool:
        # Probes run in a separate process, over REST.
        rest = self.connection.rest
        if rest is None:
            self._go_blind("Qdrant is reached by gRPC alone")
            return False
        try:
            self._queries = self._queries or draw_queries(self.connection, self.facts, self.seed)
        except XbtMigrateError as error:
            self._go_blind(error.message)
            return False
        if not self._queries:
            self._go_blind("no stored vector was found to search with")
            return False
        if self._others is None:
            self._others = OtherClients(rest, self._count_probes)
            # Before the first probe: whether the server counts the probes shows whose count it is.
            self._others.look(time.monotonic())
        self._probes = Probes(rest, self.facts.collection, self._queries, spacing_of(self.facts))
        if self.pace.baseline is None:
            # The baseline is the time of queries without the run: write nothing until it is known.
            self.pace.hold(WaitReason.CHECK, "measuring how long queries take without this run")
        return True

    def _end_probes(self) -> None:
        if self._probes is not None:
            self._probes.close()
            self._probed += self._probes.answered
            self._probes = None
            self._windows.clear()

    def _count_probes(self) -> int:
        return self._probed + (0 if self._probes is None else self._probes.answered)

    def _look_for_others(self, now: float) -> None:
        """Go at full speed, without probes, while no other client queries the server."""
        if self._others is None or self.pace.baseline is None:
            return
        alone = not self._others.look(now)
        if alone and not self._alone:
            self._end_probes()
            self._others.restart()
            self.pace.run_free()
            log.info("no other client queries the server: the run goes at full speed")
        elif self._alone and not alone:
            log.info("other clients query the server: the run spares their queries again")
        self._alone = alone

    def _go_blind(self, why: str) -> None:
        """Continue without probes, and log it: nothing is slowed down by guesses."""
        self._blind = True
        self._end_probes()
        log.warning("queries cannot be timed, so their slowdown is not limited: %s", why)
        self.pace.release(WaitReason.CHECK)
        self.pace.limit_to(replace(self.pace.limits, max_slowdown=None))

    def _look(self, now: float) -> None:
        """Wait while the server is behind, but not forever."""
        # The connection retries a 429 by itself; new ones since the last look halve the pace here.
        refusal = self.connection.retries.pauses.get(WaitReason.SERVER_LIMIT)
        if refusal is not None and refusal.count > self._refusals:
            self._refusals = refusal.count
            # Only measurements of queries would make the run faster again.
            if not self._alone:
                self.pace.back_off("the server refused requests (429)")
        # `--max-slowdown off` goes as fast as it can: it does not wait for the optimizer either.
        if self.pace.limits.max_slowdown is None:
            return
        self._look_for_others(now)
        self._busy, why = self.backlog.look()
        # The backlog is mostly this run's own: it is no reason to wait while queries are fast.
        wait = bool(why) and self.pace.suffering
        # One clock for both: during a wait when it ends, after it when the next one may begin.
        held = WaitReason.BACKLOG in self.pace.holds
        if held and (not wait or now >= self._backlog_ends):
            behind = "the server is still behind" if wait else "queries are fast again"
            done = behind if why else "the server has caught up"
            self.pace.release(WaitReason.BACKLOG, f"going on: {done}")
            self._backlog_ends = now + BACKLOG_REST
        elif wait and not held and now >= self._backlog_ends:
            self._backlog_ends = now + BACKLOG_PATIENCE
            self.pace.hold(WaitReason.BACKLOG, why)


@contextmanager
def pace_gallery(
    store: Store,
    plan: Plan,
    request: BackfillOptions,
    should_stop: Callable[[], str],
    times: StepTimes,
    *,
    make_pace: Callable[[Limits, int, Callable[[str], None]], Pace] = Pace,
) -> Iterator[PacedGallery]:
    """Yield the plan's gallery, paced so that other clients' queries stay fast.

    An embedded database has no other clients: there only a limit to the rate holds.

    Args:
        store: What the migration has in Qdrant.
        plan: Its plan.
        request: The options of the run.
        should_stop: A reason to end the run, "" for none.
        times: Measures the waits, and how long marks take.
        make_pace: Makes the pace, of limits, points in a write, and what shows a line of text.
    """
    connection, limits = store.connection, request.limits
    gallery, size = store.gallery(plan, times), request.batch_size
    if connection.embedded:
        alone = Pace(replace(limits, max_slowdown=None), max(size, EMBEDDED_PAGE), log.info)
        yield PacedGallery(gallery, alone, should_stop, times)
        return
    pace = make_pace(limits, max(size, PAGE), log.info)
    watch = LoadMonitor(
        connection=connection,
        facts=store.facts,
        control=Control(connection, store.config.migration),
        backlog=OptimizerQueue(connection, plan.target.collection),
        own=limits,
        seed=store.config.plan.seed,
        pace=pace,
    )
    try:
        watch.start()
        yield PacedGallery(gallery, pace, should_stop, times)
    finally:
        watch.end()


def read_load(pace: Pace, connection: Connection) -> LoadDocument:
    """Return the load of a run, as `status` shows it."""
    pauses = {**pace.pauses, **connection.retries.pauses}
    return {
        "state": _state(pace),
        "reason": "; ".join(pace.holds.values()) or pace.slow_because,
        "batch_size": pace.batch,
        "delay_seconds": round(pace.delay, 3),
        "points_per_second": round(pace.rate, 1),
        "probe_p95_ms": _rounded(pace.p95),
        "baseline_p95_ms": _rounded(pace.baseline),
        "slowdown": _rounded(pace.slowdown),
        "max_slowdown": pace.limits.max_slowdown,
        "max_rate": pace.limits.max_rate,
        "pauses": {
            reason: {"count": each.count, "seconds": round(each.seconds, 1)}
            for reason, each in pauses.items()
        },
        "updated_at": utc_now(),
    }


def _state(pace: Pace) -> Literal["running", "throttled", "waiting", "pausing", "paused"]:
    if WaitReason.REQUEST in pace.holds:
        return "paused" if pace.idle else "pausing"
    if pace.holds:
        return "waiting"
    return "throttled" if pace.share < 1 else "running"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _shown(limits: Limits) -> str:
    return ", ".join(f"{name} {value or 'off'}" for name, value in asdict(limits).items())
