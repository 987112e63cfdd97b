"""Two models of one length, so that a query in the wrong space fails in silence, and their users.

Every vector is known beforehand from the text of a point, so an answer tells by its scores which
vectors met, and the collection at the end which writes are there.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.corpus import create_collection, fill_collection, write_vectors
from xbtmigrate import Projector
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.serving.engine import Answer
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality

SIZE, COUNT, SPARE, ASKED = 16, 400, 4000, 20


def _model(seed: int) -> Callable[[list[str]], np.ndarray]:
    encoder = FakeEncoder(dimension=SIZE, seed=seed)
    return lambda items: encoder.encode(items, Modality.TEXT)


old_model, new_model = _model(1), _model(2)


@dataclass(frozen=True)
class Twins:
    """A planned and trained migration between them; a shadow's application reads an alias."""

    url: str
    folder: Path
    layout: str
    name: str

    @classmethod
    def start(cls, client: QdrantClient, url: str, folder: Path, layout: str) -> Twins:
        made = cls(url, folder, layout, fresh_name())
        names = ("old",) if made.shadow else ("old", "new")
        create_collection(client, made.name, dict.fromkeys(names, SIZE))
        payloads = [{"text": text} for text in made.texts[:COUNT]]
        ids = range(1, COUNT + 1)
        fill_collection(client, made.name, ids, {"old": made.old[:COUNT]}, payloads)
        if made.shadow:
            alias = models.CreateAlias(collection_name=made.name, alias_name=made.live)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        made._configure()
        answer_inside("plan", cwd=folder)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "200", cwd=folder)
        return made

    @property
    def shadow(self) -> bool:
        return self.layout == "shadow"

    @property
    def live(self) -> str:
        """What the application calls the collection."""
        return f"live-{self.name}" if self.shadow else self.name

    @property
    def target(self) -> str:
        """Real name of the collection with the new vectors."""
        return f"{self.name}__xbtmigrate" if self.shadow else self.name

    @property
    def artefacts(self) -> Path:
        return next(self.folder.glob(".xbtmigrate/*"))

    @cached_property
    def texts(self) -> list[str]:
        """Those of the points, then more that an application may write."""
        return [f"entry {number} of a list" for number in range(COUNT + SPARE)]

    @cached_property
    def old(self) -> np.ndarray:
        return old_model(self.texts)

    @cached_property
    def new(self) -> np.ndarray:
        return new_model(self.texts)

    def opening(self) -> dict[str, Any]:
        return {
            "new_encoder": new_model,
            "old_encoder": old_model,
            "folder": self.artefacts,
            "interval": 0.2,
        }

    def _configure(self) -> None:
        for model in ("old", "new"):
            write_vectors(self.folder / f"{model}.parquet", self.texts, getattr(self, model))
        (self.folder / "xbtmigrate.toml").write_text(
            f'[qdrant]\nurl = "{self.url}"\ncollection = "{self.live}"\nvector = "old"\n'
            '[payload]\ntext = "text"\n'
            '[old_model]\nencoder = "precomputed"\npath = "old.parquet"\nstored = "text"\n'
            '[new_model]\nencoder = "precomputed"\npath = "new.parquet"\n'
            f'[plan]\nstrategy = "fastfill"\nlayout = "{self.layout}"\nsample = 100\n',
            "utf-8",
        )


class Load:
    """Asks known items without a pause; each score has to be that of two vectors of one model."""

    def __init__(self, twins: Twins, searcher: MigrationSearcher) -> None:
        self.searcher, self.wrong = searcher, list[str]()
        self.answered: list[tuple[float, str]] = []
        self.history: dict[int, set[int]] = defaultdict(set)
        for row in range(COUNT):
            self.history[row + 1].add(row)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        asked, projectors = slice(0, ASKED), twins.artefacts / "projector"
        self.old, self.new = twins.old[asked], twins.new[asked]
        forward, bridge = (Projector.load(projectors / each) for each in ("forward", "bridge"))
        in_old = self.old @ twins.old.T
        in_new = [self.new @ twins.new.T, self.new @ forward.apply(twins.old).T]
        self.possible = {
            "keep": np.stack([in_old]),
            "merge": np.stack([in_old, *in_new]),
            # What has no new vector yet is met in the old space.
            "single": np.stack([*in_new, bridge.apply(self.new) @ twins.old.T]),
        }

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def servings(self, count: int) -> set[str]:
        """Which servings give the next answers, from a look at the journal on."""
        self.searcher.reload()
        since = time.monotonic()
        while True:
            found = [serving for started, serving in list(self.answered) if started > since]
            assert not self.wrong, self.wrong[:3]
            if len(found) >= count:
                return set(found)
            time.sleep(0.02)

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            row, turn, started = turn % ASKED, turn + 1, time.monotonic()
            try:
                answer = self.searcher.search(vector=self.new[row], old_vector=self.old[row])
                self._check(row, answer)
                self.answered.append((started, answer.serving))
            except Exception as error:  # noqa: BLE001
                self.wrong.append(f"{error!r}: {error}")

    def _check(self, row: int, answer: Answer) -> None:
        ids = [point.id for point in answer]
        # A point that is deleted while the answer is put together leaves its place empty.
        if ids[0] != row + 1 or not 9 <= len(set(ids)) == len(ids) <= 10:
            self.wrong.append(f"{answer.serving} finds {ids} for {row + 1}")
        for point in answer:
            possible = self.possible[answer.serving][:, row, sorted(self.history[point.id])]
            if np.abs(possible - point.score).min() > 1e-3:
                self.wrong.append(f"{answer.serving}: {point.id} scores {point.score}")


class Writer:
    """An application that goes on writing: new points, new texts of old ones, deletes.

    Args:
        write: Stores a point with the text and vectors of a row.
        delete: Deletes a point.
        history: Every row that a point ever had; kept ahead of the writes.
    """

    def __init__(
        self,
        write: Callable[[int, int], None],
        delete: Callable[[int], None],
        history: dict[int, set[int]],
    ) -> None:
        self.rows = {row + 1: row for row in range(COUNT)}
        self.wrong: list[str] = []
        self.writing = threading.Lock()
        self.turn = 0
        self._write, self._delete, self._history = write, delete, history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with self.writing:
                    self._step(self.turn)
                self.turn += 1
            except Exception as error:  # noqa: BLE001
                self.wrong.append(f"write {self.turn}: {error!r}")

    def _step(self, turn: int) -> None:
        fresh, row = 10_001 + turn, COUNT + turn
        if turn % 5 == 3 and fresh - 2 in self.rows:
            self._delete(fresh - 2)
            del self.rows[fresh - 2]
            return
        point = fresh if turn % 2 else ASKED + 1 + turn % (COUNT - ASKED)
        self._history[point].add(row)
        self._write(point, row)
        self.rows[point] = row


def check_points(
    client: QdrantClient, collection: str, twins: Twins, rows: dict[int, int], *vectors: str
) -> None:
    """Exactly these points, each with its text and the true vectors of it."""
    records, rest = client.scroll(collection, limit=10_000, with_vectors=True)
    assert rest is None
    assert {record.id for record in records} == rows.keys()
    for record in records:
        row = rows[record.id]
        assert record.payload["text"] == twins.texts[row]
        for name in vectors:
            np.testing.assert_allclose(
                record.vector[name], getattr(twins, name)[row], atol=2e-5, err_msg=f"{record.id}"
            )
