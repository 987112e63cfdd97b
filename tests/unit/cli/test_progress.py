"""Progress reads the same to people, log files and programs, and its time left does not jump."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise

import pytest

from tests.support.documents import check_as
from xbtmigrate.cli.progress import ProgressDisplay, StageProgress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(style: str, *, seconds: int = 25, total: int = 2500) -> None:
    """Report a stage that does a hundred a second, once a second."""
    clock = Clock()
    with ProgressDisplay(style, clock=clock) as shown:
        shown("surveying", 0, total)
        for second in range(1, seconds + 1):
            clock.now += 1
            shown("surveying", second * total // seconds, total, f"best {second}")


def test_a_pipe_gets_a_line_every_ten_seconds_and_one_at_the_end(capsys):
    run("auto")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "surveying: 0 of 2,500 (0%)",
        "surveying: 1,000 of 2,500 (40%), 100/s, 15 s left, best 10",
        "surveying: 2,000 of 2,500 (80%), 100/s, 5 s left, best 20",
        "surveying: 2,500 of 2,500 (100%), 100/s, best 25",
    ]
    assert "\r" not in said.err


def test_a_stage_that_is_done_at_once_is_one_line(capsys):
    with ProgressDisplay("auto", clock=Clock()) as shown:
        shown("reading the collection", 0, 0)
        shown("encoding", 64, 64)
        shown("encoding", 64, 64)
        shown("sweeping", 10, 20)
    assert capsys.readouterr().err.splitlines() == [
        "reading the collection",
        "encoding: 64 of 64 (100%)",
        "sweeping: 10 of 20 (50%)",
    ]


def test_a_second_pass_of_one_name_starts_again(capsys):
    with ProgressDisplay("auto", clock=Clock()) as shown:
        for done in (20, 20, 5, 20):
            shown("sweeping", done, 20)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["20", "5", "20"]


def test_a_program_gets_one_event_a_line(capsys):
    run("json", seconds=3)
    ProgressDisplay("json").write("a warning")
    *lines, note = capsys.readouterr().err.splitlines()
    check_as("note event", note)
    for line in lines:
        check_as("progress event", line)
    events = [json.loads(line) for line in lines]
    assert [each["done"] for each in events] == [0, 833, 1666, 2500]
    assert events[-1] == {
        "event": "progress",
        "stage": "surveying",
        "done": 2500,
        "total": 2500,
        "per_second": pytest.approx(833.3, abs=0.1),
        "eta_seconds": 0.0,
        "seconds": 3.0,
        "note": "best 3",
    }


def test_none_prints_nothing_but_the_log(capsys):
    with ProgressDisplay("none") as shown:
        shown("measuring", 0, 0)
        shown("encoding", 1, 2)
        shown.write("a warning")
    assert capsys.readouterr().err == "a warning\n"


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with ProgressDisplay("auto") as shown:
        for done in (1, 2):
            shown("encoding", done, 2, "a note that is far too long for what is left of the line")
        shown.write("a line of the log")
    drawn = screen.getvalue()
    assert "2 of 2 (100%)" in drawn
    assert "\x1b[2K" in drawn
    assert "…" in drawn


def test_the_time_left_does_not_jump():
    """Batches come in bursts: the estimate of their rate alone would swing between 0 and 25 s."""
    now, done, stage = 0.0, 0, StageProgress("encoding", 0.0, 0)
    shown = []
    for step in range(200):
        now += 0.1 if step % 2 else 3.0
        done += 100
        stage.update(now, done, 40_000, "")
        if stage.left is not None:
            shown.append((now, stage.left))
    drifts = [
        abs(after + (late - soon) - before) for (soon, before), (late, after) in pairwise(shown[5:])
    ]
    assert max(drifts) < 0.1 * shown[0][1]
    assert shown[-1][1] == pytest.approx(200 * 1.55, rel=0.1)


def test_rates_below_one_a_second_are_shown():
    stage = StageProgress("encoding", 0.0, 0)
    stage.update(60.0, 30, 90, "")
    assert stage.figures() == "30 of 90 (33%), 0.5/s, 2 min left"
