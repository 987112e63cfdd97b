"""Show how far a stage has come: the one piece that prints progress, for people and for programs.

At a terminal each stage is one line that is redrawn. Elsewhere it is a plain line when the stage
begins, every ten seconds, and at its end, so a log file holds no control characters.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from tqdm.std import EMA  # type: ignore[attr-defined]  # the stubs leave it out

from xbtmigrate.cli.text import plain, remaining

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from xbtmigrate.documents.progress import NoteEvent, ProgressEvent

Style: TypeAlias = Literal["auto", "plain", "json", "none"]

# Seconds between two lines of a log, two events, and two drawings at a terminal.
EVERY = {"plain": 10.0, "json": 1.0, "live": 0.25}
SMOOTHING = 0.05
"""Weight of the newest sample in tqdm's moving average: a larger one lets the time left jump."""
SAMPLE_SECONDS = 0.1
"""Steps that follow sooner than this are one sample, so that many small ones weigh no more."""
MIN_SECONDS = 2.0
"""A stage shows neither rate nor time left before, since its first batch holds its start-up."""


class StageProgress:
    """One stage under way: its figures, and what follows from them.

    Args:
        name: What is done.
        now: Present time in seconds, on a clock that only grows.
        done: What was done already when it began.
    """

    def __init__(self, name: str, now: float, done: int) -> None:
        self.name = name
        self.begun = now
        self.done = done
        self.total = 0
        self.note = ""
        self.shown: tuple[int, str] | None = None
        self.rate: float | None = None
        self.left: float | None = None
        self._sampled = (now, done)
        # The averages of steps and of times, as tqdm takes them: that of rates would count a burst
        # of one moment as much as a long batch.
        self._steps, self._seconds = EMA(SMOOTHING), EMA(SMOOTHING)

    def update(self, now: float, done: int, total: int, note: str) -> None:
        """Take in new figures, and estimate rate (1/s) and time left (s) anew."""
        # Totals may grow: a live collection gets points during a run.
        self.done, self.total, self.note = done, max(total, done), note or self.note
        before, first = self._sampled
        if done <= first or now - before < SAMPLE_SECONDS:
            return
        self._sampled = (now, done)
        rate = self._steps(done - first) / self._seconds(now - before)
        if now - self.begun >= MIN_SECONDS:
            self.rate, self.left = rate, (self.total - done) / rate

    def figures(self) -> str:
        """Return count, share, rate, time left and note, as far as they are known."""
        parts = [f"{self.done:,} of {self.total:,}"]
        if self.total:
            parts[0] += f" ({self.done / self.total:.0%})"
        if self.rate is not None:
            parts.append(f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.2g}/s")
        if self.left is not None and self.done < self.total:
            parts.append(f"{remaining(self.left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)

    def event(self, now: float) -> ProgressEvent:
        """Return the figures for a program."""
        return {
            "event": "progress",
            "stage": self.name,
            "done": self.done,
            "total": self.total,
            "per_second": None if self.rate is None else round(self.rate, 3),
            "eta_seconds": None if self.left is None else round(self.left, 1),
            "seconds": round(now - self.begun, 1),
            "note": self.note,
        }


class ProgressDisplay:
    """Progress of one command on stderr; call it with a stage, what is done and the total.

    Args:
        style: "auto" is redrawn at a terminal and "plain" elsewhere; "plain", "json" (one event a
            line) or "none".
        color: Whether a terminal gets colours.
        clock: Seconds that only grow.
    """

    current: ClassVar[ProgressDisplay | None] = None
    """What a line of the log has to be printed above; None where nothing is redrawn."""

    def __init__(
        self,
        style: Style = "auto",
        *,
        color: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        live = style == "auto" and sys.stderr.isatty()
        self._style = "live" if live else "plain" if style == "auto" else style
        self._color = color
        self._clock = clock
        self._stage: StageProgress | None = None
        self._shown = 0.0
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        ProgressDisplay.current = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        ProgressDisplay.current = None

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Show how far a stage has come; one without a total is a line by itself."""
        # Waits and one-step stages have no total: nothing about them can be counted.
        if total == 0:
            self.close()
            if self._style != "none":
                self.write(stage)
            return
        now = self._clock()
        # A second pass of one name begins again with less than the first one did.
        new = self._stage is None or self._stage.name != stage or done < self._stage.done
        if new:
            self.close()
            self._stage = StageProgress(stage, now, done)
        assert self._stage is not None
        self._stage.update(now, done, total, note)
        # The last figures of a stage are shown by `close`, which can tell that they are the last.
        if done < total and (new or now - self._shown >= EVERY.get(self._style, 0)):
            self._shown = now
            self._show(self._stage, now)

    def write(self, text: str) -> None:
        """Print a line, above the one that is redrawn if there is one."""
        if self._style == "json":
            _write_event({"event": "note", "text": text})
        elif self._bar is not None:
            self._bar.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{plain(text)}\n")

    def close(self) -> None:
        """End the present stage: its last figures stay."""
        stage, self._stage = self._stage, None
        if stage is None:
            return
        if (stage.done, stage.note) != stage.shown:
            self._show(stage, self._clock())
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, stage: StageProgress, now: float) -> None:
        stage.shown = (stage.done, stage.note)
        if self._style == "plain":
            sys.stderr.write(plain(f"{stage.name}: {stage.figures()}") + "\n")
        elif self._style == "json":
            _write_event(stage.event(now))
        elif self._style == "live":
            self._draw(stage)

    def _draw(self, stage: StageProgress) -> None:
        if self._bar is None:
            self._bar = _bar(color=self._color)
            self._bar.add_task(plain(stage.name), figures="")
            self._bar.start()
        task = self._bar.task_ids[0]
        figures = plain(stage.figures())
        self._bar.update(
            task, completed=stage.done, total=stage.total, figures=figures, refresh=True
        )


def _bar(*, color: bool) -> RichProgress:
    """Return a line of rich: name, a short bar, and the figures, cut at the terminal's edge."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TextColumn(
            "{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
        ),
        console=Console(stderr=True, no_color=None if color else True),
        expand=True,
        # Drawn by the calls alone: a thread that redraws would take time from the run.
        auto_refresh=False,
    )


def _write_event(event: ProgressEvent | NoteEvent) -> None:
    sys.stderr.write(json.dumps(event) + "\n")
