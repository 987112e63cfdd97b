"""Open a migration's collection, galleries and journal in Qdrant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from xbtmigrate.backfill.step_times import StepTimes
from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError, CollectionError, GateError
from xbtmigrate.migration.phases import FREE, Phase
from xbtmigrate.migration.plan import Plan, Target
from xbtmigrate.projectors import EmbedTexts, open_side
from xbtmigrate.protocols import Gallery, Journal
from xbtmigrate.qdrant.collection.aliases import list_aliases
from xbtmigrate.qdrant.collection.facts import CollectionFacts, inspect
from xbtmigrate.qdrant.collection.index_recall import find_nearest
from xbtmigrate.qdrant.gallery.layout import NewSpace, choose_layout
from xbtmigrate.qdrant.gallery.open_gallery import open_gallery
from xbtmigrate.qdrant.journal.journal import QdrantJournal
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import EmbeddedFields
from xbtmigrate.types import Direction, Distance, Layout, Modality, PointId, Vectors
from xbtmigrate.workflows.workspace import artefacts_of


@dataclass(frozen=True)
class Store:
    """The Qdrant of one migration.

    Attributes:
        config: The settings.
        connection: The open Qdrant.
        facts: The collection as it is now.
    """

    config: Config
    connection: Connection
    facts: CollectionFacts

    @property
    def new_distance(self) -> Distance:
        """Distance of the new space."""
        return self.config.new_model.distance or self.facts.distance

    @cached_property
    def fields(self) -> EmbeddedFields:
        """Where the embedded content is in a payload."""
        payload = self.config.payload
        return EmbeddedFields(payload.text, payload.image, self.config.old_model.stored)

    @cached_property
    def journal(self) -> Journal:
        """The migration's record in the same Qdrant."""
        return QdrantJournal(self.connection, self.config.migration)

    def reader(self, query_field: str | None = None) -> Gallery:
        """Open the collection as it is before a plan: sources, old and side vectors only.

        Args:
            query_field: Read this payload field in place of the embedded text.
        """
        facts, fields = self.facts, self.fields
        if query_field is not None:
            fields = EmbeddedFields(query_field, fields.image, Modality.TEXT)
        # There is no new vector yet: the old one takes its place. The empty digest below is
        # that of no plan.
        as_it_is = Target(
            layout=Layout.IN_PLACE,
            collection=facts.collection,
            vector=facts.vector,
            size=facts.size,
            distance=facts.distance,
            creates_vector=False,
            creates_collection=False,
            reason="",
        )
        _, text_side = self._side()
        # Side vectors are stored ones or made from the text, never both.
        side = text_side or self.config.qdrant.side_vector
        return open_gallery(self.connection, facts, as_it_is, fields, "", side=side)

    def _side(self) -> tuple[int, EmbedTexts | None]:
        """Return the length of the projector's side vectors, and what makes them from texts.

        Read each time: `train-projector` replaces the projector while the store is open.
        """
        folder = artefacts_of(self.config).projector_folder(Direction.FORWARD)
        return open_side(folder) if folder.exists() else (0, None)

    def gallery(self, plan: Plan, times: StepTimes | None = None) -> Gallery:
        """Open the collection as the plan migrates it; `times` measures how long marks take."""
        target = plan.target
        size, text_side = self._side()
        # A stored side vector is read only if the projector takes it: vectors make pages large.
        stored = self.config.qdrant.side_vector if size else None
        return open_gallery(
            self.connection,
            self.facts,
            target,
            self.fields,
            plan.digest,
            side=text_side or stored,
            times=times,
        )

    def layout(self, dimension: int, *, resuming: bool) -> Target:
        """Choose where the new vectors go.

        Args:
            dimension: Length of the new vectors.
            resuming: Whether this migration has written vectors before.

        Raises:
            UnsupportedError: The configured layout is not possible on this server.
            CollectionError: Something that is not ours is in the way.
        """
        wanted = self.config.plan.layout
        space = NewSpace(self.config.qdrant.new_vector_name, dimension, self.new_distance)
        return choose_layout(
            self.facts,
            self.connection,
            None if wanted == "auto" else Layout(wanted),
            space,
            resuming=resuming,
        )

    def nearest(self, vectors: Vectors, count: int) -> list[list[PointId]]:
        """Return the points that old-model queries find in the collection as it is, best first."""
        return find_nearest(self.connection, self.facts, vectors, count)

    def refuse_while_under_way(self, because: str) -> None:
        """Raise if a migration is in progress that the command would invalidate.

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

    def binding(self, fingerprint: str) -> dict[str, str]:
        """Return everything a plan depends on, as it is now.

        Args:
            fingerprint: That of the new model.
        """
        # Key by key, so that a stale plan can name what has changed.
        return self.config.binding() | {
            "collection": self.facts.collection,
            "collection.identity": self.facts.identity,
            "new_model.fingerprint": fingerprint,
        }


@contextmanager
def open_connection(config: Config) -> Iterator[Connection]:
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
def open_store(config: Config) -> Iterator[Store]:
    """Connect, inspect the collection, and close the connection at the end.

    Raises:
        XbtMigrateError: The server or the collection cannot be used as configured.
    """
    with open_connection(config) as connection:
        yield store_over(config, connection)


def store_over(config: Config, connection: Connection) -> Store:
    """Inspect the collection of a migration over an open connection.

    Raises:
        GateError: It is being deleted by a command that was killed.
        XbtMigrateError: The collection cannot be used as configured.
    """
    try:
        facts = inspect(connection, _source(config, connection), config.qdrant.vector)
    except CollectionError as error:
        # A killed `finalize` or `abort` may have deleted the collection. The record tells this
        # from a misspelt name.
        record = QdrantJournal(connection, config.migration).load()
        if record is not None and record.phase in (Phase.FINALIZING, Phase.ABORTING):
            raise GateError(
                f"migration '{config.migration}' is {record.phase}: {error.message}",
                "`xbtmigrate status` names the command to continue with",
            ) from error
        raise
    return Store(config, connection, facts)


def _source(config: Config, connection: Connection) -> str:
    """Return the collection with the old vectors, even if its alias has been moved."""
    name = config.qdrant.collection
    try:
        plan = artefacts_of(config).load_plan()
    except ArtefactError:
        return name  # `plan` makes a new one; commands that need this one refuse it
    source, target = plan.collection.name, plan.target
    # After a cutover the alias leads to the shadow; the migration still concerns its source.
    moved = (
        target.layout is Layout.SHADOW and list_aliases(connection).get(name) == target.collection
    )
    there = moved and connection.call(lambda: connection.client.collection_exists(source))
    # `finalize` may have deleted the source.
    return source if there else name
