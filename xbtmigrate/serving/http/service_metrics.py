"""Counts and times of the service for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Searches take 3 to 120 ms (docs/serving.md); embedding and slow servers need the upper buckets.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Answers have ten points by default, so agreement is a multiple of a tenth.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """Counts and times of one service."""

    def __init__(self) -> None:
        # A registry of its own: the global one refuses a second service in the same process.
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "xbtmigrate_service_requests",
            "Requests answered.",
            ["route", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "xbtmigrate_search_seconds",
            "Time of a search, embedding included; side is `new` or `old` during a trial.",
            ["side", "serving"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.agreement = Histogram(
            "xbtmigrate_trial_agreement",
            "Share of the points that the new and the old serving of one query have in common.",
            buckets=SHARES,
            registry=self._registry,
        )
        self.failures = Counter(
            "xbtmigrate_trial_failures",
            "Trial searches that failed; the other side answered their queries.",
            registry=self._registry,
        )
        self.skipped = Counter(
            "xbtmigrate_trial_skipped",
            "Comparisons skipped because too many were in progress.",
            registry=self._registry,
        )
        self._phase = Gauge(
            "xbtmigrate_service_phase",
            "1 for the present phase of the migration.",
            ["phase"],
            registry=self._registry,
        )
        self._problem = Gauge(
            "xbtmigrate_service_problem",
            "1 while the journal or the artefacts cannot be re-read.",
            registry=self._registry,
        )

    def render(self, phase: str, *, problem: bool) -> bytes:
        """Render the metrics in Prometheus' text format.

        Args:
            phase: The phase of the migration now.
            problem: Whether something could not be read again.
        """
        # Only the present phase is exported; an old label would keep its last value.
        self._phase.clear()
        self._phase.labels(phase).set(1)
        self._problem.set(problem)
        return generate_latest(self._registry)


@dataclass(frozen=True, slots=True)
class RequestCounter:
    """Middleware that counts the answers by route and status."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer when it begins."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # By the route's pattern: each invented path would add a series that never goes.
                path = getattr(scope.get("route"), "path", "other")
                requests = scope["app"].state.backend.metrics.requests
                requests.labels(path, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)
