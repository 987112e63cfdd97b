"""Parse `status`: show phase, exact counts and the pace of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.text import duration
from xbtmigrate.errors import ConfigError

if TYPE_CHECKING:
    from xbtmigrate.documents.status import (
        LoadDocument,
        QualityDocument,
        StatusDocument,
        TenantsDocument,
    )

EVERY = 2.0
"""Seconds between two updates: each exact count costs the server a scan."""
NAMED = 5
"""Tenants with points left that are shown."""


def status(
    config: ConfigOption = CONFIG,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show phase, exact counts by kind, rate, time left, artefacts and the next command.

    Where the configuration is for many collections, a table shows them, those that need attention
    first.
    """
    from xbtmigrate.cli import many
    from xbtmigrate.config import load_config

    if watch and json:
        raise ConfigError("--watch prints no JSON", "leave out --watch, or --json")
    if not watch and many.is_for_many(config):
        from xbtmigrate.cli.status_of_many import show_statuses

        show_statuses(config, json=json)
        return
    settings = load_config(config)
    from xbtmigrate.workflows.operate.status import report_status

    if watch:
        _watch(partial(report_status, settings))
        return
    content = report_status(settings)
    if json:
        render.document(content)
        return
    render.facts(f"Migration {content['migration']}", [*_progress(content), *_artefacts(content)])
    render.next_step(content)


def _watch(look: Callable[[], StatusDocument]) -> None:
    """Show the status again and again: one screen at a terminal, a line each time in a pipe."""
    # Ctrl-C is the normal end of a watch, not a failure.
    with suppress(KeyboardInterrupt), render.screen() as show:
        while True:
            content = look()
            if show is None:
                render.say(_line(content))
                sys.stdout.flush()
            else:
                title = f"Migration {content['migration']}, Ctrl-C ends this"
                following = content["next"] or content["next_note"]
                show(title, [*_progress(content), ("next", following)])
            time.sleep(EVERY)


def _line(content: StatusDocument) -> str:
    """Return phase, counts, rate, time left and pace as one line."""
    load = content["load"]
    parts = [
        f"{content['phase']}: {content['projected']:,} projected, {content['encoded']:,} encoded "
        f"of {content['points']:,}"
    ]
    if load["points_per_second"]:
        parts.append(f"{load['points_per_second']:,.0f}/s")
    if content["eta_seconds"] is not None:
        parts.append(f"{duration(content['eta_seconds'])} left")
    if load["probe_p95_ms"] is not None:
        parts.append(f"queries p95 {load['probe_p95_ms']:.1f} ms")
    if content["late_writes"]:
        parts.append(f"{content['late_writes']:,} late writes")
    if content["quality"] is not None:
        parts.append(f"{content['quality']['gate']}: {content['quality']['values'][-1]:.3f}")
    parts += [str(value) for value in (load["state"], load["reason"]) if value]
    return ", ".join(parts)


def _progress(content: StatusDocument) -> list[tuple[str, object]]:
    """Return the lines about what is done, what is left, and the pace."""
    from xbtmigrate.workflows.tally import describe_without_vector

    pairs = render.named(content, "phase", "strategy")
    pairs.append(("fraction", f"{content['fraction']:.0%}"))
    pairs += render.named(content, "points", "projected", "encoded")
    pairs += render.counts(content, "by_application", "without_new")
    if content["late_writes"]:
        pairs.append(("late writes", f"{content['late_writes']:,} points since the backfill"))
    if content["quality"] is not None:
        pairs.append(("quality so far", _curve(content["quality"])))
    if content["without_new"]:
        described = describe_without_vector(content["without_vector"])
        pairs.append(("of these get none", described))
    if content["tenants"] is not None:
        pairs += _tenants(content["tenants"])
    if content["eta_seconds"] is not None:
        pairs.append(("time to go", duration(content["eta_seconds"])))
    if content["last_error"] is not None:
        pairs.append(("the last run ended", content["last_error"]))
    return pairs + _load(content["load"])


def _tenants(found: TenantsDocument) -> list[tuple[str, object]]:
    """Return how many tenants are complete, and the first of the others."""
    waiting = [each for each in found["listed"] if each["left"]][:NAMED]
    shown = ", ".join(
        f"{each['tenant']} {each['left']:,} of {each['points']:,}" for each in waiting
    )
    complete = f"{found['complete']:,} of {found['count']:,}"
    return [("tenants complete", complete), ("tenants with points left", shown)]


def _curve(quality: QualityDocument) -> str:
    """Return a curve as its first, some middle and its last values, by the share re-encoded."""
    count = len(quality["values"])
    # Four fit the line of a terminal of 80 columns.
    rows = sorted({round(step * (count - 1) / 3) for step in range(4)})
    steps = [f"{quality['values'][row]:.3f} at {quality['fractions'][row]:.0%}" for row in rows]
    return f"{', '.join(steps)}; {quality['gate']} is {quality['level']:.3f}"


def _artefacts(content: StatusDocument) -> list[tuple[str, object]]:
    return [(f"artefact: {name}", path) for name, path in content["artefacts"].items()]


def _load(load: LoadDocument) -> list[tuple[str, object]]:
    """Return the lines about a run in progress; none where none is in progress."""
    if load["state"] in (None, "ended"):
        return []
    pairs: list[tuple[str, object]] = [("run", load["state"])]
    if load["reason"]:
        pairs.append(("because", load["reason"]))
    limits = f"slowdown {load['max_slowdown'] or 'off'}, rate {load['max_rate'] or 'off'}"
    pairs += [
        ("batch", load["batch_size"]),
        ("rate", f"{load['points_per_second'] or 0:,.0f} points/s"),
        ("limits", limits),
    ]
    # None while queries are not timed: --max-slowdown off, or no baseline yet.
    now, before = load["probe_p95_ms"], load["baseline_p95_ms"]
    if load["slowdown"] is not None:
        pairs.append(("queries", f"p95 {now:.1f} ms, {load['slowdown']:.2f} x {before:.1f} ms"))
    waits = [
        (f"waited: {name}", f"{each['count']} x, {each['seconds']} s")
        for name, each in load["pauses"].items()
    ]
    return pairs + waits
