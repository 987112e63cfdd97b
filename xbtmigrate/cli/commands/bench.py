"""Parse `bench`: measure each stage on the user's server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.cli.process import leave_cores_to_the_loop
from xbtmigrate.cli.text import duration

if TYPE_CHECKING:
    from xbtmigrate.documents.plan import BenchDocument

MEANINGS = {
    "read": "reading points with their old vectors",
    "project": "mapping old vectors into the new space",
    "encode": "embedding with the new model on this machine",
    "write": "writing vectors with their marks",
    "sweep": "checking that nothing is still due",
    "order": "scoring and sorting points for re-encoding",
    "forward": "a whole run of forward: read, project, write, sweep",
    "fill": "embedding and writing points without a new vector",
    "reencode": "embedding and writing points with a projected one",
}
"""What each rate measures, as tables show it."""


def bench(
    config: ConfigOption = CONFIG,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes/--dry-run",
            help="Also measure writes, in temporary collections; "
            "--dry-run, the default, reads only.",
        ),
    ] = False,
    sample: Annotated[
        int, typer.Option(min=256, max=10_000_000, help="Points to measure on, at most.")
    ] = 20_000,
    json: JsonOption = False,
) -> None:
    """Measure how fast reading, projecting, encoding and writing are, and predict each strategy.

    Without --yes it reads only, and predicts only what needs no write.
    """
    # The same limit as in `backfill`, so that the rates are those of a backfill.
    leave_cores_to_the_loop()
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.plan.bench import bench as measure

    with render.progress() as bars:
        content = measure(settings, write=yes, sample=sample, report=bars)
    if json:
        render.document(content)
        return
    _show(content)
    if not yes:
        render.say("Nothing was written. To measure writes too: xbtmigrate bench --yes")


def _show(content: BenchDocument) -> None:
    rates = content["points_per_second"]
    render.table(
        f"Points per second, measured on {content['sample']:,} of {content['points']:,} points",
        ["", "points/s", "what it is"],
        [[name, rate, MEANINGS[name]] for name, rate in _rounded(rates).items()],
    )
    # What writes nothing takes no time, and what was not measured has no prediction.
    predicted = [row for row in content["predicted_seconds"] if row["seconds"]]
    if predicted:
        render.table(
            f"Predicted time, layout {content['layout']}",
            ["strategy", "embedded again", "time"],
            [
                [row["strategy"], f"{row['fraction']:.0%}", duration(row["seconds"] or 0)]
                for row in predicted
            ],
        )
    render.say(_in_words(content))


def _rounded(rates: Mapping[str, object]) -> dict[str, int]:
    """Return the rates that were measured."""
    return {name: round(rate) for name, rate in rates.items() if isinstance(rate, float | int)}


def _in_words(content: BenchDocument) -> str:
    """Return a sentence about this collection: what takes longest, and what that means."""
    rates = _rounded(content["points_per_second"])
    steps = [name for name in ("read", "project", "encode", "write") if name in rates]
    slowest = min(steps, key=lambda name: rates[name])
    sentence = f"For these {content['points']:,} points, {MEANINGS[slowest]} is the slowest step"
    times = {str(row["strategy"]): row["seconds"] for row in content["predicted_seconds"]}
    forward, full = times["forward"], times["full"]
    if forward is None or full is None:
        return f"{sentence}; without a measured write, no whole run can be predicted."
    return f"{sentence}: forward would take {duration(forward)}, and full {duration(full)}."
