"""Parse `status`: show phase, exact counts and the pace of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.text import duration

if TYPE_CHECKING:
    from xbtmigrate.documents.status import LoadDocument


def status(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Show phase, exact counts by kind, rate, time to go, artefacts and the next command."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.operate.status import report_status
    from xbtmigrate.workflows.tally import describe_without_vector

    content = report_status(settings)
    if json:
        render.document(content)
        return
    pairs = render.named(content, "phase", "strategy")
    pairs.append(("fraction", f"{content['fraction']:.0%}"))
    pairs += render.named(content, "points", "projected", "encoded")
    pairs += render.counts(content, "by_application", "without_new")
    if content["without_new"]:
        pairs.append(("of these get none", describe_without_vector(content["without_vector"])))
    if content["eta_seconds"] is not None:
        pairs.append(("time to go", duration(content["eta_seconds"])))
    if content["last_error"] is not None:
        pairs.append(("the last run ended", content["last_error"]))
    pairs += _load(content["load"])
    pairs += [(f"artefact: {name}", path) for name, path in content["artefacts"].items()]
    render.facts(f"Migration {content['migration']}", pairs)
    render.say(f"Next: {content['next']}")


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
        ("rate", load["points_per_second"]),
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
