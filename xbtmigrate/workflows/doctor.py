"""Workflows: doctor. Name every inconsistency and the way out; put right what is safe."""

from __future__ import annotations

from typing import Any

from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError
from xbtmigrate.qdrant.journal import QdrantJournal
from xbtmigrate.workflows.ailments import CHECKS, Case
from xbtmigrate.workflows.wiring import artefacts_of, connected


def examine(config: Config, *, fix: bool) -> dict[str, Any]:
    """Look at journal, artefacts and collections.

    Args:
        config: The settings.
        fix: Put right what can be without any risk.

    Returns:
        The stable JSON form.

    Raises:
        XbtMigrateError: The server cannot be used at all.
    """
    artefacts = artefacts_of(config)
    plan, trouble = None, ""
    if artefacts.plan_file.exists():
        try:
            plan = artefacts.load_plan()
        except ArtefactError as error:
            trouble = error.message
    with connected(config) as connection:
        record = QdrantJournal(connection, config.migration).load()
        case = Case(config, connection, artefacts, record, plan, trouble)
        found = [finding for check in CHECKS for finding in check(case)]
        fixed = [each for each in found if fix and each.fix is not None]
        for each in fixed:
            assert each.fix is not None
            each.fix()
    return {
        "migration": config.migration,
        "phase": record.phase.value if record else None,
        "healthy": len(fixed) == len(found),
        "findings": [
            {
                "name": each.name,
                "message": each.message,
                "way_out": each.way_out,
                "fixable": each.fix is not None,
                "fixed": each in fixed,
            }
            for each in found
        ],
    }
