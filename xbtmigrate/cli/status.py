"""Command line: `status`, where the migration stands, from exact counts."""

from __future__ import annotations

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def status(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Show phase, exact counts by kind, rate, time to go, artefacts and the next command."""
    from xbtmigrate.config import load_config
    from xbtmigrate.workflows.status import report_status

    content = report_status(load_config(config))
    if json:
        render.document(content)
        return
    shown = ("phase", "strategy", "fraction", "points", "projected", "encoded", "without_new")
    pairs = [(name.replace("_", " "), content[name]) for name in shown]
    if content["eta_seconds"] is not None:
        pairs.append(("time to go", render.duration(content["eta_seconds"])))
    pairs += [(f"artefact: {name}", path) for name, path in content["artefacts"].items()]
    render.facts(f"Migration {content['migration']}", pairs)
    render.say(f"Next: {content['next']}")
