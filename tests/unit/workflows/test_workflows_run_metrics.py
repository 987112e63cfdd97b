"""What Prometheus reads of a run is what docs/load.md describes."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.documents import DOCS, rows, sections
from tests.support.qdrant_server import free_port
from xbtmigrate.backfill.goal import Progress
from xbtmigrate.errors import ConfigError
from xbtmigrate.migration.phases import Counts, Stage
from xbtmigrate.workflows.backfill.run_metrics import RunMetrics, serve_metrics

LOAD = {
    "state": "throttled",
    "batch_size": 128,
    "delay_seconds": 0.25,
    "points_per_second": 900.0,
    "probe_p95_ms": 12.0,
    "baseline_p95_ms": 6.0,
    "slowdown": 2.0,
    "max_slowdown": 1.5,
    "max_rate": 1000.0,
    "pauses": {"slowdown": {"count": 3, "seconds": 7.5}},
}


def scraped(port: int) -> dict[str, dict[str, float]]:
    """Name of each sample -> its own label's value -> number."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("migration") == "m"
            found.setdefault(sample.name, {})[next(iter(labels.values()), "")] = sample.value
    return found


def test_every_described_figure_is_served_and_no_other():
    metrics = RunMetrics("m")
    port = free_port()
    with serve_metrics(metrics, port, "127.0.0.1"):
        assert scraped(port) == {}
        metrics.load = lambda: LOAD
        counts = Counts(projected=10, encoded=5, vanished=2)
        metrics.progress = Progress(Stage.ENCODE, 30, 100, counts)
        metrics.quarantined = 4
        found = scraped(port)
    assert set(found) == set(rows(sections(DOCS / "load.md")["Prometheus"]))
    assert found["xbtmigrate_points_written_total"] == {"projected": 10, "encoded": 5}
    assert found["xbtmigrate_pass_points_remaining"] == {"encode": 70}
    assert found["xbtmigrate_points_quarantined"] == {"": 4}
    assert found["xbtmigrate_probe_p95_seconds"] == {"": pytest.approx(0.012)}
    assert found["xbtmigrate_pause_seconds_total"] == {"slowdown": 7.5}
    assert found["xbtmigrate_state"]["throttled"] == sum(found["xbtmigrate_state"].values()) == 1
    with pytest.raises(OSError, match="refused"):
        scraped(port)


def test_what_is_not_known_is_left_out():
    port = free_port()
    unlimited = {**LOAD, "max_rate": None, "slowdown": None}
    with serve_metrics(RunMetrics("m", lambda: unlimited), port, "127.0.0.1"):
        found = scraped(port)
    absent = {"slowdown_ratio", "max_points_per_second", "points_written_total", "pass_points"}
    assert set(found).isdisjoint(f"xbtmigrate_{name}" for name in absent)


def test_a_port_in_use_is_an_error_of_usage():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}") as caught:
            serve_metrics(RunMetrics("m"), port, "127.0.0.1").__enter__()
    assert "nothing was written" in caught.value.hint
