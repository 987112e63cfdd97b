"""Search a collection before, during and after its migration: start here in an application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypedDict, Unpack

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from xbtmigrate.errors import ConfigError
from xbtmigrate.serving.engine import Answer, Core, Question
from xbtmigrate.serving.open_searcher import OpenOptions, open_core
from xbtmigrate.serving.round_trips import is_embedded, run, run_async
from xbtmigrate.serving.server_fusion import SearchOptions
from xbtmigrate.serving.state import ServingState


class QueryArguments(TypedDict, total=False):
    """The arguments of a search.

    Attributes:
        text: A text, embedded here.
        image: An image reference, embedded here.
        vector: A vector of the new model, if the application embeds by itself.
        old_vector: The same query in the old model, if the application embeds by itself.
        limit: Points to return, 10 without it.
        filter: Qdrant's filter.
        offset: Points to leave out first.
        with_payload: Qdrant's payload selector; the whole payload without it.
        with_vectors: Qdrant's vector selector; no vectors without it.
        score_threshold: Least score in the scale of the old model; translated to the scale of the
            serving.
        params: Qdrant's search parameters.
    """

    text: str | None
    image: str | None
    vector: Any
    old_vector: Any
    limit: int
    filter: models.Filter | None
    offset: int
    with_payload: Any
    with_vectors: Any
    score_threshold: float | None
    params: models.SearchParams | None


class _Searcher:
    """The properties that both searchers have."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @property
    def situation(self) -> ServingState:
        """State of the migration, as last read."""
        return self.core.state

    @property
    def problem(self) -> str:
        """Why the journal or the artefacts could not be re-read; "" if they could."""
        return self.core.problem


class MigrationSearcher(_Searcher):
    """Answers queries over a collection before, during and after its migration.

    Make it with `open`, keep it for the life of the application and share it between threads.
    """

    def __init__(self, client: QdrantClient, core: Core) -> None:
        super().__init__(core)
        self._client = client

    @classmethod
    def open(cls, client: QdrantClient, collection: str, **opening: Unpack[OpenOptions]) -> Self:
        """Open a searcher.

        Args:
            client: The application's own client.
            collection: Name or alias of the collection.
            **opening: Encoders and options; see `OpenOptions`.

        Raises:
            ArtefactError: There are no artefacts, or they do not belong to the migration.
        """
        opened = open_core(collection, embedded=is_embedded(client), **opening)
        return cls(client, run(client, opened))

    def search(self, **query: Unpack[QueryArguments]) -> Answer:
        """Answer one query.

        Args:
            **query: Exactly one of text, image and vectors, and what to return; see
                `QueryArguments`.

        Raises:
            ConfigError: Not exactly one of text, image and vectors was given.
            UnsupportedError: Nothing can answer with the models at hand.
            EncoderError: A vector is not of its model's size.
        """
        return run(self._client, self.core.search([make_question(**query)]))[0]

    def search_batch(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer several questions in shared round trips; see `search`."""
        return run(self._client, self.core.search(questions))

    def reload(self) -> ServingState:
        """Re-read the journal and the artefacts now, without waiting for the interval."""
        run(self._client, self.core.reload())
        return self.core.state


class AsyncMigrationSearcher(_Searcher):
    """Answers queries on an asyncio client; encoders run in a thread."""

    def __init__(self, client: AsyncQdrantClient, core: Core) -> None:
        super().__init__(core)
        self._client = client

    @classmethod
    async def open(
        cls, client: AsyncQdrantClient, collection: str, **opening: Unpack[OpenOptions]
    ) -> Self:
        """Open a searcher; see `MigrationSearcher.open`."""
        opened = open_core(collection, embedded=is_embedded(client), **opening)
        return cls(client, await run_async(client, opened))

    async def search(self, **query: Unpack[QueryArguments]) -> Answer:
        """Answer one query; see `MigrationSearcher.search`."""
        return (await run_async(self._client, self.core.search([make_question(**query)])))[0]

    async def search_batch(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer several questions in shared round trips; see `MigrationSearcher.search`."""
        return await run_async(self._client, self.core.search(questions))

    async def reload(self) -> ServingState:
        """Re-read the journal and the artefacts now, without waiting for the interval."""
        await run_async(self._client, self.core.reload())
        return self.core.state


def make_question(
    *,
    text: str | None = None,
    image: str | None = None,
    vector: Any = None,
    old_vector: Any = None,
    limit: int = 10,
    filter: models.Filter | None = None,  # noqa: A002
    offset: int = 0,
    with_payload: Any = True,
    with_vectors: Any = False,
    score_threshold: float | None = None,
    params: models.SearchParams | None = None,
) -> Question:
    """Turn the arguments of a search into a question; see `QueryArguments`.

    Raises:
        ConfigError: Not exactly one of text, image and vectors was given.
    """
    # Both vectors count as one: they are the same query in two models.
    given = [text is not None, image is not None, vector is not None or old_vector is not None]
    if sum(given) != 1:
        raise ConfigError(
            "a search takes one of text, image and vector",
            "give exactly one (old_vector may go with vector)",
        )
    options = SearchOptions(
        limit, offset, filter, with_payload, with_vectors, score_threshold, params
    )
    return Question(text, image, vector, old_vector, options)
