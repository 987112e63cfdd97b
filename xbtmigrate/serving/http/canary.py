"""Try the new serving on a share of the traffic before the cutover.

A canary answers a share of the queries with the new serving. Shadow reads answer every query with
the old one and compare afterwards. Both record the times and the agreement of both sides.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from xbtmigrate.errors import XbtMigrateError
from xbtmigrate.serving.engine import CLIENT_ERRORS, Answer, Question
from xbtmigrate.serving.http.service_metrics import Metrics
from xbtmigrate.serving.searcher import AsyncMigrationSearcher

MAX_QUEUED = 32
"""Most shadow reads in progress."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """How the new serving is tried out.

    Attributes:
        mode: `canary` answers by the new serving, `shadow-read` only compares.
        share: Share of the queries, 0 to 1. One query always falls on the same side.
    """

    mode: Literal["canary", "shadow-read"]
    share: float

    def takes(self, question: Question) -> bool:
        """Return whether a query is in the share."""
        # By content, so that a repeated query gets the same answer.
        content = question.text or question.image or question.vector
        digest = hashlib.blake2b(repr(content).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < self.share * 2**64


@dataclass(slots=True)
class SplitSearcher:
    """Answers each query with the new or the old serving.

    Attributes:
        new: Serves as the migration recommends.
        old: Serves the old model as if there were no migration; None without a split.
        split: How the new serving is tried; None answers everything by it.
        metrics: Where times and agreement go.
        seconds: Longest time for one comparison.
    """

    new: AsyncMigrationSearcher
    old: AsyncMigrationSearcher | None
    split: TrafficSplit | None
    metrics: Metrics
    seconds: float
    _comparisons: set[asyncio.Task[None]] = field(default_factory=set)

    async def answer(self, question: Question) -> Answer:
        """Answer a query.

        Raises:
            XbtMigrateError: The side that has to answer cannot.
        """
        if self.old is None or self.split is None:
            return await self._search("new", self.new, question)
        # A query with the vector of one model can be answered only by that side.
        by_vector = question.vector is not None or question.old_vector is not None
        if by_vector and (question.vector is None or question.old_vector is None):
            side = self.new if question.old_vector is None else self.old
            return await self._search("new" if side is self.new else "old", side, question)
        if not self.split.takes(question):
            return await self._search("old", self.old, question)
        if self.split.mode == "canary":
            return await self._canary(self.old, question)
        found = await self._search("old", self.old, question)
        self._compare_later(question, found)
        return found

    async def settle(self) -> None:
        """Wait for the comparisons in progress."""
        # A failure must not leave the others running, because their connections are closed next.
        await asyncio.gather(*self._comparisons, return_exceptions=True)

    async def _canary(self, old: AsyncMigrationSearcher, question: Question) -> Answer:
        # Both at once: if the new side fails, the old answer needs no second wait.
        new_side, old_side = await asyncio.gather(
            self._search("new", self.new, question),
            self._search("old", old, question),
            return_exceptions=True,
        )
        if isinstance(new_side, Answer):
            if isinstance(old_side, Answer):
                self._record_agreement(new_side, old_side)
            return new_side
        if isinstance(old_side, Answer) and isinstance(new_side, (XbtMigrateError, *CLIENT_ERRORS)):
            self._record_failure(new_side)
            return old_side
        # Both failed, or the new one by a bug, which an old answer should not hide.
        raise new_side

    def _compare_later(self, question: Question, found: Answer) -> None:
        # Shadow reads must not queue up behind a slow server: skip and count them.
        if len(self._comparisons) >= MAX_QUEUED:
            self.metrics.skipped.inc()
            return
        task = asyncio.create_task(self._compare(question, found))
        # An event loop keeps only weak references: without this one, a task may be collected.
        self._comparisons.add(task)
        task.add_done_callback(self._comparisons.discard)

    async def _compare(self, question: Question, found: Answer) -> None:
        try:
            # The request's time limit does not apply here: it has been answered.
            async with asyncio.timeout(self.seconds):
                self._record_agreement(await self._search("new", self.new, question), found)
        # This task is not awaited, so its errors are counted and logged here.
        except Exception as error:  # noqa: BLE001
            self._record_failure(error)

    async def _search(
        self, name: str, searcher: AsyncMigrationSearcher, question: Question
    ) -> Answer:
        started = time.perf_counter()
        [found] = await searcher.search_batch([question])
        elapsed = time.perf_counter() - started
        self.metrics.seconds.labels(name, found.serving).observe(elapsed)
        return found

    def _record_agreement(self, new: Answer, old: Answer) -> None:
        ours, theirs = ({point.id for point in side} for side in (new, old))
        if ours or theirs:
            # Relative to the longer answer: a threshold may leave one side fewer points.
            self.metrics.agreement.observe(len(ours & theirs) / max(len(ours), len(theirs)))

    def _record_failure(self, error: BaseException) -> None:
        self.metrics.failures.inc()
        _log.warning("the new serving failed: %s", str(error) or type(error).__name__)
