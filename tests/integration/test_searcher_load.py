"""A backfill under a constant load of queries: none fails, none is answered from a wrong space."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.command import start
from tests.support.migrating import Migrating, new_model, old_model
from xbtmigrate import Projector
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.types import Direction

COUNT, ASKED = 400, 20

pytestmark = pytest.mark.server


class Load:
    """Queries in a loop; each answer is checked against every vector that its points may hold."""

    def __init__(self, migrating: Migrating, searcher: MigrationSearcher) -> None:
        self.searcher = searcher
        self.served: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        clipart = migrating.clipart
        self.row_of = {point: row for row, point in enumerate(clipart.ids)}
        texts = clipart.captions[:: COUNT // ASKED]
        self.old, self.new = old_model(texts), new_model(texts)
        forward = Projector.load(migrating.artefacts.projector_folder(Direction.FORWARD))
        in_old = self.old @ clipart.old.T
        in_new = np.stack([self.new @ clipart.new.T, self.new @ forward.apply(clipart.old).T])
        self.possible = {
            "keep": in_old[None],
            "single": in_new,
            # For a moment a mark is ahead of its vector: the projected one, of the same space.
            "merge": np.concatenate([in_old[None], in_new]),
        }

    def run(self) -> None:
        turn = 0
        while not self.stop.is_set():
            row, turn = turn % len(self.old), turn + 1
            try:
                answer = self.searcher.search(vector=self.new[row], old_vector=self.old[row])
                self.check(row, answer)
            except Exception as error:  # noqa: BLE001
                self.wrong.append(repr(error))

    def check(self, row: int, answer) -> None:
        self.served[answer.serving] += 1
        ids = [point.id for point in answer]
        if len(set(ids)) != 10:
            self.wrong.append(f"{answer.serving}: {len(set(ids))} points")
        possible = self.possible[answer.serving][:, row]
        for point in answer:
            if np.abs(possible[:, self.row_of[point.id]] - point.score).min() > 1e-3:
                self.wrong.append(f"{answer.serving}: {point.id} scores {point.score}")


@pytest.mark.parametrize("serving", ["single", "merge"])
def test_no_query_fails_while_the_gallery_is_filled(serving, qdrant_url, tmp_path):
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    migrating = Migrating.start(client, qdrant_url, tmp_path, layout="in_place", count=COUNT)
    searcher = MigrationSearcher.open(
        client, migrating.name, folder=migrating.artefacts.folder, serving=serving, interval=0.05
    )
    load = Load(migrating, searcher)
    threads = [threading.Thread(target=load.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for fraction in ("0", "1"):
            run = start("backfill", "--online", "--fraction", fraction, cwd=tmp_path)
            _, errors = run.communicate(timeout=120)
            assert run.returncode == 0, errors
        searcher.reload()
        enough = sum(load.served.values()) + 20
        while sum(load.served.values()) < enough and not load.wrong:
            threading.Event().wait(0.05)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
    client.close()
    assert load.wrong == []
    assert load.served["keep"] > 0
    assert load.served[serving] > 0
