"""Parse `init`: inspect a collection and write a commented configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.cli.options import CONFIG, ConfigOption, JsonOption
from xbtmigrate.errors import ConfigError

if TYPE_CHECKING:
    from xbtmigrate.documents.plan import InitDocument


def init(
    collection: Annotated[str, typer.Option(help="Collection to migrate.")],
    url: Annotated[
        str, typer.Option(help='Server, or "path:DIR" for an embedded database.')
    ] = "http://127.0.0.1:6333",
    vector: Annotated[
        str | None, typer.Option(help="Name of the vector to migrate; the only one by default.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the API key.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key, relative to the configuration.")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="PEM file of certificates to trust, relative to the configuration."),
    ] = None,
    config: ConfigOption = CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Inspect a collection and write a commented configuration with what was found."""
    from xbtmigrate.workflows.plan.init import describe

    # Checked before connecting to the server.
    if config.exists() and not force:
        raise ConfigError(f"{config} exists", "give --force to overwrite it, or another --config")
    text = describe(
        url=url,
        collection=collection,
        vector=vector,
        api_key_env=api_key_env,
        api_key_file=api_key_file,
        ca_file=ca_file,
        # Paths in a configuration are relative to its folder.
        base=config.parent,
    )
    config.write_text(text, "utf-8")
    written: InitDocument = {
        "config": str(config),
        "text": text,
        "next": "xbtmigrate plan",
        "next_note": f"Fill in the two models in {config} first.",
    }
    if json:
        render.document(written)
        return
    render.say(f"Wrote {config}.")
    render.next_step(written)
