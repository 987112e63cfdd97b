"""Describe the state after `finalize`: where the data is, how to restore, what to configure."""

from __future__ import annotations

import json
import shlex
from urllib.parse import quote

from xbtmigrate.config import Config
from xbtmigrate.documents.cutover import PlaceDocument
from xbtmigrate.migration.plan import Plan
from xbtmigrate.types import Layout


def data_place(plan: Plan, alias: str | None) -> PlaceDocument:
    """Return where applications find their data once the old side is deleted.

    Args:
        plan: The plan.
        alias: Alias that the cutover moved, None where it moved none.
    """
    return {
        "collection": plan.target.collection,
        "alias": alias,
        "vector": plan.target.vector,
        "model": plan.binding.get("new_model.model") or plan.binding["new_model.encoder"],
    }


def settings_after(plan: Plan, config: Config, alias: str | None) -> list[str]:
    """List what to change in the configuration before the next migration."""
    changes = []
    read = alias or plan.target.collection
    # Unless the configured alias was moved, the configuration names the deleted source.
    if plan.target.layout is Layout.SHADOW and read != config.qdrant.collection:
        changes.append(f'qdrant.collection = "{read}"')
    if plan.target.vector != plan.collection.vector:
        changes.append(f'qdrant.vector = "{plan.target.vector}"')
        changes.append("qdrant.new_vector = a name that no vector has yet")
    stored = plan.binding["old_model.stored"]
    # The next migration starts from this one's result: its old model is today's new one.
    changes.append(f'[old_model]: what [new_model] is now, with stored = "{stored}"')
    changes.append("[new_model]: the next model")
    return changes


def snapshot_place(plan: Plan, snapshot: str | None) -> str | None:
    """Return where the server keeps the snapshot of the old side."""
    if snapshot is None:
        return None
    file = f"{plan.collection.name}/{snapshot}"
    return f"{file} under storage.snapshots_path of the server (/qdrant/snapshots in its container)"


def restore_command(plan: Plan, config: Config, snapshot: str | None) -> str | None:
    """Return the command that restores the old side under an unused name.

    Qdrant offers no download of a snapshot whose collection is gone, so the path is the server's.
    """
    if snapshot is None:
        return None
    source = plan.collection.name
    # In place the collection still exists, and recovering under its name would overwrite it.
    name = source if plan.target.layout is Layout.SHADOW else f"{source}-before"
    variable = config.qdrant.api_key_env or "KEY"
    # The variable, not the key: the command is printed and may end up in logs.
    key = f' -H "api-key: ${variable}"' if config.api_key else ""
    address = f"{config.url}/collections/{quote(name, safe='')}/snapshots/recover"
    location = json.dumps({"location": f"file:///qdrant/snapshots/{quote(source)}/{snapshot}"})
    return (
        f"curl -X PUT '{address}'{key} -H 'content-type: application/json' "
        f"-d {shlex.quote(location)}"
    )
