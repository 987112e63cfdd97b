"""Parse `schema`: print the JSON Schema of a document."""

from __future__ import annotations

from typing import Annotated

import typer

from xbtmigrate.cli import render
from xbtmigrate.errors import ConfigError


def schema(
    document: Annotated[
        str, typer.Argument(help='Command whose document it is, such as status; or "error".')
    ],
) -> None:
    """Print the JSON Schema of what a command prints with --json, for code that reads it."""
    from xbtmigrate.documents.catalogue import DOCUMENTS, schema_of

    if document not in DOCUMENTS:
        raise ConfigError(f"there is no document '{document}'", f"one of: {', '.join(DOCUMENTS)}")
    render.document(schema_of(document))
