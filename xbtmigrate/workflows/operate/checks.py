"""Check journal, artefacts and collections against each other, one inconsistency at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import xbtmigrate
from xbtmigrate.errors import StaleError, XbtMigrateError
from xbtmigrate.files import write_atomically
from xbtmigrate.migration.phases import OVER, Phase
from xbtmigrate.migration.switch import Switch, read_switch
from xbtmigrate.projectors import Projector
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.gallery.leftovers import (
    count_marked,
    count_probes,
    delete_probes,
    find_orphan_shadows,
    list_bench_collections,
)
from xbtmigrate.qdrant.gallery.remove import strip
from xbtmigrate.qdrant.journal.kept_hashes import has_ledger
from xbtmigrate.qdrant.wire.own_collection import find_shadow_record, forget_shadow
from xbtmigrate.types import Direction, Layout
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import NEXT
from xbtmigrate.workflows.operate.case import Case, Inconsistency
from xbtmigrate.workflows.serve.publish import find_lost_files
from xbtmigrate.workflows.store import store_over

SWITCHED = (Phase.CUTTING_OVER, Phase.CUT_OVER, Phase.ROLLING_BACK)
UNFINISHED = (
    Phase.BACKFILLING,
    Phase.CUTTING_OVER,
    Phase.ROLLING_BACK,
    Phase.FINALIZING,
    Phase.ABORTING,
)


def plan_lost(case: Case) -> Iterator[Inconsistency]:
    """The plan is missing, damaged, or not the one that the migration began with."""
    record, plan = case.begun, case.plan
    restore = f"restore {case.artefacts.folder} from a copy"
    if case.plan_error:
        way_out = "`xbtmigrate plan` makes a new one"
        if record is not None:
            way_out = f"{restore}, or delete {case.artefacts.plan_file} and run this again"
        yield Inconsistency("plan_damaged", case.plan_error, way_out)
    elif record is not None and plan is None:
        yield Inconsistency(
            "artefacts_lost",
            f"the migration is {record.phase}, but there is no {case.artefacts.plan_file}",
            *_restoring(case, f"{restore}: plan and projector are bound to the vectors written"),
        )
    elif record is not None and plan is not None and record.plan_digest != plan.digest:
        yield Inconsistency(
            "plan_differs",
            f"the migration is under plan {record.plan_digest[:12]}, here is {plan.digest[:12]}",
            f"{restore}, or run this from the folder that the migration began in",
        )


def _restoring(case: Case, otherwise: str) -> tuple[str, Callable[[], object] | None]:
    """Return what to do about lost files, and a fix if they are published in Qdrant."""
    assert case.record is not None
    lost = find_lost_files(case.connection, case.artefacts, case.record.plan_digest)
    if not lost:
        return otherwise, None

    def restore() -> None:
        for place, data in lost.items():
            write_atomically(place, partial(Path.write_bytes, data=data))

    return "`xbtmigrate doctor --yes` restores what the run has stored in Qdrant", restore


def plan_stale(case: Case) -> Iterator[Inconsistency]:
    """The config, collection or model no longer matches the plan."""
    # A migration that has ended, or is about to lose one side, no longer fits its plan.
    if case.plan is None or (case.record and case.record.phase in (*OVER, *UNFINISHED[3:])):
        return
    try:
        fingerprint = Models(case.config).new.fingerprint
        case.plan.check_current(store_over(case.config, case.connection).binding(fingerprint))
    except StaleError as error:
        way_out = error.hint
        if case.begun is not None:
            way_out = "undo the change, or give the migration up with `xbtmigrate abort`"
        yield Inconsistency("plan_stale", error.message, way_out)
    except XbtMigrateError:
        return  # what cannot be used is found by the checks of the commands


def projector_lost(case: Case) -> Iterator[Inconsistency]:
    """The projector that made the written vectors is missing or has been replaced."""
    record = case.begun
    if record is None or not record.projector_digest:
        return
    folder = case.artefacts.projector_folder(Direction.FORWARD)
    restore = f"restore {folder} from a copy, or undo the migration with `xbtmigrate abort`"
    try:
        found = Projector.load(folder).digest
    except XbtMigrateError as error:
        # If the plan is lost too, that check finds both, and restores both.
        if case.plan is not None:
            yield Inconsistency("projector_lost", error.message, *_restoring(case, restore))
        return
    if found != record.projector_digest:
        yield Inconsistency(
            "projector_differs",
            f"{folder} is not the projector that made the written vectors",
            restore,
        )


def ledger_lost(case: Case) -> Iterator[Inconsistency]:
    """The ledger is lost, so writes since the cutover cannot be told from older ones."""
    record = case.begun
    if record is None or record.phase not in SWITCHED or case.artefacts.ledger_file.exists():
        return
    if not has_ledger(case.connection, record.migration):
        yield Inconsistency(
            "ledger_lost",
            f"the migration is {record.phase}, but there is no {case.artefacts.ledger_file}, and "
            "none in Qdrant",
            "restore it from a copy; `xbtmigrate rollback --leave-behind` works without it",
        )


def newer_tool(case: Case) -> Iterator[Inconsistency]:
    """A newer version has worked on this migration."""
    record = case.record
    if record is not None and _version(record.tool_version) > _version(xbtmigrate.__version__):
        yield Inconsistency(
            "newer_tool",
            f"xbtmigrate {record.tool_version} wrote the record, this is {xbtmigrate.__version__}",
            "continue with that version",
        )


def unfinished(case: Case) -> Iterator[Inconsistency]:
    """A command was killed, or a lease is held by a process that has ended."""
    record, owner = case.record, case.owner
    if record is None:
        return
    # An embedded database allows one process, and this one has it open: no holder can be alive.
    dead = bool(record.owner) and (
        case.connection.embedded or (owner is not None and owner.is_dead())
    )
    if dead:
        shown = owner.shown if owner is not None else record.owner
        yield Inconsistency(
            "dead_lease",
            f"the lease is held by {shown}, which has ended",
            f"`{NEXT[record.phase]['next'] or 'xbtmigrate status'}` takes over the lease",
        )
    if record.phase in UNFINISHED and (dead or not record.owner):
        command = NEXT[record.phase]["next"]
        yield Inconsistency(
            "unfinished",
            f"a command was killed while the migration was {record.phase}",
            f"run `{command}`: it continues from there",
        )


def shadow_lost(case: Case) -> Iterator[Inconsistency]:
    """The collection with the new vectors is missing, or does not belong to this migration."""
    record, plan = case.begun, case.plan
    if plan is None or record is None or record.stage is None or record.phase is Phase.ABORTING:
        return
    source, target = plan.collection.name, plan.target.collection
    if not case.has(target):
        yield Inconsistency(
            "target_missing",
            f"there is no collection '{target}', to which the new vectors were written",
            "run `xbtmigrate abort --yes`, then plan and backfill again",
        )
    elif plan.target.layout is Layout.SHADOW and record.phase is not Phase.FINALIZING:
        recorded = find_shadow_record(case.connection, target)
        made_for = (source, plan.target.vector, plan.target.size, plan.target.distance)
        if recorded is None or tuple(map(str, recorded)) != tuple(map(str, made_for)):
            yield Inconsistency(
                "target_foreign",
                f"the collection '{target}' is not the shadow of this migration",
                "rename or delete it yourself, then backfill again",
            )
    # While `finalize` runs, the source may already be deleted as planned.
    if not case.has(source) and record.phase is not Phase.FINALIZING:
        yield Inconsistency(
            "source_missing",
            f"there is no collection '{source}', which held the old vectors",
            "restore it from a snapshot",
        )


def alias_elsewhere(case: Case) -> Iterator[Inconsistency]:
    """An alias points to another collection than the phase requires."""
    record, plan = case.begun, case.plan
    if record is None or plan is None or plan.target.layout is not Layout.SHADOW:
        return
    switch = Switch.parse(record.switch, "the journal") if record.switch else None
    # Before the first cutover only the plan knows the alias that readers use.
    alias = switch.alias if switch else plan.collection.alias
    # During a switch, the alias may point to either side.
    if alias is None or record.phase in (Phase.CUTTING_OVER, Phase.ROLLING_BACK):
        return
    new = record.phase in (Phase.CUT_OVER, Phase.FINALIZING)
    wanted = plan.target.collection if new else plan.collection.name
    found = list_aliases(case.connection).get(alias)
    if found != wanted:
        yield Inconsistency(
            "alias_elsewhere",
            f"the alias '{alias}' points to {found or 'nothing'}, not to '{wanted}'",
            _routes_of(record.phase, alias, wanted),
        )


def _routes_of(phase: Phase, alias: str, wanted: str) -> str:
    """Return what to do with a moved alias: what moves it on purpose, or that it goes back."""
    back = f"move '{alias}' back to '{wanted}'"
    meant = {Phase.CUT_OVER: "`xbtmigrate rollback`", Phase.VERIFIED: "`xbtmigrate cutover`"}
    return f"{back}, or run {meant[phase]} if that was meant" if phase in meant else back


def switch_differs(case: Case) -> Iterator[Inconsistency]:
    """The switch file differs from the journal."""
    record = case.record
    if record is None or record.switch is None:
        return
    true = Switch.parse(record.switch, "the journal")
    # An unreadable file counts as a wrong one: the journal is the truth.
    try:
        same = read_switch(case.artefacts.switch_file) == true
    except XbtMigrateError:
        same = False
    if not same:
        yield Inconsistency(
            "switch_differs",
            f"{case.artefacts.switch_file} differs from the journal",
            "`xbtmigrate doctor --yes` rewrites it",
            fix=lambda: case.artefacts.save_switch(true),
        )


def foreign_marks(case: Case) -> Iterator[Inconsistency]:
    """Points have marks of a plan that is not this migration's."""
    if case.plan is None or not case.has(case.plan.target.collection):
        return
    name, over = case.plan.target.collection, case.begun is None
    # Between migrations every mark is a leftover; during one, only those of other plans.
    count = count_marked(case.connection, name, None if over else case.plan.digest)
    if not count:
        return
    if over:
        yield Inconsistency(
            "leftover_marks",
            f"{count:,} points of '{name}' have marks, but no migration is in progress",
            "`xbtmigrate doctor --yes` removes them",
            fix=lambda: strip(case.connection, name, [], lambda _: None),
        )
    else:
        yield Inconsistency(
            "unknown_plan",
            f"{count:,} points of '{name}' have marks of another plan",
            "`xbtmigrate verify --yes` makes their vectors again",
        )


