"""What the whole path prints, at 80 and 120 columns and in a pipe, compared with stored screens.

`pytest tests/e2e/test_screens.py --update-screens` writes the screens anew; look at the difference.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.clipart import Clipart, make_judged_folder
from tests.support.command import inside
from xbtmigrate.cli import render

SCREENS = Path(__file__).parent / "screens"
COUNT = 300
CALLS = ("table", "facts", "say", "whole_line")
PATH = [
    "plan",
    "plan --all",
    "bench --yes --sample 256",
    "train-projector --kind procrustes,ridge",
    "backfill --fraction 0.4",
    "backfill --online --fraction 0.4",
    "status",
    "evaluate",
    "evaluate --all",
    "verify",
    "publish",
    "cutover",
    "cutover --yes",
    "rollback --yes",
    "doctor",
    "verify",
    "cutover --yes",
    "finalize",
    "finalize --yes --no-snapshot --notice 0",
]
MEASURE = ("plan", "bench", "train-projector", "evaluate", "publish")
MASKS = [
    # Times, rates and sizes of files depend on the machine, digests and figures on its libraries.
    (r"\b[\d.]+ (s|min|h|days)\b", r"TIME"),
    (r"\b[0-9a-f]{12}\b", "DIGEST"),
    (r"\b0\.\d{3,4}\b", "0.###"),
    (r"-?\b\d+%", "##%"),
    (r"[\d,]+ (items|points)/s", r"RATE \1/s"),
    (r"\b[\d,]+ (B|bytes)\b", r"SIZE \1"),
    (r"(points/s +)[\d,]+", r"\1RATE"),
    (r"^((?:read|pro|enc|wri|swe|ord|for|fil|ree)\w* +)[\d,]+(?= +[a-z])", r"\1RATE"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"slowest step.*", "slowest step …"),
    # Which map, order or serving is best by a hair differs, too, and with it how a reason wraps.
    (r"(?s)(Recommended: \w+\.).*?(?=\n\n)", r"\1 …"),
    (r"(?s)(recommend \w+:).*?(?=\n\n)", r"\1 …"),
    (r"\b(gaussian_process|procrustes|ridge)\b", "KIND"),
    (r"^(single|calibrated|slerp|merge) +\w+", r"\1 ORDER"),
    (r"(?<=# )( *)(no difference|worse|better)$", r"\1VERDICT"),
    (r"(?<=# )( *)(no difference|worse|better) +##%$", r"\1VERDICT ##%"),
    (r"^(  order +)\w+", r"\1ORDER"),
    (r"\d+ encoded vectors", "N encoded vectors"),
]
Recorded = list[tuple[str, list[tuple[str, tuple[Any, ...]]], str]]


class Terminal(io.StringIO):
    """A stream that is, or is not, a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@contextmanager
def recorded(calls: list[tuple[str, tuple[Any, ...]]]) -> Iterator[None]:
    """Note each piece of output, so that one run can be shown at every width."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:

            def note(*given: Any, name: str = name) -> None:
                kept = tuple(
                    list(each) if isinstance(each, Iterator | map) else each for each in given
                )
                calls.append((name, kept))

            patch.setattr(render, name, note)
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Run every step once: its command, what it printed, and its stderr."""
    folder = tmp_path_factory.mktemp("screens")
    make_judged_folder(folder, Clipart.load(COUNT), 60)
    steps: Recorded = []
    for command in PATH:
        calls: list[tuple[str, tuple[Any, ...]]] = []
        with recorded(calls):
            code, _, err = inside(*command.split(), cwd=folder)
        assert code in (0, 3), err
        steps.append((command, calls, err.replace(str(folder), "FOLDER")))
    return steps


def shown(path: Recorded, *, terminal: bool, columns: int | None) -> str:
    """Print the recorded output as a stream of this kind and width would get it."""
    screen = Terminal(terminal=terminal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setenv("TERM", "dumb")
        patch.delenv("COLUMNS", raising=False)
        if columns is not None:
            patch.setenv("COLUMNS", str(columns))
        for command, calls, _ in path:
            screen.write(f"$ xbtmigrate {command}\n")
            for name, given in calls:
                getattr(render, name)(*given)
    return screen.getvalue()


def masked(text: str) -> str:
    """Replace what differs from machine to machine."""
    text = re.sub(r"/\S*/screens\d+", "FOLDER", text)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    # The width of a masked cell pads the others.
    return "\n".join(re.sub(r" {2,}|─{2,}", "  ", line).rstrip() for line in text.split("\n"))


KINDS: dict[str, dict[str, Any]] = {
    "80": {"terminal": True, "columns": 80},
    "120": {"terminal": True, "columns": 120},
    "pipe": {"terminal": False, "columns": None},
}


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    file = SCREENS / f"{name}.txt"
    if request.config.getoption("--update-screens"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_screens_are_those_that_were_looked_at(
    path: Recorded, kind: str, request: pytest.FixtureRequest
):
    # Which rows the others have depends on how fast this machine encodes.
    stable = [step for step in path if step[0].split()[0] not in MEASURE]
    compare(kind, masked(shown(stable, **KINDS[kind])), request)


def test_progress_in_a_pipe_is_plain_lines(path: Recorded, request: pytest.FixtureRequest):
    said = "".join(f"$ xbtmigrate {command}\n{err}" for command, _, err in path)
    assert "\r" not in said
    assert "\x1b" not in said
    # How many lines a slow stage has depends on the machine, so only its last one is compared.
    kept = [line for line in said.splitlines() if "%)" not in line or "(100%)" in line]
    lines = [re.sub(r", [\d,.]+/s.*", "", line) for line in kept]
    compare("progress", masked("\n".join(lines)) + "\n", request)


@pytest.mark.parametrize("kind", ["80", "120"])
def test_lines_fit_and_no_word_is_broken(path: Recorded, kind: str):
    screen = shown(path, **KINDS[kind])
    whole = shown(path, terminal=True, columns=100_000)
    # Only what has no space in it, such as a path, may be longer than the screen is wide.
    wide = [line for line in screen.splitlines() if len(line) > int(kind)]
    assert [line for line in wide if max(map(len, line.split())) < int(kind) / 2] == []
    assert sorted(re.sub("─+", "─", screen).split()) == sorted(re.sub("─+", "─", whole).split())


def test_a_table_has_no_row_that_means_nothing(path: Recorded):
    for _, calls, _ in path:
        tables = [given for name, given in calls if name == "table"]
        for _, _, rows in tables:
            for row in rows:
                assert any(each not in (None, 0, 0.0, "-") for each in row[1:]), row
