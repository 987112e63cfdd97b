"""Command line: `cutover`, check every gate, then switch applications to the new vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption, YesOption
from xbtmigrate.cli.process import end, stop_on_interrupt


def cutover(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    gate: Annotated[
        list[str] | None,
        typer.Option(help='Quality gate, for example "recall@10>=keep"; may be given again.'),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Judged queries for --gate; plan.queries without it.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Use only the rows whose column 'split' has this value.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="Alias to move, where the configuration names no alias.")
    ] = None,
    by_switch: Annotated[
        bool, typer.Option("--by-switch", help="Move no alias: applications read switch.json.")
    ] = False,
    max_age: Annotated[
        float, typer.Option(min=0, help="Hours that the verification may be old.")
    ] = 24,
    max_behind: Annotated[
        int, typer.Option(min=0, help="Points that may change under the last sweep.")
    ] = 100,
    go_file: Annotated[
        Path | None, typer.Option(help="Stay caught up and switch when this file appears.")
    ] = None,
    readers_send_new_vectors: Annotated[
        bool,
        typer.Option(
            "--readers-send-new-vectors",
            help="Every reader sends new-model vectors; needed where old ones raise no error.",
        ),
    ] = False,
    despite_evaluation: Annotated[
        bool,
        typer.Option(
            "--despite-evaluation",
            help="Switch although the last judged evaluation recommends keep.",
        ),
    ] = False,
    accept_without_vector: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Points that may stay without a new vector, at most."
        ),
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Check every gate; with --yes, switch applications to the new vectors in one step.

    Run it again after the switch to carry over what slow writers still wrote the old way.
    """
    from xbtmigrate.config import load_config
    from xbtmigrate.evaluation.quality_gate import Gate
    from xbtmigrate.workflows.cutover.cutover import Order
    from xbtmigrate.workflows.cutover.cutover import cutover as run
    from xbtmigrate.workflows.cutover.preconditions import Accepted, Quality

    quality = Quality([Gate.parse(each) for each in gate or []], queries, split)
    order = Order(
        act=yes,
        alias=alias,
        by_switch=by_switch,
        max_age=max_age * 3600,
        max_behind=max_behind,
        go_file=go_file,
        quality=quality,
        accepted=Accepted(readers_send_new_vectors, despite_evaluation, accept_without_vector),
    )
    settings = load_config(config)
    with render.ProgressBars() as bars, stop_on_interrupt() as asked_to_stop:
        switched = run(settings, order, should_stop=asked_to_stop, report=bars)
    if json:
        render.document(switched.document)
    else:
        _show(switched.document)
    end(passed=switched.passed, interrupted=switched.interrupted)


def _show(content: dict[str, Any]) -> None:
    render.say(content["readers"])
    names = ("status", "phase", "layout", "alias", "target", "vector", "carried_over", "deleted")
    render.facts(f"Cutover of {content['collection']}", [(name, content[name]) for name in names])
    for gate in content["gates"]:
        render.say(f"{'yes' if gate['passed'] else 'NO '}  {gate['name']}: {gate['detail']}")
    for name in content["other_aliases"]:
        render.say(f"Alias {name} also leads there and stays where it is")
    for point in content["left_behind"]:
        render.say(f"Not carried over: point {point}, of which no vector can be made")
    for point in content["without_vector"]:
        render.say(f"Carried over without a new vector: point {point}, of which none can be made")
    render.say(f"Next: {content['next']}")
