"""How many candidates of each space a fused query needs; run by hand (2 minutes).

python benchmarks/fused_depth.py

20,000 package descriptions on a real server, half with true new vectors and half with projected
ones. Every query is sent in turn as an application's plain search of the old vector and fused with
each depth, through the request that a searcher sends. The weights are fixed ones, near to what
calibrations give. Recall is of the even-numbered queries, which nothing is tested on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from commands import Corpus, debian
from qdrant_client import QdrantClient, models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contenders import PAGE, Target
from benchmarks.data_path import settle
from tests.support.qdrant_server import running_server
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT
from xbtmigrate.qdrant.gallery.provenance import PROVENANCE, build_provenance
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.qdrant.wire.points import NewPoint
from xbtmigrate.qdrant.wire.writer import Writer
from xbtmigrate.scoring.mixture import OLD_ONLY, Mixture, Part, State
from xbtmigrate.serving import server_fusion
from xbtmigrate.serving.formula import FormulaBuilder
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.types import Channel, Distance, Kind

NAME = "descriptions"
PLAN = "p" * 64
PARTS = {
    State.PROJECTED: Part(0.4, 0.6),
    State.ENCODED: Part(0.3, 0.7, -0.02),
    State.WAITING: OLD_ONLY,
}


@dataclass(frozen=True)
class Question:
    """A query in both spaces, and the points that answer it."""

    old: list[float]
    new: list[float]
    relevant: frozenset[str]


def fill(connection: Connection, corpus: Corpus) -> list[ServingSpace]:
    """Create the collection with both vectors, every second new one projected."""
    texts, rows = corpus.models["new"]
    row_of = {text: row for row, text in enumerate(texts)}
    old, new = corpus.stored, rows[[row_of[each["description"]] for each in corpus.payloads]]
    paired = np.random.default_rng(0).permutation(len(old))[:6000]
    x, y = old[paired], new[paired]
    projected = old @ np.linalg.solve(x.T @ x + 0.01 * np.eye(x.shape[1]), x.T @ y)
    encoded = np.arange(len(old)) % 2 == 0
    stored = np.where(encoded[:, None], new, projected).astype(np.float32)
    spaces = [
        ServingSpace(NAME, name, vectors.shape[1], Distance.COSINE)
        for name, vectors in (("old", old), ("new", stored))
    ]
    client, new_index = connection.client, models.HnswConfigDiff(ef_construct=EF_CONSTRUCT)
    client.create_collection(
        NAME,
        vectors_config={
            each.name: models.VectorParams(
                size=each.size, distance=models.Distance.COSINE, hnsw_config=effort
            )
            # The old index as servers build it, the new one as a backfill has it built.
            for each, effort in zip(spaces, (None, new_index), strict=True)
        },
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=2000),
    )
    kinds = [Kind.ENCODED if each else Kind.PROJECTED for each in encoded]
    points = [
        NewPoint(
            str(corpus.ids[row]),
            {**payload, PROVENANCE: build_provenance(PLAN, kinds[row], "")},
            {"old": old[row], "new": stored[row]},
        )
        for row, payload in enumerate(corpus.payloads)
    ]
    for start in range(0, len(points), PAGE):
        Writer(connection, NAME).upsert(points[start : start + PAGE], None)
    for key in ("plan", "kind"):
        client.create_payload_index(NAME, f"{PROVENANCE}.{key}", "keyword", wait=True)
    settle(client, NAME)
    return spaces


def questions(corpus: Corpus, most: int) -> list[Question]:
    """Return the even-numbered queries that both models know."""
    (old_texts, old_rows), (new_texts, new_rows) = corpus.models["old"], corpus.models["new"]
    old, new = ({text: row for row, text in enumerate(each)} for each in (old_texts, new_texts))
    pairs = list(zip(*corpus.queries, strict=True))[::2]
    return [
        Question(old_rows[old[text]].tolist(), new_rows[new[text]].tolist(), frozenset(relevant))
        for text, relevant in pairs
        if text in old and text in new
    ][:most]


def requests(
    spaces: list[ServingSpace], asked: Question, depths: Sequence[int], limit: int
) -> dict[str, models.QueryRequest]:
    """Make the plain request and a fused one for each depth."""
    options = server_fusion.SearchOptions(limit=limit)
    fused = FormulaBuilder(*spaces, PLAN, waiting=False, hubness=None).build(
        Mixture("fixed", Channel.OLD, PARTS)
    )
    state = mock.Mock(old=spaces[0], new=spaces[1])
    query = server_fusion.PreparedQuery(
        state, mock.Mock(formula=fused), asked.old, asked.new, options
    )
    made = {"plain": server_fusion.search_one_space(spaces[0], asked.old, options).request}
    for depth in depths:
        deep = mock.PropertyMock(return_value=depth)
        with mock.patch.object(server_fusion.SearchOptions, "depth", deep):
            made[str(depth)] = server_fusion.search_both_spaces(query).request
    return made


def ask(
    client: QdrantClient, request: models.QueryRequest, relevant: frozenset[str]
) -> tuple[float, float]:
    """Send a request; returns its seconds and its recall."""
    begun = time.perf_counter()
    answer = client.query_batch_points(NAME, [request])[0]
    seconds = time.perf_counter() - begun
    return seconds, len({str(each.id) for each in answer.points} & relevant) / len(relevant)


def main() -> None:
    """Fill a collection, ask in turn, print."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Compare depths of a fused query")
    parser.add_argument("--depths", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    arguments = parser.parse_args()
    corpus = debian(arguments.data)
    figures: dict[str, list[tuple[float, float]]] = {}
    with running_server({}) as server:
        target = Target(server.url, server.grpc_port, NAME, len(corpus.ids))
        with target.connect() as connection:
            spaces = fill(connection, corpus)
            for each in questions(corpus, arguments.queries):
                made = requests(spaces, each, arguments.depths, arguments.limit)
                for name, request in made.items():
                    found = ask(connection.client, request, each.relevant)
                    figures.setdefault(name, []).append(found)
    count = len(figures["plain"])
    print(f"load {os.getloadavg()[0]:.1f}, {count} queries, recall at {arguments.limit}\n")
    print("| candidates of each space | p50, ms | p95, ms | p50 to plain | p95 to plain | recall |")
    print("|---|---|---|---|---|---|")
    plain = np.percentile([each for each, _ in figures["plain"]], [50, 95]) * 1e3
    for name, rows in figures.items():
        times = np.percentile([each for each, _ in rows], [50, 95]) * 1e3
        cells = [*(f"{each:.1f}" for each in times), *(f"{each:.2f}" for each in times / plain)]
        print(f"| {name} | {' | '.join(cells)} | {np.mean([each for _, each in rows]):.4f} |")


if __name__ == "__main__":
    main()
