"""Room `search`: the searcher of an application, sync and async."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from xbtmigrate.errors import ConfigError
from xbtmigrate.search.asking import is_embedded, run, run_async
from xbtmigrate.search.core import INTERVAL, Answer, Core, Question
from xbtmigrate.search.demand import DemandLog
from xbtmigrate.search.embedding import AnyEncoder
from xbtmigrate.search.opening import open_core
from xbtmigrate.search.requests import Wanted
from xbtmigrate.search.situation import Situation


class _Searcher:
    """What both searchers tell about themselves."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @property
    def situation(self) -> Situation:
        """Where the migration stands, as it was read last."""
        return self.core.situation

    @property
    def note(self) -> str:
        """Why the last query was not served as it should be; "" where it was."""
        return self.core.note

    @property
    def problem(self) -> str:
        """Why the journal or the artefacts could not be read again; "" where they could."""
        return self.core.problem


class MigrationSearcher(_Searcher):
    """Answers queries over a collection before, during and after its migration.

    Make it with `open`, keep it for the life of the application and share it between threads.
    """

    def __init__(self, client: QdrantClient, core: Core) -> None:
        super().__init__(core)
        self._client = client

    @classmethod
    def open(
        cls,
        client: QdrantClient,
        collection: str,
        *,
        new_encoder: AnyEncoder | None = None,
        old_encoder: AnyEncoder | None = None,
        folder: Path | str | None = None,
        vector: str | None = None,
        serving: str = "",
        interval: float = INTERVAL,
        demand: DemandLog | None = None,
    ) -> Self:
        """Open a searcher.

        Args:
            client: The application's own client.
            collection: Name or alias of the collection.
            new_encoder: The new model, for queries given as text or image.
            old_encoder: The old model; servings that need it give way to others without it.
            folder: `.xbtmigrate/<migration>`; None looks for it under the working directory, then
                for what `xbtmigrate publish` or a backfill stored in Qdrant.
            vector: Name of the old vector, where the collection has several migrations.
            serving: The way to serve: keep, bridge, single, merge, slerp or calibrated. "" takes
                what the plan recommends.
            interval: Seconds between two looks at the journal, at least.
            demand: Where the points found are counted.

        Raises:
            ArtefactError: There are no artefacts, or they do not belong to the migration.
        """
        opened = open_core(
            collection,
            embedded=is_embedded(client),
            new_encoder=new_encoder,
            old_encoder=old_encoder,
            folder=folder,
            vector=vector,
            serving=serving,
            interval=interval,
            demand=demand,
        )
        return cls(client, run(client, opened))

    def search(
        self,
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
    ) -> Answer:
        """Search.

        Args:
            text: A text, embedded here.
            image: An image reference, embedded here.
            vector: A vector of the new model, if the application embeds by itself.
            old_vector: The same query in the old model, if the application embeds by itself.
            limit: Points to return.
            filter: Qdrant's filter.
            offset: Points to leave out first.
            with_payload: Qdrant's payload selector.
            with_vectors: Qdrant's vector selector.
            score_threshold: Least score in the scale of the old model; translated to the scale
                of the serving.
            params: Qdrant's search parameters.

        Raises:
            ConfigError: Not exactly one of text, image and vectors was given.
            UnsupportedError: Nothing can answer with the models at hand.
            EncoderError: A vector is not of its model's size.
        """
        wanted = Wanted(limit, offset, filter, with_payload, with_vectors, score_threshold, params)
        return self.search_batch([_question(text, image, vector, old_vector, wanted)])[0]

    def search_batch(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer several questions in common round trips; see `search`."""
        return run(self._client, self.core.ask(questions))

    def reload(self) -> Situation:
        """Look at journal and artefacts now, whatever the interval."""
        run(self._client, self.core.reload())
        return self.core.situation


class AsyncMigrationSearcher(_Searcher):
    """The same on an asyncio client; encoders run in a thread."""

    def __init__(self, client: AsyncQdrantClient, core: Core) -> None:
        super().__init__(core)
        self._client = client

    @classmethod
    async def open(
        cls,
        client: AsyncQdrantClient,
        collection: str,
        *,
        new_encoder: AnyEncoder | None = None,
        old_encoder: AnyEncoder | None = None,
        folder: Path | str | None = None,
        vector: str | None = None,
        serving: str = "",
        interval: float = INTERVAL,
        demand: DemandLog | None = None,
    ) -> Self:
        """Open a searcher; see `MigrationSearcher.open`."""
        opened = open_core(
            collection,
            embedded=is_embedded(client),
            new_encoder=new_encoder,
            old_encoder=old_encoder,
            folder=folder,
            vector=vector,
            serving=serving,
            interval=interval,
            demand=demand,
        )
        return cls(client, await run_async(client, opened))

    async def search(
        self,
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
    ) -> Answer:
        """Search; see `MigrationSearcher.search`."""
        wanted = Wanted(limit, offset, filter, with_payload, with_vectors, score_threshold, params)
        question = _question(text, image, vector, old_vector, wanted)
        return (await self.search_batch([question]))[0]

    async def search_batch(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer several questions in common round trips; see `MigrationSearcher.search`."""
        return await run_async(self._client, self.core.ask(questions))

    async def reload(self) -> Situation:
        """Look at journal and artefacts now, whatever the interval."""
        await run_async(self._client, self.core.reload())
        return self.core.situation


def _question(
    text: str | None, image: str | None, vector: Any, old_vector: Any, wanted: Wanted
) -> Question:
    given = [text is not None, image is not None, vector is not None or old_vector is not None]
    if sum(given) != 1:
        raise ConfigError(
            "a search takes one of text, image and vector",
            "give exactly one (old_vector may go with vector)",
        )
    return Question(text, image, vector, old_vector, wanted)