def leftovers(case: Case) -> Iterator[Inconsistency]:
    """Killed commands left probe records, records of deleted shadows or collections of `bench`."""
    connection = case.connection
    if count := count_probes(connection):
        yield Inconsistency(
            "leftover_probes",
            f"{count} probe record(s) are left in the journal",
            "`xbtmigrate doctor --yes` deletes them",
            fix=lambda: delete_probes(connection),
        )
    for shadow in find_orphan_shadows(connection):
        yield Inconsistency(
            "orphan_record",
            f"the journal lists the shadow '{shadow}', but there is no such collection",
            "`xbtmigrate doctor --yes` removes the record",
            fix=partial(forget_shadow, connection, shadow),
        )
    for name in list_bench_collections(connection):
        yield Inconsistency(
            "leftover_bench",
            f"the collection '{name}' was left by a `bench` that may have been killed",
            "delete it yourself if no bench is running",
        )


CHECKS: tuple[Callable[[Case], Iterator[Inconsistency]], ...] = (
    plan_lost,
    plan_stale,
    projector_lost,
    ledger_lost,
    newer_tool,
    unfinished,
    shadow_lost,
    alias_elsewhere,
    switch_differs,
    foreign_marks,
    leftovers,
)


def _version(text: str) -> tuple[int, ...]:
    """Return the numeric parts of a version, which compare as a tuple."""
    parts = text.split(".")
    return tuple(int(part) for part in parts if part.isdecimal())
