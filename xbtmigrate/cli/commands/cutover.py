"""Parse `cutover`: run every check, then switch applications to the new vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption, YesOption
from xbtmigrate.cli.process import end, stop_on_interrupt

if TYPE_CHECKING:
    from xbtmigrate.documents.cutover import CutoverDocument

GateOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GATE", help='Quality gate, for example "recall@10>=keep"; may be repeated.'
    ),
]
QueriesOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Judged queries for --gate; by default plan.queries.")
]
SplitOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Use only the rows whose column 'split' has this value.")
]
AliasOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Alias to move, if the configuration names none.")
]
BySwitchOption: TypeAlias = Annotated[
    bool, typer.Option("--by-switch", help="Move no alias: applications read switch.json.")
]
MaxAgeOption: TypeAlias = Annotated[
    float, typer.Option(min=0, help="Largest age of the verification, in hours.")
]
MaxBehindOption: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Most points that may change during the last sweep.")
]
GoFileOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Keep copying new writes, and switch when this file appears.")
]
ReadersSendNewVectorsOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--readers-send-new-vectors",
        help="Every reader sends new-model vectors; needed where old ones raise no error.",
    ),
]
DespiteEvaluationOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--despite-evaluation",
        help="Switch although the last judged evaluation recommends keep.",
    ),
]
AcceptWithoutVectorOption: TypeAlias = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Most points that may stay without a new vector."),
]


def cutover(
    config: ConfigOption = CONFIG,
    yes: YesOption = False,
    gate: GateOption = None,
    queries: QueriesOption = None,
    split: SplitOption = None,
    alias: AliasOption = None,
    by_switch: BySwitchOption = False,
    max_age: MaxAgeOption = 24,
    max_behind: MaxBehindOption = 100,
    go_file: GoFileOption = None,
    readers_send_new_vectors: ReadersSendNewVectorsOption = False,
    despite_evaluation: DespiteEvaluationOption = False,
    accept_without_vector: AcceptWithoutVectorOption = 0,
    json: JsonOption = False,
) -> None:
    """Check every gate; with --yes, switch applications to the new vectors in one step.

    Run it again after the switch to carry over writes that still went to the old vectors.
    """
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.evaluation.quality_gate import Gate
    from xbtmigrate.workflows.cutover.cutover import cutover as run
    from xbtmigrate.workflows.cutover.options import Accepted, CutoverOptions, Quality

    # Gates are parsed before anything is opened, so a typing error costs nothing.
    quality = Quality([Gate.parse(each) for each in gate or []], queries, split)
    options = CutoverOptions(
        act=yes,
        alias=alias,
        by_switch=by_switch,
        # Hours on the command line, seconds inside.
        max_age=max_age * 3600,
        max_behind=max_behind,
        go_file=go_file,
        quality=quality,
        accepted=Accepted(readers_send_new_vectors, despite_evaluation, accept_without_vector),
    )
    with render.progress() as bars, stop_on_interrupt() as asked_to_stop:
        content = run(settings, options, should_stop=asked_to_stop, report=bars)
    if json:
        render.document(content)
    else:
        _show(content)
    end(passed=content["ready"], interrupted=content["status"].startswith("stopped"))


def _show(content: CutoverDocument) -> None:
    # What readers must change comes first: it is the one part that the tool cannot do.
    render.say(content["readers"])
    names = ("status", "phase", "layout", "alias", "target", "vector", "carried_over", "deleted")
    render.facts(f"Cutover of {content['collection']}", render.counts(content, *names))
    render.facts(
        "Gates",
        [
            (f"{'yes' if gate['passed'] else 'NO '} {gate['name']}", gate["detail"])
            for gate in content["gates"]
        ],
    )
    for name in content["other_aliases"]:
        render.say(f"Alias {name} also points there and is not moved")
    for point in content["left_behind"]:
        render.say(f"Not carried over: point {point}, no vector can be made for it")
    for point in content["without_vector"]:
        render.say(f"Carried over without a new vector: point {point}, none can be made for it")
    render.next_step(content)
