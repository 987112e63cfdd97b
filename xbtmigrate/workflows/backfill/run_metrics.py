"""Serve the metrics of a running backfill to Prometheus, computed at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xbtmigrate.backfill.goal import Progress
from xbtmigrate.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STATES = ("running", "throttled", "waiting", "pausing", "paused")
_FIGURES = {
    "points_per_second": ("points_per_second", "Points written, over the last ten seconds.", 1.0),
    "write_batch_points": ("batch_size", "Points per write.", 1.0),
    "request_delay_seconds": ("delay_seconds", "Wait before the next request.", 1.0),
    "probe_p95_seconds": ("probe_p95_ms", "p95 of the probe queries.", 1e-3),
    "probe_baseline_p95_seconds": ("baseline_p95_ms", "p95 without the run.", 1e-3),
    "slowdown_ratio": ("slowdown", "Ratio of the p95 during the run to that without it.", 1.0),
    "max_slowdown_ratio": ("max_slowdown", "Limit of the slowdown; absent if there is none.", 1.0),
    "max_points_per_second": ("max_rate", "Limit of the rate; absent if there is none.", 1.0),
}


# A collector, not `Gauge.set_function`: a gauge cannot leave out a value that is not known (such as
# the limit when there is none), and the library's counters take no function. eq=False keeps the
# identity hash: the registry stores collectors as keys of a dictionary.
@dataclass(slots=True, eq=False)
class RunMetrics:
    """Metrics of one run; metrics whose value is not known yet are left out.

    Attributes:
        migration: Name of the migration, a label of every figure.
        load: Returns the run's load and limits; None before it starts.
        progress: Its last step; None before the first.
        quarantined: Points that cannot be embedded.
    """

    migration: str
    load: Callable[[], Mapping[str, Any]] | None = None
    progress: Progress | None = None
    quarantined: int = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the present value of every metric."""
        # The port is open before the run has a pace, so a scrape may come too early.
        if self.load is None:
            return
        load = self.load()
        yield from self._points()
        yield from self._pass()
        yield self._gauge(
            "state",
            "State of the run: 1 for the present one.",
            {state: float(state == load["state"]) for state in STATES},
            "state",
        )
        for name, (key, text, unit) in _FIGURES.items():
            if load[key] is not None:
                yield self._gauge(name, text, {"": load[key] * unit})
        pauses: Mapping[str, Mapping[str, float]] = load["pauses"]
        counts = {reason: each["count"] for reason, each in pauses.items()}
        seconds = {reason: each["seconds"] for reason, each in pauses.items()}
        yield self._counter("pauses", "How often the run waited.", counts, "reason")
        yield self._counter("pause_seconds", "How long it waited.", seconds, "reason")

    def _points(self) -> Iterator[Metric]:
        if self.progress is None:
            return
        counts = self.progress.counts
        written = {"projected": counts.projected, "encoded": counts.encoded}
        yield self._counter("points_written", "Vectors written, by kind.", written, "kind")
        vanished = {"": counts.vanished}
        yield self._counter("points_vanished", "Points that were deleted during the run.", vanished)
        aside = {"": self.quarantined}
        yield self._gauge("points_quarantined", "Points that cannot be embedded.", aside)

    def _pass(self) -> Iterator[Metric]:
        step = self.progress
        if step is None:
            return
        stage = str(step.stage)
        yield self._gauge(
            "pass_points", "Points in the present pass.", {stage: step.total}, "stage"
        )
        left = {stage: max(0, step.total - step.done)}
        yield self._gauge("pass_points_remaining", "Points of the pass still due.", left, "stage")

    def _gauge(self, name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
        # Imported here: the extra `metrics` is optional, and `serve_metrics` refuses first.
        from prometheus_client.core import GaugeMetricFamily

        return self._filled(GaugeMetricFamily(*self._described(name, text, label)), values, label)

    def _counter(
        self, name: str, text: str, values: Mapping[str, float], label: str = ""
    ) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        return self._filled(CounterMetricFamily(*self._described(name, text, label)), values, label)

    def _described(self, name: str, text: str, label: str) -> tuple[str, str, None, list[str]]:
        return f"xbtmigrate_{name}", text, None, ["migration", label] if label else ["migration"]

    def _filled(self, metric: Any, values: Mapping[str, float], label: str) -> Metric:
        for value, number in values.items():
            metric.add_metric([self.migration, value] if label else [self.migration], number)
        filled: Metric = metric
        return filled


@contextmanager
def serve_metrics(metrics: RunMetrics, port: int | None, host: str) -> Iterator[None]:
    """Serve http://host:port/metrics while the context is open; a port of None serves nothing.

    Raises:
        ConfigError: The address cannot be used.
        UnsupportedError: prometheus-client is not installed.
    """
    if port is None:
        yield
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise UnsupportedError(
            "--metrics-port needs prometheus-client", "pip install 'xbtmigrate[metrics]'"
        ) from error
    # A registry for this run alone: the global one adds figures of the Python process.
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(
            f"metrics cannot be served at {host}:{port}: {error}",
            "name another --metrics-port or --metrics-host; nothing was written",
        ) from error
    try:
        yield
    finally:
        # The port must be free again when the command returns.
        server.shutdown()
        server.server_close()
        thread.join()
