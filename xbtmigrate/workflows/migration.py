"""Workflows: the one place that chooses concrete parts for a migration."""

from __future__ import annotations

import inspect as introspection
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from xbtmigrate import registry
from xbtmigrate.artefacts import FOLDER, Artefacts
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.config import Config, NewModelSection, OldModelSection
from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.errors import ArtefactError, CollectionError, GateError
from xbtmigrate.migration.phases import FREE, Phase
from xbtmigrate.migration.plan import Plan, Target
from xbtmigrate.ordering import BenefitOrdering, UncertaintyOrdering
from xbtmigrate.ordering.benefit import BenefitModel
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Encoder, Gallery, Journal, Ordering
from xbtmigrate.qdrant.collection.aliases import aliases
from xbtmigrate.qdrant.collection.facts import CollectionFacts, inspect
from xbtmigrate.qdrant.collection.index_recall import nearest
from xbtmigrate.qdrant.gallery.layout import LayoutChoice, NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.types import Direction, Distance, Layout, Modality, PointId, Vectors


@dataclass(frozen=True)
class Migration:
    """One configured migration with an open connection; parts are made when first used.

    Attributes:
        config: The settings.
        connection: The open Qdrant.
        facts: The collection as it is now.
    """

    config: Config
    connection: Connection
    facts: CollectionFacts

    @property
    def stored(self) -> Modality:
        """What the stored vectors, and so the new ones, embed."""
        return self.config.old_model.stored

    @property
    def new_distance(self) -> Distance:
        """Distance of the new space."""
        return self.config.new_model.distance or self.facts.distance

    @cached_property
    def fields(self) -> EmbeddedFields:
        """Where the embedded content is in a payload."""
        payload = self.config.payload
        return EmbeddedFields(payload.text, payload.image, self.stored)

    @cached_property
    def artefacts(self) -> Artefacts:
        """The migration's folder."""
        return artefacts_of(self.config)

    @cached_property
    def old_encoder(self) -> Encoder:
        """The old model."""
        return self._encoder(self.config.old_model)

    @cached_property
    def new_encoder(self) -> Encoder:
        """The new model."""
        return self._encoder(self.config.new_model)

    @cached_property
    def tuned_encoder(self) -> Encoder | None:
        """The new model with the additions that were trained for the bridge, if there are any."""
        folder = self.artefacts.lora_folder
        if not folder.exists():
            return None
        return self._encoder(self.config.new_model, lora=str(folder.resolve()))

    @cached_property
    def known(self) -> VectorCache:
        """Vectors of the new model paid for so far."""
        encoder = self.new_encoder
        return self.artefacts.known_vectors(encoder.fingerprint, encoder.dimension)

    @cached_property
    def journal(self) -> Journal:
        """The migration's record in the same Qdrant."""
        return QdrantJournal(self.connection, self.config.migration)

    def reader(self, query_field: str | None = None) -> Gallery:
        """The collection before anything is decided: sources, old and side vectors only.

        Args:
            query_field: Read this payload field in place of the embedded text.
        """
        facts, fields = self.facts, self.fields
        if query_field is not None:
            fields = EmbeddedFields(query_field, fields.image, Modality.TEXT)
        space = NewSpace(facts.vector, facts.size, facts.distance)
        as_it_is = LayoutChoice(
            Layout.IN_PLACE,
            facts.collection,
            space,
            creates_vector=False,
            creates_collection=False,
            reason="",
        )
        forward = self._forward()
        text_side = None if forward is None else forward.text_side
        side = None if text_side else self.config.qdrant.side_vector
        return open_gallery(
            self.connection, facts, as_it_is, fields, "", side=side, text_side=text_side
        )

    def _forward(self) -> Projector | None:
        """Load the forward projector, if one was trained."""
        folder = self.artefacts.projector_folder(Direction.FORWARD)
        return Projector.load(folder) if folder.exists() else None

    def gallery(self, plan: Plan) -> Gallery:
        """The collection as the plan migrates it."""
        choice = choice_of(plan.target)
        forward = self._forward()
        text_side = None if forward is None else forward.text_side
        stored = forward is not None and forward.d_side > 0 and text_side is None
        return open_gallery(
            self.connection,
            self.facts,
            choice,
            self.fields,
            plan.digest,
            side=self.config.qdrant.side_vector if stored else None,
            text_side=text_side,
        )

    def layout(self, *, resuming: bool) -> LayoutChoice:
        """Where the new vectors go.

        Raises:
            UnsupportedError: The configured layout is not possible on this server.
            CollectionError: Something that is not ours is in the way.
        """
        wanted = self.config.plan.layout
        space = NewSpace(
            self.config.qdrant.new_vector_name, self.new_encoder.dimension, self.new_distance
        )
        return choose_layout(
            self.facts,
            self.connection,
            None if wanted == "auto" else Layout(wanted),
            space,
            resuming=resuming,
        )

    def ordering(
        self,
        name: str,
        projector: Projector | None,
        demand: Mapping[PointId, int] | None = None,
        benefit: BenefitModel | None = None,
    ) -> Ordering:
        """Make an ordering, giving it what its factory asks for by name.

        Args:
            name: Name of the ordering.
            projector: The forward projector, where there is one.
            demand: How often queries reached points, where a log was given.
            benefit: What re-encoding a point is worth; None for what train-projector kept.

        Raises:
            PluginError: There is no such ordering, or it needs what there is not.
        """
        factory = registry.load(registry.ORDERINGS, name)
        wanted = introspection.signature(factory).parameters
        offered: dict[str, object] = {
            "seed": self.config.plan.seed,
            "projector": projector,
            "demand": demand,
        }
        if "benefit" in wanted:
            offered["benefit"] = benefit or self._benefit(projector)
        if "otherwise" in wanted:
            offered["otherwise"] = self._otherwise(projector)
        options = {key: value for key, value in offered.items() if key in wanted}
        ordering: Ordering = registry.build(registry.ORDERINGS, name, options, self.config.base)
        return ordering

    def _benefit(self, projector: Projector | None) -> BenefitModel | None:
        """What train-projector learned for this projector."""
        arrangement = self.artefacts.load_arrangement()
        if arrangement is None or projector is None:
            return None
        found = self.artefacts.load_benefit(arrangement)
        return found if found is not None and found.forward == projector.digest else None

    def _otherwise(self, projector: Projector | None) -> Ordering | None:
        """The best order for points that another one does not tell apart."""
        if projector is None or not projector.has_uncertainty:
            return None
        learned = self._benefit(projector)
        if learned is None or learned.trees is None:
            return UncertaintyOrdering(projector=projector)
        return BenefitOrdering(projector=projector, benefit=learned)

    def nearest(self, vectors: Vectors, count: int) -> list[list[PointId]]:
        """Points that old-model queries find in the collection as it is, best first."""
        return nearest(self.connection, self.facts, vectors, count)

    def price_per_item(self, items: Sequence[str]) -> float | None:
        """Price of encoding one item: configured, else from the encoder's price per token."""
        configured = self.config.plan.price_per_million_items
        if configured is not None:
            return configured / 1e6
        price = getattr(self.new_encoder, "price_per_million_tokens", None)
        count = getattr(self.new_encoder, "count_tokens", None)
        if price is None or count is None or not items:
            return None
        return float(price) * float(count(items)) / len(items) / 1e6

    def refuse_while_under_way(self, because: str) -> None:
        """Refuse what would pull the ground from under a running or paused migration.

        Raises:
            GateError: It is under way.
        """
        record = self.journal.load()
        if record is not None and record.phase not in FREE:
            raise GateError(
                f"migration '{record.migration}' is {record.phase} under plan "
                f"{record.plan_digest[:12]}; {because}",
                "finish it, or undo it with `xbtmigrate abort`",
            )

    def binding(self) -> dict[str, str]:
        """Everything a plan depends on, as it is now."""
        return self.config.binding() | {
            "collection": self.facts.collection,
            "collection.identity": self.facts.identity,
            "new_model.fingerprint": self.new_encoder.fingerprint,
        }

    def _encoder(self, section: OldModelSection | NewModelSection, **more: str) -> Encoder:
        options = {**(section.model_extra or {}), **more}
        return CheckedEncoder(
            registry.build(registry.ENCODERS, section.encoder, options, self.config.base)
        )


