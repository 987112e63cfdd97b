"""Choose how applications reach the new vectors, and write the switch that they follow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import GONE, Config, NewModelSection, OldModelSection
from xbtmigrate.errors import GateError, XbtMigrateError
from xbtmigrate.migration.phases import MigrationRecord, Phase, utc_now
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.switch import EncoderReference, Switch
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Encoder
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import Direction, Layout, digest_of
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.prerequisites import describe_routes

# The switch is read by every application, so options that may hold credentials stay out of it.
_SECRET = re.compile(r"key|token|secret|password|header|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Route:
    """How applications reach the new vectors.

    Attributes:
        alias: Alias that is moved; None where applications follow the switch.
        others: Further aliases of the source, which are left where they are.
    """

    alias: str | None
    others: tuple[str, ...]


def choose_route(
    config: Config, connection: Connection, plan: Plan, alias: str | None, *, by_switch: bool
) -> Route:
    """Choose between moving an alias and letting applications follow the switch.

    Args:
        config: The settings.
        connection: The open Qdrant.
        plan: Its plan.
        alias: Alias that the user names.
        by_switch: Whether applications follow the switch, as the user states.

    Raises:
        GateError: No alias leads to the source, so that nothing can be moved.
    """
    # In place both vectors are in one collection: an alias cannot choose between them.
    if plan.target.layout is Layout.IN_PLACE or by_switch:
        return Route(None, ())
    source, target = plan.collection.name, plan.target.collection
    leading = {name: to for name, to in list_aliases(connection).items() if to in (source, target)}
    wanted = alias or config.qdrant.collection
    if wanted in leading:
        return Route(wanted, tuple(each for each in leading if each != wanted))
    there = ", ".join(f"'{each}'" for each in leading) or "none"
    raise GateError(
        f"'{wanted}' is not an alias of '{source}', so there is nothing to move (aliases: {there})",
        describe_routes(connection, source),
    )


def describe_reader_change(plan: Plan, alias: str | None, *, back: bool = False) -> str:
    """Return a sentence: what readers must send after a switch, and what unchanged readers get.

    Args:
        plan: The plan.
        alias: Alias that is moved; None where nothing is moved.
        back: Whether the switch is a rollback.
    """
    source, target = plan.collection, plan.target
    event, model, vector, size = "cutover", "new", target.vector, target.size
    # `left` is what an unchanged reader still gets, until `ending` deletes it.
    ending, left, there = "finalize", f"the points of '{source.name}'", target.collection
    if back:
        event, model, vector, size = "rollback", "old", source.vector, source.size
        ending, left, there = "abort", f"the points of '{target.collection}'", source.name
    if target.layout is Layout.IN_PLACE:
        left = f"the {'new' if back else 'old'} vectors"
        there = source.alias or source.name
    # Three cases: the alias points to vectors of the same name and size (no error), to others (an
    # error), or nothing was moved (the reader stays on the left side).
    if is_silent(plan, alias):
        unchanged = "gets wrong points without an error"
    elif alias is not None:
        unchanged = "gets errors"
    else:
        unchanged = f"still gets {left}, until `{ending}` deletes them"
    binding = plan.binding
    name = binding.get(f"{model}_model.model") or binding[f"{model}_model.encoder"]
    using = f'with using="{vector}"' if vector else "without `using`"
    if name == GONE:
        return (
            "The old model is gone: from the rollback on every reader must search "
            f"'{alias or there}' {using} over the bridge, with vectors of the new model; an "
            f"unchanged reader {unchanged}."
        )
    return (
        f"From the {event} on every reader must send vectors of the {model} model ({name}, "
        f"{size:,} numbers) to '{alias or there}' {using}; "
        f"an unchanged reader {unchanged}."
    )


def is_silent(plan: Plan, alias: str | None) -> bool:
    """Whether an unchanged request stays valid after the cutover, but searches the other space."""
    old, new = plan.collection, plan.target
    return alias is not None and (old.vector, old.size) == (new.vector, new.size)


def find_route(record: MigrationRecord) -> Route | None:
    """Return the route of a cutover that has begun or ended; None before."""
    # A verified record with a switch was rolled back earlier; the next cutover chooses again.
    if record.phase is Phase.VERIFIED or record.switch is None:
        return None
    return Route(Switch.parse(record.switch, "the journal").alias, ())


def move_record(
    models: Models,
    artefacts: Artefacts,
    plan: Plan,
    record: MigrationRecord,
    *,
    phase: Phase,
    route: Route,
) -> MigrationRecord:
    """Return the record in another phase, with the switch that goes with it."""
    moved = record.move_to(phase)
    # CUTTING_OVER still names the old side: readers follow once the alias has moved.
    active = "new" if phase in (Phase.CUT_OVER, Phase.FINALIZED) else "old"
    switch = _switch(
        models, artefacts, plan, phase, route, active="new" if active == "new" else "old"
    )
    return replace(moved, switch=switch.model_dump(mode="json"))


def update_switch(record: MigrationRecord, phase: Phase) -> MigrationRecord:
    """Return the record in another phase, with the phase updated in its switch, if any."""
    moved = record.move_to(phase)
    if record.switch is None:
        return moved
    switch = Switch.parse(record.switch, "the journal")
    changed = switch.model_copy(update={"phase": phase.value, "written_at": utc_now()})
    return replace(moved, switch=changed.model_dump(mode="json"))


def give_notice(connection: Connection, seconds: float, report: Report) -> None:
    """Wait until searchers and wrapped clients have seen the new phase in the journal.

    A client that has not would write vectors and marks that are being removed. An embedded database
    has no other users.
    """
    if seconds and not connection.embedded:
        report(f"giving applications {seconds:g} s to notice", 0, 0)
        time.sleep(seconds)


def publish(artefacts: Artefacts, record: MigrationRecord) -> None:
    """Write the file from the journal's switch."""
    if record.switch is not None:
        artefacts.save_switch(Switch.parse(record.switch, "the journal"))


