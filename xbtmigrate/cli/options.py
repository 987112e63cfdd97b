"""Command line: the options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", show_default=True)
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")
]
YesOption: TypeAlias = Annotated[
    bool, typer.Option("--yes", help="Do it; without this nothing is changed.")
]
NoticeOption: TypeAlias = Annotated[
    float, typer.Option(min=0, help="Seconds that running applications get to notice first.")
]
NOTICE = 10.0
CONFIG = Path("xbtmigrate.toml")
