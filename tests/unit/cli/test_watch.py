"""`status --watch` goes on until Ctrl-C, which is no failure."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clipart import write_config
from tests.support.command import inside
from xbtmigrate.cli.commands import status
from xbtmigrate.workflows.operate import status as workflow

LOAD = {
    **dict.fromkeys(("state", "reason", "batch_size", "delay_seconds", "points_per_second")),
    **dict.fromkeys(("probe_p95_ms", "baseline_p95_ms", "slowdown", "max_slowdown", "max_rate")),
    "pauses": {},
}


def content(encoded: int) -> dict[str, Any]:
    running = {"state": "throttled", "reason": "queries are slow", "points_per_second": 850.4}
    return {
        "migration": "clipart-old",
        "phase": "backfilling",
        "strategy": "fastfill",
        "fraction": 0.5,
        "points": 300,
        "projected": 200,
        "encoded": encoded,
        "by_application": 0,
        "late_writes": 0,
        "quality": None,
        "tenants": None,
        "without_new": 0,
        "without_vector": {},
        "eta_seconds": 30.0,
        "last_error": None,
        "load": LOAD | running,
        "artefacts": {},
        "next": None,
        "next_note": "wait",
    }


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three looks, and then Ctrl-C."""
    seen: list[int] = []

    def look(_: object) -> dict[str, Any]:
        seen.append(len(seen))
        return content(len(seen))

    def sleep(_: float) -> None:
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "report_status", look)
    monkeypatch.setattr(time, "sleep", sleep)
    return seen


def test_a_pipe_gets_a_line_each_time(looks: list[int], tmp_path: Path):
    write_config(tmp_path, "path:qdrant", "clipart")
    code, out, err = inside("status", "--watch", cwd=tmp_path)
    assert (code, err, len(looks)) == (0, "", 3)
    assert out.splitlines() == [
        f"backfilling: 200 projected, {each} encoded of 300, 850/s, 30 s left, throttled, "
        "queries are slow"
        for each in (1, 2, 3)
    ]


def test_a_terminal_gets_one_screen(
    looks: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("TERM", "xterm")
    status._watch(lambda: workflow.report_status(None))
    assert len(looks) == 3
    assert shown.getvalue().count("because") >= 3
    # Only the title is bold, and each screen takes the place of the one before.
    assert "\x1b[0m\n  phase" in shown.getvalue()
    assert "\x1b[2K" in shown.getvalue()


def test_what_is_known_of_late_writes_queries_and_quality_is_shown():
    known = content(1)
    known["late_writes"] = 12
    known["load"]["probe_p95_ms"] = 4.25
    known["quality"] = {
        "gate": "recall@10>=keep",
        "level": 0.5,
        "fractions": [each / 10 for each in range(10)],
        "values": [0.3 + each / 50 for each in range(10)],
    }
    line = status._line(known)
    assert "queries p95 4.2 ms, 12 late writes, recall@10>=keep: 0.480" in line
    shown = dict(status._progress(known))
    assert shown["late writes"] == "12 points since the backfill"
    curve = "0.300 at 0%, 0.360 at 30%, 0.420 at 60%, 0.480 at 90%"
    assert shown["quality so far"] == f"{curve}; recall@10>=keep is 0.500"


def test_a_watch_prints_no_json(tmp_path: Path):
    write_config(tmp_path, "path:qdrant", "clipart")
    assert inside("status", "--watch", "--json", cwd=tmp_path)[0] == 2
