"""Log which points queries find, so that points in demand are re-encoded first.

The log holds point ids and counts, but no queries.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import models

from xbtmigrate.files import write_atomically

# A first page: `search` returns ten points by default.
DEPTH = 10


class DemandLog:
    """Counts in memory the points that queries find, and writes the counts to a Parquet file.

    It never fails a search: `problem` reports errors.

    Args:
        path: Parquet file with columns `id` (string) and `hits` (int64); counts found there at
            the start are added to.
        sample: Share of the queries that are counted.
        most_points: Points kept at most; those with the fewest hits are dropped.
        flush_seconds: Seconds between two writes of the file, at least.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        sample: float = 1.0,
        most_points: int = 1_000_000,
        flush_seconds: float = 60.0,
    ) -> None:
        self.path = Path(path)
        self.problem = ""
        # A digest is below 2**64, so a sample of 1 takes every query and one of 0 takes none.
        self._least = int((1 - sample) * 2**64)
        self._key = secrets.token_bytes(16)
        self._most = most_points
        self._every = flush_seconds
        self._lock = threading.Lock()
        self._hits: Counter[str] = Counter()
        self._flush_at = time.monotonic() + flush_seconds
        self._read()

    def note(self, query: Sequence[float] | None, found: Iterable[models.ScoredPoint]) -> None:
        """Count the best points of an answer if its query is in the sample.

        Args:
            query: The query's vector.
            found: Points, best first.
        """
        try:
            if query is None or not self._samples(query):
                return
            with self._lock:
                self._hits.update(str(point.id) for point in islice(found, DEPTH))
                if len(self._hits) > self._most:
                    # Halve at once: dropping one point at a time would sort on every query.
                    self._hits = Counter(dict(self._hits.most_common(self._most // 2)))
                due = time.monotonic() >= self._flush_at
            if due:
                self.flush()
        except Exception as error:  # noqa: BLE001
            self.problem = f"{type(error).__name__}: {error}"

    def flush(self) -> None:
        """Write the file, most hits first; call it also when the application ends."""
        with self._lock:
            # Before the write: other threads no longer find it due, and a full disk is retried once
            # per interval. The write is outside the lock, so searches do not wait for it.
            self._flush_at = time.monotonic() + self._every
            ranked = sorted(self._hits.items(), key=lambda each: (-each[1], each[0]))
        try:
            ids, hits = zip(*ranked, strict=True) if ranked else ((), ())
            table = pa.table({"id": pa.array(ids, pa.string()), "hits": pa.array(hits, pa.int64())})
            write_atomically(self.path, lambda path: pq.write_table(table, path))
            self.problem = ""
        except Exception as error:  # noqa: BLE001
            self.problem = f"{type(error).__name__}: {error}"

    def _samples(self, query: Sequence[float]) -> bool:
        # By a keyed hash of the vector: a query sent a thousand times counts a thousand times or
        # never, and the file does not reveal which queries were sampled.
        data = np.asarray(query, np.float32).tobytes()
        digest = hashlib.blake2b(data, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") >= self._least

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            table = pq.read_table(self.path, columns=["id", "hits"])
            self._hits.update(dict(zip(*table.to_pydict().values(), strict=True)))
        except Exception as error:  # noqa: BLE001
            self.problem = f"{type(error).__name__}: {error}"