def _switch(
    models: Models,
    artefacts: Artefacts,
    plan: Plan,
    phase: Phase,
    route: Route,
    *,
    active: Literal["old", "new"],
) -> Switch:
    config = models.config
    folders = {each: artefacts.projector_folder(each) for each in Direction}
    serving = sorted(artefacts.serving_folder.glob("*"))
    return Switch(
        collection=config.qdrant.collection,
        migration=config.migration,
        phase=phase.value,
        active=active,
        layout=plan.target.layout.value,
        source_collection=plan.collection.name,
        target_collection=plan.target.collection,
        alias=route.alias,
        old_vector=plan.collection.vector,
        new_vector=plan.target.vector,
        # Functions, because building an encoder may fail.
        old_encoder=_reference(config.old_model, lambda: models.old),
        new_encoder=_reference(config.new_model, lambda: models.new),
        plan_digest=plan.digest,
        projectors={
            each.value: Projector.load(folder).digest
            for each, folder in folders.items()
            if folder.exists()
        },
        # Digests let an application see that its local projectors and calibration are out of date.
        serving=plan.serving,
        serving_digest=digest_of(
            part for file in serving for part in (file.name, file.read_bytes())
        )
        if serving
        else "",
        written_at=utc_now(),
    )


def _reference(section: OldModelSection | NewModelSection, encoder: Any) -> EncoderReference:
    try:
        made: Encoder = encoder()
        fingerprint = made.fingerprint
    except XbtMigrateError:
        # Only a reference: a model that cannot be loaded here must not block a rollback.
        fingerprint = ""
    return EncoderReference(
        name=section.encoder, options=_public(section.model_extra or {}), fingerprint=fingerprint
    )


def _public(options: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what may be a secret; the name of an environment variable is not one."""
    return {
        name: value
        for name, value in options.items()
        if name.endswith("_env") or not _SECRET.search(name)
    }
