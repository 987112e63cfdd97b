"""Find inconsistencies between journal, artefacts and collections, and fix the safe ones."""

from __future__ import annotations

from collections.abc import Sequence

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.documents.operate import DoctorDocument
from xbtmigrate.errors import ArtefactError
from xbtmigrate.migration.plan import Plan
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.journal.run_control import Control
from xbtmigrate.workflows.backfill.control import is_running
from xbtmigrate.workflows.next_step import find_command, find_next_step, find_phase, next_step
from xbtmigrate.workflows.operate.case import Case, Inconsistency
from xbtmigrate.workflows.operate.checks import CHECKS
from xbtmigrate.workflows.operate.refusals import find_refusals
from xbtmigrate.workflows.prerequisites import route_option
from xbtmigrate.workflows.store import open_connection
from xbtmigrate.workflows.workspace import artefacts_of


def examine(config: Config, *, fix: bool) -> DoctorDocument:
    """Check journal, artefacts and collections, and fix what is safe where `fix` is set.

    Args:
        config: The settings.
        fix: Whether to fix what can be fixed without any risk.

    Raises:
        XbtMigrateError: The server cannot be used at all.
    """
    artefacts = artefacts_of(config)
    plan, trouble = _load_plan(artefacts)
    with open_connection(config) as connection:
        record = QdrantJournal(connection, config.migration).load()
        if plan is not None and record is not None and plan.follows(record):
            record = None  # of an earlier migration of the same name, which is over
        case = Case(config, connection, artefacts, record, plan, trouble)
        # All checks run before the first fix, so every finding describes the same state.
        found = [finding for check in CHECKS for finding in check(case)]
        # A command would refuse for the reasons found above, so its refusal would only repeat them.
        found += find_refusals(case, sound=not found)
        fixed = [each for each in found if fix and each.fix is not None]
        for each in fixed:
            assert each.fix is not None
            each.fix()
        left = [each for each in found if each not in fixed]
        following = _way_out(left) if left else _following(case)
    return {
        "migration": config.migration,
        "phase": record.phase if record else None,
        "healthy": not left,
        **following,
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


def _way_out(found: Sequence[Inconsistency]) -> NextDocument:
    """Return the command that resolves most, then the first that a way out names."""
    if any(each.fix is not None for each in found):
        return next_step("xbtmigrate doctor --yes")
    commands = [command for each in found if (command := find_command(each.way_out))]
    return next_step(commands[0] if commands else "xbtmigrate doctor", "Follow each way out first.")


def _following(case: Case) -> NextDocument:
    """Return the next step where nothing is wrong."""
    # Read anew: a fix may have restored the plan.
    plan, _ = _load_plan(case.artefacts)
    return find_next_step(
        find_phase(case.record, plan, case.artefacts),
        plan,
        running=is_running(case.record),
        paused=Control(case.connection, case.config.migration).read_command().paused,
        route="" if plan is None else route_option(case.connection, plan),
    )


def _load_plan(artefacts: Artefacts) -> tuple[Plan | None, str]:
    """Return the plan, or what is wrong with it: a damaged plan is a finding, not an error."""
    # The other checks continue without it.
    try:
        return (artefacts.load_plan() if artefacts.plan_file.exists() else None), ""
    except ArtefactError as error:
        return None, error.message
