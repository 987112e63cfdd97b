"""Parse `backfill`: show what a run would do, or do it online."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import (
    CONFIG,
    BudgetOption,
    ConfigOption,
    GateOption,
    JsonOption,
    RateOption,
    SlowdownOption,
)
from xbtmigrate.cli.parsers import limit_of
from xbtmigrate.cli.process import end, leave_cores_to_the_loop, stop_on_interrupt
from xbtmigrate.cli.text import duration

ORDER_HELP = (
    "Order of re-encoding: benefit, combined, uncertainty, centroid, demand, random or a plugin's."
)

if TYPE_CHECKING:
    from xbtmigrate.documents.backfill import BackfillDocument
    from xbtmigrate.workflows.backfill.backfill import BackfillResult
    from xbtmigrate.workflows.backfill.request import BackfillRequest

OnlineOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--online/--dry-run", help="Do it; --dry-run, the default, only shows what would be done."
    ),
]
FractionOption: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Share of the points to re-encode, in order."),
]
DemandOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Traffic log, Parquet or JSON lines: id or text, and hits."),
]
TenantOrderOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="traffic|FILE",
        help="Tenants first by --demand, or as a file lists them, one in each line.",
    ),
]
QueriesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Judged queries for --until; by default, queries are made from the points."),
]
CostOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="MONEY",
        help="Stop when embedding has cost this much, in the currency of the encoder's price.",
    ),
]
MetricsPortOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port to serve Prometheus metrics on.")
]

EngineOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What carries it out: local, the default, ray (xbtmigrate-ray) or a plugin."),
]
AddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="Cluster of --engine ray; by default one is started on this machine.",
    ),
]
ActorsOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Workers of --engine ray, each with the model; 2.")
]
GpusOption: TypeAlias = Annotated[
    float | None, typer.Option(min=0.0, help="GPUs of each of these workers; 0.")
]
ProfileOption: TypeAlias = Annotated[
    bool, typer.Option("--profile", help="Show at the end where the time went.")
]


def backfill(
    config: ConfigOption = CONFIG,
    online: OnlineOption = False,
    fraction: FractionOption = None,
    budget: BudgetOption = None,
    max_cost: CostOption = None,
    order: Annotated[str | None, typer.Option(help=ORDER_HELP)] = None,
    demand: DemandOption = None,
    tenant_order: TenantOrderOption = None,
    until: GateOption = None,
    queries: QueriesOption = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Points per batch.")] = 256,
    max_slowdown: SlowdownOption = 1.5,
    max_rate: RateOption = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
    engine: EngineOption = None,
    address: AddressOption = None,
    actors: ActorsOption = None,
    gpus_per_actor: GpusOption = None,
    profile: ProfileOption = False,
    json: JsonOption = False,
) -> None:
    """Write the new vectors while the collection keeps serving.

    Without --online it prints what it would do. Ctrl-C finishes the batch and saves; the same
    command continues from there.
    """
    # Before the imports: OpenBLAS reads its number of threads when numpy loads.
    leave_cores_to_the_loop()
    from xbtmigrate.backfill.pace import Limits
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.workflows.backfill.backfill import prepare, run
    from xbtmigrate.workflows.backfill.engine import choose_engine
    from xbtmigrate.workflows.backfill.request import BackfillOptions

    request = BackfillOptions(
        fraction=fraction,
        order=order,
        batch_size=batch_size,
        limits=Limits(limit_of(max_slowdown), limit_of(max_rate)),
        max_cost=max_cost,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        demand=demand,
        tenant_order=tenant_order,
        until=until,
        queries=queries,
    )
    given = {"address": address, "actors": actors, "gpus_per_actor": gpus_per_actor}
    options = {name: value for name, value in given.items() if value is not None}
    chosen = choose_engine(engine, options, settings.base)
    if not online:
        _show_request(prepare(settings, request), json=json)
        return
    # Ctrl-C sets a flag that the loop reads after each batch: no batch is cut in two.
    seconds = math.inf if budget is None else budget
    with render.progress() as bars, stop_on_interrupt(seconds) as asked_to_stop:
        result = run(settings, request, chosen, should_stop=asked_to_stop, report=bars)
    _show_result(result, profile=profile, json=json)
    end(passed=not result.refused, interrupted=result.interrupted)


def _show_request(request: BackfillRequest, *, json: bool) -> None:
    content = request.document()
    if json:
        render.document(content)
        return
    shown = content | {
        "fraction": f"{content['fraction']:.0%}",
        "estimated_time": duration(content["estimated_seconds"]),
    }
    names = ["strategy", "layout", "writes_to", "phase", "order", "fraction", "points"]
    names += ["to_project", "to_encode", "estimated_time"]
    render.facts(
        f"What `backfill --online` would do with {content['collection']}",
        render.named(shown, *names),
    )
    render.say(
        f"It would write {content['to_project']:,} projected vectors and embed "
        f"{content['to_encode']:,} points while {content['collection']} goes on serving; the old "
        "vectors stay."
    )
    render.say("Nothing was written.")
    render.next_step(content)


def _show_result(result: BackfillResult, *, profile: bool, json: bool) -> None:
    from xbtmigrate.workflows.tally import describe_without_vector

    content = result.document()
    if json:
        render.document(content)
        return
    counted = render.counts(
        content,
        *("status", "phase", "planned", "projected", "encoded"),
        *("vanished", "missing_source", "failed"),
    )
    lacking = content["gallery"]["without_vector"]
    if any(lacking.values()):
        counted.append(("get no new vector", describe_without_vector(lacking)))
    counted.append(("time", duration(content["seconds"])))
    # After a very short run, the rate would be that of the start-up.
    if content["projected"] + content["encoded"]:
        counted.append(("points/s", f"{content['points_per_second']:,.0f}"))
    if content["cost"]:
        counted.append(("cost", f"{content['cost']:,.4f}"))
    render.facts(f"Backfill of {content['collection']}", counted)
    if profile:
        _show_profile(content)
    # The first five show the kind of fault; `--json` has all of them.
    for point, reason in list(content["quarantined"].items())[:5]:
        render.say(f"Not encoded: point {point}, {reason}")
    render.next_step(content)


def _show_profile(content: BackfillDocument) -> None:
    """Print the seconds of each step; steps that took no time are left out."""
    written, seconds = content["projected"] + content["encoded"], content["seconds"]
    rows = [
        (
            step,
            f"{spent:.1f}",
            f"{spent / max(seconds, 1e-3):.0%}",
            f"{1e6 * spent / written:,.0f}" if written else None,
        )
        for step, spent in content["steps"].items()
        if spent
    ]
    title = f"Where the time goes: {seconds:.1f} s; steps run beside each other"
    render.table(title, ["step", "seconds", "of the run", "microseconds a point"], rows)
