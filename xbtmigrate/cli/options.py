"""Define the options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from xbtmigrate.cli.parsers import parse_budget, parse_gate, parse_rate, parse_slowdown

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", show_default=True)
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")
]
AllOption: TypeAlias = Annotated[
    bool, typer.Option("--all", help="Show every row, not only the best one of each strategy.")
]
MustLeaveOption: TypeAlias = Annotated[
    Literal["provider", "licence", "cost"] | None,
    typer.Option(
        "--must-leave",
        help="Why the old model cannot be kept. The recommendation is then not keep, but the "
        "cheapest strategy whose new space is as good as the old one.",
    ),
]
YesOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--yes/--dry-run", help="Do it; --dry-run, the default, only shows what would be done."
    ),
]
NoticeOption: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Seconds that running applications get to notice first."
    ),
]
BudgetOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        parser=parse_budget,
        metavar="TIME",
        help="Stop after this long, for example 30m, 8h or 90s.",
    ),
]
GateOption: TypeAlias = Annotated[
    Any,
    typer.Option(
        parser=parse_gate,
        metavar="GATE",
        help="Stop when held-out queries on the live gallery meet this gate, such as "
        '"recall@10>=0.95*full", or keep for the crossover.',
    ),
]
SlowdownOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        parser=parse_slowdown,
        metavar="RATIO|off",
        help="How many times slower (p95) queries may get, or off.",
    ),
]
RateOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        parser=parse_rate,
        metavar="RATE|off",
        help="Most points written per second, or off for no limit.",
    ),
]
# Seconds. Searchers and wrapped clients read the journal every few seconds (docs/commands.md).
NOTICE = 10.0
CONFIG = Path("xbtmigrate.toml")
