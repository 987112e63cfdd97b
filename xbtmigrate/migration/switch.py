"""The switch: the document with the collection, vector and model to query now.

The journal's copy is the truth; `.xbtmigrate/<migration>/switch.json` is written after it, for
applications that cannot read the journal. Reading needs pydantic alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import check_seal, parse, parse_json

FILE = "switch.json"


class _SwitchPart(BaseModel):
    # A later version may add keys that an application of today can do without.
    model_config = ConfigDict(extra="ignore", frozen=True)


class EncoderReference(_SwitchPart):
    """A model, by the name and options of its encoder."""

    name: str
    """Name of the encoder, as in the configuration."""
    options: dict[str, Any] = {}
    """Its options without secrets; relative paths start at the configuration file."""
    fingerprint: str = ""
    """Identity of the model; equal means same space. `""` where it is unknown."""


class Switch(_SwitchPart):
    """What an application queries now.

    No command prints this document. `cutover` and `rollback` write it to
    `.xbtmigrate/<migration>/switch.json` for applications to follow. The journal keeps the same
    document as `switch` of the migration's point in the collection `_xbtmigrate`; that copy is
    authoritative. In Python, `xbtmigrate.migration.switch.read_switch(folder)` reads it.
    """

    version: Literal[1] = 1
    """Version of this document: 1."""
    collection: str
    """The collection as the configuration names it."""
    migration: str
    """Name of the migration."""
    phase: str
    """Its phase when this was written."""
    active: Literal["old", "new"]
    """Which model to query with: `old` before a cutover and after a rollback, else `new`."""
    layout: Literal["in_place", "shadow"]
    """Where the new vectors are."""
    source_collection: str
    """Collection with the old vectors."""
    target_collection: str
    """Collection with the new vectors."""
    alias: str | None
    """Alias that leads to the active one; null where the application has to follow this
    document."""
    old_vector: str
    """Name of the old vector, `""` for the unnamed one."""
    new_vector: str
    """Name of the new vector."""
    old_encoder: EncoderReference
    """The old model."""
    new_encoder: EncoderReference
    """The new model."""
    plan_digest: str
    """Digest of the plan."""
    projectors: dict[str, str] = {}
    """Direction -> digest of each trained projector."""
    serving: str
    """Recommended [serving](#servings) while points are only projected."""
    serving_digest: str = ""
    """Digest of the calibration, `""` without one."""
    written_at: str
    """When, UTC, ISO 8601."""

    @property
    def query_collection(self) -> str:
        """Collection or alias to search in now."""
        # Cutover and rollback move the alias, so it leads to the right collection in any phase.
        if self.alias is not None:
            return self.alias
        return self.target_collection if self.active == "new" else self.source_collection

    @property
    def query_vector(self) -> str:
        """Name of the vector to search now, "" for the unnamed one."""
        return self.new_vector if self.active == "new" else self.old_vector

    @property
    def query_encoder(self) -> EncoderReference:
        """Model to embed queries with now."""
        return self.new_encoder if self.active == "new" else self.old_encoder

    @classmethod
    def parse(cls, content: Mapping[str, Any] | str | bytes, origin: str) -> Switch:
        """Read a switch from JSON, or from the journal's `switch`.

        Args:
            content: JSON text, or the object parsed from it.
            origin: Where it is from, for messages.

        Raises:
            ArtefactError: It is not a switch, or of a version that this program does not know.
        """
        hint = "`xbtmigrate doctor --yes` writes the file again from the journal"
        if isinstance(content, str | bytes):
            content = parse_json(content, origin, hint)
        return parse(content, cls, origin, hint)


def read_switch(path: Path) -> Switch | None:
    """Read the switch of a migration.

    Args:
        path: The file, or the folder `.xbtmigrate/<migration>`.

    Returns:
        The switch; None where nothing was ever cut over.

    Raises:
        ArtefactError: The file is damaged or cannot be read.
    """
    file = path / FILE if path.is_dir() else path
    try:
        check_seal(file, "`xbtmigrate doctor --yes` writes the file again from the journal")
        # A second read may find a newer file: both are whole, since it is replaced by a rename.
        return Switch.parse(file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtefactError(f"{file} cannot be read: {error}", "check its permissions") from error
