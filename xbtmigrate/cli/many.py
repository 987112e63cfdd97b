"""Run a command for each of many collections, as processes that fail and stop apart."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.forked import ForkedProgram, load_for
from xbtmigrate.cli.process import INTERRUPTED, end, stop_on_interrupt
from xbtmigrate.errors import ConfigError, GateError, XbtMigrateError

if TYPE_CHECKING:
    from xbtmigrate.documents.many import ManyDocument, OneOfManyDocument, Outcome
    from xbtmigrate.documents.next_step import NextDocument

NEXT = {
    "plan": "train-projector",
    "train-projector": "backfill --online",
    "backfill": "verify",
    "verify": "cutover",
}
# Each process would write the same file, or open the same port.
_SINGLE = ("out", "report", "metrics_port")
_ATTENTION: Sequence[Outcome] = (
    "error",
    "check failed",
    "interrupted",
    "not started",
    "done",
    "done before",
)
_OUTCOMES: dict[int, Outcome] = {
    0: "done",
    GateError.exit_code: "check failed",
    INTERRUPTED: "interrupted",
    # Ended by the signal while it was starting.
    -signal.SIGINT: "interrupted",
}
# Options of this call, with the number of values they take; the processes get others.
_OWN = {"--parallel": 1, "--progress": 1, "--json": 0, "--no-progress": 0}
_TICK = 0.2


def is_for_many(config: Path | None) -> bool:
    """Return whether a configuration is for many collections."""
    from xbtmigrate.config import COLLECTION, read_patterns

    if config is None or COLLECTION in os.environ or not config.exists():
        return False
    return bool(read_patterns(config))


def run(verb: str, config: Path, given: Mapping[str, Any], parallel: int) -> None:
    """Run a command for each collection, print how each ended, and exit.

    Args:
        verb: The verb.
        config: The configuration.
        given: Its options.
        parallel: Collections at a time.

    Raises:
        ConfigError: An option is for one collection only.
        XbtMigrateError: The collections cannot be listed.
    """
    for name in _SINGLE:
        if given.get(name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{option} is for one collection, and {config} is for many", f"leave out {option}"
            )
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.many import Progress, list_collections

    words = list(_without_own(sys.argv[1:]))
    load_for(verb)
    names, progress = list_collections(config), Progress.open(config, words)
    # An embedded database can be open in one process at a time.
    if load_config(config, names[0]).url.startswith("path:"):
        parallel = 1
    before = [name for name in names if name in progress.done]
    rows: list[OneOfManyDocument] = [row(name, "done before") for name in before]
    if before:
        render.note(
            f"{len(before)} of {len(names)} collections were done by an earlier call of this "
            f"command and are left out; to begin anew delete {progress.file}"
        )
    with render.progress() as bars, stop_on_interrupt() as asked_to_stop:
        todo = [name for name in names if name not in before]
        for ended in _Processes(words, asked_to_stop).run(todo, parallel):
            rows.append(ended)
            if ended["outcome"] == "done":
                progress.note(ended["collection"])
            bars(verb, len(rows), len(names), ended["collection"])
    if all(each["outcome"].startswith("done") for each in rows):
        progress.finish()
    finish(verb, rows, as_json=bool(given.get("json")), doing=_doing(given))


@dataclass(slots=True)
class _Processes:
    """Runs the command for some collections at a time.

    Attributes:
        words: The verb and its options.
        asked_to_stop: Returns a reason to stop, "" for none.
    """

    words: Sequence[str]
    asked_to_stop: Callable[[], str]
    _running: set[ForkedProgram] = field(default_factory=set)
    _stopping: bool = False
    # A process that starts during a stop is either in the set or not started.
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, names: Sequence[str], parallel: int) -> Iterator[OneOfManyDocument]:
        """Yield how each ended, as they end."""
        with ThreadPoolExecutor(parallel) as pool:
            pending: set[Future[OneOfManyDocument]] = {
                pool.submit(self._run_one, name) for name in names
            }
            try:
                while pending:
                    done, pending = wait(pending, _TICK, FIRST_COMPLETED)
                    yield from (each.result() for each in done)
                    if self.asked_to_stop() and not self._stopping:
                        self._stop(signal.SIGINT)
            # A second Ctrl-C: the processes end at once, too.
            except BaseException:
                self._stop(signal.SIGTERM)
                self._stop(signal.SIGTERM)
                raise

    def _stop(self, number: signal.Signals) -> None:
        with self._lock:
            self._stopping = True
            for process in self._running:
                process.send_signal(number)

    def _run_one(self, name: str) -> OneOfManyDocument:
        with self._lock:
            if self._stopping:
                return row(name, "not started")
            process = _start(self.words, name)
            self._running.add(process)
        code, out, err = process.wait()
        with self._lock:
            self._running.discard(process)
        return _read_result(name, code, out, err)


def _start(words: Sequence[str], name: str) -> ForkedProgram:
    from xbtmigrate.config import COLLECTION

    options = ["--json", "--progress", "none"]
    return ForkedProgram.start([*words, *options], os.environ | {COLLECTION: name})


def _read_result(name: str, code: int, out: str, err: str) -> OneOfManyDocument:
    outcome = _OUTCOMES.get(code, "error")
    try:
        document: dict[str, Any] = json.loads(out)
    except ValueError:
        last = err.strip().splitlines()[-1:] or [f"it ended with exit code {code}"]
        return row(name, outcome, message=last[0] if outcome == "error" else "")
    if failure := document.get("error"):
        return row(name, outcome, failure["message"], failure["hint"])
    # `plan` and `evaluate` have a strategy in place of a status.
    advice = document.get("recommendation") or {}
    said = document.get("status") or document.get("strategy") or advice.get("strategy") or ""
    return row(name, outcome, str(said), document=document)


def row(
    name: str,
    outcome: Outcome,
    message: str = "",
    hint: str = "",
    document: dict[str, Any] | None = None,
) -> OneOfManyDocument:
    """Return how a command ended for one collection."""
    return {
        "collection": name,
        "outcome": outcome,
        "message": message,
        "hint": hint,
        "document": document,
    }


def row_of_error(name: str, error: XbtMigrateError) -> OneOfManyDocument:
    """Return how a command ended with an error for one collection."""
    return row(name, _OUTCOMES.get(error.exit_code, "error"), error.message, error.hint)


def _without_own(words: Sequence[str]) -> Iterator[str]:
    """Leave out the options of this call that its processes do not get."""
    rest = iter(words)
    for word in rest:
        name, is_joined, _ = word.partition("=")
        if name not in _OWN:
            yield word
        elif _OWN[name] and not is_joined:
            next(rest, None)


def _doing(given: Mapping[str, Any]) -> str:
    """Return the option that does what the call only showed; "" where it did it."""
    return next((f"--{name}" for name in ("online", "yes") if given.get(name) is False), "")


def finish(verb: str, rows: list[OneOfManyDocument], *, as_json: bool, doing: str = "") -> None:
    """Print how the collections ended, those that need attention first, and exit.

    Args:
        verb: The verb.
        rows: How each ended.
        as_json: Whether to print the document in place of the table.
        doing: The option that does what the command only showed; "" where it did it.
    """
    rows.sort(key=lambda each: (_ATTENTION.index(each["outcome"]), each["collection"]))
    counts = Counter(each["outcome"] for each in rows)
    passed = not any(counts[outcome] for outcome in _ATTENTION[:4])
    # `verify` does its work without --yes, which only corrects.
    after = f"{verb} {doing}" if doing and verb != "verify" else NEXT.get(verb)
    note = None if passed else "The same command goes on with the collections that are not done."
    following: NextDocument = {
        "next": f"xbtmigrate {after}" if passed and after else None,
        "next_note": note,
    }
    if as_json:
        print_document(verb, rows, following)
    else:
        render.table(
            f"{verb} of {len(rows)} collections",
            ["collection", "outcome", "what it says"],
            [
                (each["collection"], each["outcome"], "; ".join(filter(None, _said(each))))
                for each in rows
            ],
        )
        render.next_step(following)
    if counts["error"]:
        raise typer.Exit(XbtMigrateError.exit_code)
    end(passed=passed, interrupted=bool(counts["interrupted"] or counts["not started"]))


def print_document(verb: str, rows: list[OneOfManyDocument], following: NextDocument) -> None:
    """Print how the collections ended, and the next command, as one document."""
    counts = Counter(each["outcome"] for each in rows)
    content: ManyDocument = {
        "command": verb,
        "collections": rows,
        "counts": {outcome: counts[outcome] for outcome in _ATTENTION},
        **following,
    }
    render.document(content)


def _said(ended: OneOfManyDocument) -> tuple[str, str]:
    return ended["message"].partition("\n")[0], ended["hint"]
