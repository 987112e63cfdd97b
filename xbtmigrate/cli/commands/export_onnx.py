"""Parse `export-onnx`: write a projector as a file for services in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption


def export_onnx(
    config: ConfigOption = CONFIG,
    direction: Annotated[
        Literal["bridge", "forward"],
        typer.Option(help="bridge maps queries new -> old, forward the gallery old -> new."),
    ] = "bridge",
    out: Annotated[
        Path | None, typer.Option(help="File to write; DIRECTION.onnx if unset.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a trained projector as an ONNX model, after checking that both agree."""
    from xbtmigrate.config import load_config

    settings = load_config(config)
    from xbtmigrate.types import Direction
    from xbtmigrate.workflows.serve.export_onnx import run

    file = out or Path(f"{direction}.onnx")
    done = run(settings, direction=Direction(direction), out=file, force=force)
    if json:
        render.document(done)
        return
    render.say(
        f"Wrote {done['file']}: {direction} by {done['kind']}, {done['d_in']} -> {done['d_out']}, "
        f"{done['bytes']:,} bytes, within {done['difference']:.0e} of the projector."
    )