def artefacts_of(config: Config) -> Artefacts:
    """The folder of a migration."""
    return Artefacts(config.base / FOLDER / config.migration)


@contextmanager
def connected(config: Config) -> Iterator[Connection]:
    """Connect, and close the connection at the end.

    Raises:
        XbtMigrateError: The server cannot be used as configured.
    """
    qdrant = config.qdrant
    connection = connect(
        config.url,
        api_key=config.api_key,
        prefer_grpc=qdrant.grpc,
        grpc_port=qdrant.grpc_port,
        timeout=qdrant.timeout,
        ca_file=config.ca_file,
    )
    with connection:
        yield connection


@contextmanager
def open_migration(config: Config) -> Iterator[Migration]:
    """Connect, inspect the collection, and close the connection at the end.

    Raises:
        XbtMigrateError: The server or the collection cannot be used as configured.
    """
    with connected(config) as connection:
        yield migration_over(config, connection)


def migration_over(config: Config, connection: Connection) -> Migration:
    """Inspect the collection of a migration over an open connection.

    Raises:
        GateError: It is being deleted by a command that was killed.
        XbtMigrateError: The collection cannot be used as configured.
    """
    try:
        facts = inspect(connection, _source(config, connection), config.qdrant.vector)
    except CollectionError as error:
        record = QdrantJournal(connection, config.migration).load()
        if record is not None and record.phase in (Phase.FINALIZING, Phase.ABORTING):
            raise GateError(
                f"migration '{config.migration}' is {record.phase}: {error.message}",
                "`xbtmigrate status` names the command that goes on",
            ) from error
        raise
    return Migration(config, connection, facts)


def _source(config: Config, connection: Connection) -> str:
    """Name of the collection with the old vectors, also when its alias has been moved on."""
    name = config.qdrant.collection
    try:
        plan = artefacts_of(config).load_plan()
    except ArtefactError:
        return name  # `plan` makes a new one; whoever needs this one refuses it by itself
    source, target = plan.collection.name, plan.target
    moved = target.layout is Layout.SHADOW and aliases(connection).get(name) == target.collection
    there = moved and connection.call(lambda: connection.client.collection_exists(source))
    return source if there else name


def target_of(choice: LayoutChoice) -> Target:
    """Put a layout into the words of the plan."""
    return Target(
        layout=choice.layout,
        collection=choice.collection,
        vector=choice.space.name,
        size=choice.space.size,
        distance=choice.space.distance,
        creates_vector=choice.creates_vector,
        creates_collection=choice.creates_collection,
        reason=choice.reason,
    )


def choice_of(target: Target) -> LayoutChoice:
    """Put a plan's target back into the words of the layouts."""
    return LayoutChoice(
        layout=target.layout,
        collection=target.collection,
        space=NewSpace(target.vector, target.size, Distance(target.distance)),
        creates_vector=target.creates_vector,
        creates_collection=target.creates_collection,
        reason=target.reason,
    )
