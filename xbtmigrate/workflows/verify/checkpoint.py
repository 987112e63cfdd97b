"""Store the state of a verification, so that an interrupted one resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from xbtmigrate.errors import ArtefactError
from xbtmigrate.files import read_json, write_json
from xbtmigrate.types import PointId
from xbtmigrate.workflows.verify.check_points import BEHIND, Fault, Found

MAX_MISMATCHES = 10_000
"""Most faulty points that are stored; with more of them, the scan stops."""


class Mismatch(BaseModel):
    """One faulty point, with a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: Fault
    detail: str


class VerifyCheckpoint(BaseModel):
    """The state of one verification.

    Attributes:
        version: Version of the file.
        plan: Digest of the plan that is verified.
        fraction: Share of the points that had to be encoded when it began.
        sample: Points to look at; None for all.
        reencode: Encoded points to encode again.
        started_at: When it began, UTC, ISO 8601.
        cursor: Last point looked at; a resumed run reads behind it.
        checked: Points looked at.
        finished: Whether every point has been looked at.
        mismatches: Points at fault.
        compared: Kind -> how many vectors were made again and compared.
        least_cosine: Kind -> the lowest cosine to a vector made again.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    plan: str
    fraction: float
    sample: int | None
    reencode: int
    started_at: str
    cursor: PointId | None = None
    checked: int = 0
    finished: bool = False
    mismatches: dict[PointId, Mismatch] = {}
    compared: dict[str, int] = {}
    least_cosine: dict[str, float] = {}

    @property
    def overflowing(self) -> bool:
        """Whether there are more mismatches than are stored."""
        # Such a collection needs a backfill, and the file would grow with every point.
        return len(self.mismatches) > MAX_MISMATCHES

    @property
    def behind(self) -> int:
        """Points that were written since the last backfill."""
        return sum(each.fault in BEHIND for each in self.mismatches.values())

    @property
    def found(self) -> Found:
        """The mismatches in the form that the examiner returns."""
        return {point: (each.fault, each.detail) for point, each in self.mismatches.items()}

    def remember(self, found: Found) -> None:
        """Add mismatches."""
        more = {
            point: Mismatch(fault=fault, detail=detail) for point, (fault, detail) in found.items()
        }
        self.mismatches = self.mismatches | more

    def continues(self, other: VerifyCheckpoint) -> bool:
        """Whether this unfinished verification has the same extent as `other`."""
        # The options that choose points. Options such as `--max-stale` only apply to the result.
        asked = ("plan", "fraction", "sample", "reencode")
        return not self.finished and all(
            getattr(self, name) == getattr(other, name) for name in asked
        )

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.model_dump(mode="json"))


def resume_or_start(path: Path, asked: VerifyCheckpoint) -> VerifyCheckpoint:
    """Return the unfinished verification of the same extent, or `asked` if there is none."""
    try:
        former = read_json(path, VerifyCheckpoint, "")
    except (FileNotFoundError, ArtefactError):
        # Without a readable file, the scan only starts again.
        return asked
    return former if former.continues(asked) else asked
