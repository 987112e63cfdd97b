"""Define the switch: the document with the collection, vector and model to query now.

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


class _Part(BaseModel):
    # A later version may add keys that an application of today can do without.
    model_config = ConfigDict(extra="ignore", frozen=True)


class EncoderReference(_Part):
    """A model, by the name and options of its encoder.

    Attributes:
        name: Name of the encoder, as in the configuration.
        options: Its options without secrets; relative paths start at the configuration file.
        fingerprint: Identity of the model; equal means same space. "" where it is unknown.
    """

    name: str
    options: dict[str, Any] = {}
    fingerprint: str = ""


class Switch(_Part):
    """What an application queries now.

    Attributes:
        version: Version of this document.
        collection: The collection as the configuration, and so the application, names it.
        migration: Name of the migration.
        phase: Its phase when this was written.
        active: Which model queries are to be made with: `old` before a cutover and after a
            rollback, else `new`.
        layout: `in_place` or `shadow`.
        source_collection: Real name of the collection with the old vectors.
        target_collection: Real name of the collection with the new vectors.
        alias: Alias that was moved, None where the application has to follow this document.
        old_vector: Name of the old vector, "" for the unnamed one.
        new_vector: Name of the new vector, "" for the unnamed one.
        old_encoder: The old model.
        new_encoder: The new model.
        plan_digest: Digest of the plan.
        projectors: Direction -> digest of each trained projector.
        serving: How queries are best answered while some points are only projected, as the plan
            or an evaluation recommends it.
        serving_digest: Digest of the calibration of mixed galleries, "" where there is none.
        written_at: When this was written, UTC, ISO 8601.
    """

    version: Literal[1] = 1
    collection: str
    migration: str
    phase: str
    active: Literal["old", "new"]
    layout: Literal["in_place", "shadow"]
    source_collection: str
    target_collection: str
    alias: str | None
    old_vector: str
    new_vector: str
    old_encoder: EncoderReference
    new_encoder: EncoderReference
    plan_digest: str
    projectors: dict[str, str] = {}
    serving: str
    serving_digest: str = ""
    written_at: str

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
