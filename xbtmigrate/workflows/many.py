"""List the collections of a configuration of many, and keep which of them a command has done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from xbtmigrate.artefacts import FOLDER
from xbtmigrate.config import load_config, read_patterns
from xbtmigrate.errors import CollectionError
from xbtmigrate.files import read_json, write_json
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.journal.rivals import find_records
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.own_collection import JOURNAL
from xbtmigrate.types import digest_of
from xbtmigrate.workflows.store import open_connection


def list_collections(path: Path) -> list[str]:
    """Return the collections that a configuration of many means, by name.

    A collection behind an alias that is meant goes by the alias. Those that a migration of another
    one of them uses, such as its shadow, are left out.

    Args:
        path: The configuration.

    Raises:
        CollectionError: There are none.
        XbtMigrateError: The configuration has mistakes, or the server cannot be used.
    """
    patterns = read_patterns(path)
    with open_connection(load_config(path, patterns[0])) as connection:
        names = _leave_out_parts(connection, path, _match(connection, patterns))
    if not names:
        raise CollectionError(
            f"no collection or alias is named as in qdrant.collections: {', '.join(patterns)}",
            "correct the names and patterns",
        )
    return names


def _match(connection: Connection, patterns: Sequence[str]) -> list[str]:
    aliases = list_aliases(connection)
    listed = connection.call(connection.client.get_collections).collections
    known = {*aliases, *(each.name for each in listed)} - {JOURNAL}
    # A plain name that is not there stays: the command on it says so.
    plain = {each for each in patterns if not any(sign in each for sign in "*?[")}
    found = plain | {name for name in known if any(fnmatchcase(name, each) for each in patterns)}
    behind = {aliases[name] for name in found & aliases.keys()}
    return sorted(found - (behind - plain))


def _leave_out_parts(connection: Connection, path: Path, names: Sequence[str]) -> list[str]:
    """Leave out what only migrations of other collections use, such as their shadows."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for record in find_records(connection, names).values():
        for name in record["collections"]:
            users[name].add(str(record.get("migration")))
    return [
        name
        for name in names
        if not users[name] or load_config(path, name).migration in users[name]
    ]


@dataclass(slots=True)
class _Done:
    """What the file of a command holds."""

    command: list[str]
    collections: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Progress:
    """The collections that a command has done, on disk until it has done all of them.

    Attributes:
        file: The file. It only saves time: what a migration has done is in its journal.
        done: Their names.
    """

    file: Path
    command: Sequence[str]
    done: list[str]

    @classmethod
    def open(cls, path: Path, command: Sequence[str]) -> Progress:
        """Read what an earlier call of the same command has done.

        Args:
            path: The configuration.
            command: The verb and its options.
        """
        name = f"{path.stem}-{command[0]}-{digest_of(command)[:12]}.json"
        file = path.resolve().parent / FOLDER / "many" / name
        try:
            found = read_json(file, _Done, "delete the file: the command then begins anew")
        except FileNotFoundError:
            return cls(file, command, [])
        return cls(file, command, found.collections)

    def note(self, name: str) -> None:
        """Note that one is done."""
        self.done.append(name)
        write_json(self.file, {"command": list(self.command), "collections": self.done})

    def finish(self) -> None:
        """Delete the file: the same command begins anew."""
        self.file.unlink(missing_ok=True)
