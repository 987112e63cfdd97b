"""Queries through a searcher: quality against the offline evaluation, latency against Qdrant.

    python benchmarks/serving.py --corpus debian --shared ../shared

A real server is started with a collection of the corpus, planned, trained and backfilled by the
commands. At each fraction recall@10 of the searcher's answers is printed beside that of the same
serving computed over the whole gallery, without a filter and with filters that 1, 10 and 50 % of
the points pass. Then latency and throughput beside `query_points` of the old vector, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.command import answer_inside
from tests.support.corpus import write_vectors
from tests.support.qdrant_server import running_server
from xbtmigrate import Projector
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.evaluation.retrieval import rank_top_k
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT
from xbtmigrate.scoring.fusion import CalibratedServing
from xbtmigrate.scoring.slerp import SlerpServing, slerp
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.types import Channel, Direction, Distance, Vectors, vectors_of
from xbtmigrate.workflows.evaluate.trial import ChannelVectors

NAME = "gallery"
SHARES = (100, 50, 10, 1)


@dataclass(frozen=True)
class Corpus:
    """Points and test queries with both models' vectors."""

    payloads: list[dict[str, Any]]
    old: Vectors
    new: Vectors
    relevant: np.ndarray
    queries_old: Vectors
    queries_new: Vectors
    config: str

    @cached_property
    def alike(self) -> np.ndarray:
        """For each point the first one with the same vectors: either is as good an answer."""
        rows = np.concatenate([self.old, self.new], axis=1)
        _, first, member = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return first[member.reshape(-1)]

    @property
    def ids(self) -> list[int]:
        """Ids of the points, row by row."""
        return list(range(len(self.payloads)))


def debian(shared: Path, folder: Path, queries: int) -> Corpus:
    """Package descriptions, asked for by their synopses."""
    data = shared / "data" / "text"
    table = pq.read_table(data / "debian-packages.parquet")
    descriptions = table["description"].to_pylist()
    judged = pq.read_table(data / "queries.parquet")
    tests = [row for row in judged.to_pylist() if row["split"] == "test"][:queries]
    files = {
        "old": data / "old-svd128-by-text.parquet",
        "new": data / "new-minilm384-by-text.parquet",
    }
    old, new = (by_key(file) for file in files.values())
    pq.write_table(
        judged.filter(pa.compute.equal(judged["split"], "test")), folder / "test.parquet"
    )
    place = {str(point): row for row, point in enumerate(table["id"].to_pylist())}
    columns = zip(descriptions, table["synopsis"].to_pylist(), strict=True)
    return Corpus(
        [
            {"description": text, "synopsis": synopsis, "bucket": row * 7919 % 100}
            for row, (text, synopsis) in enumerate(columns)
        ],
        old(descriptions),
        new(descriptions),
        np.array([place[row["relevant"][0]] for row in tests]),
        old([row["text"] for row in tests]),
        new([row["text"] for row in tests]),
        f"""
[payload]
text = "description"
query = "synopsis"

[old_model]
encoder = "precomputed"
path = "{files["old"]}"
stored = "text"

[new_model]
encoder = "precomputed"
path = "{files["new"]}"

[plan]
queries = "test.parquet"
strategy = "fastfill"
""",
    )


def clipart(shared: Path, folder: Path, queries: int) -> Corpus:
    """Pictures, asked for by their captions."""
    data = shared / "data" / "clipart"
    pairs, made = (pq.read_table(data / f"{name}.parquet") for name in ("pairs", "embeddings"))
    captions, keys = pairs["caption"].to_pylist(), pairs["key"].to_pylist()
    sides = {}
    for model in ("old", "new"):
        images, texts = (as_matrix(made[f"{model}_{kind}"]) for kind in ("img", "txt"))
        sides[model] = images, texts
        rows = dict(zip([*keys, *captions], np.concatenate([images, texts]), strict=False))
        write_vectors(folder / f"{model}.parquet", list(rows), np.array(list(rows.values())))
    tests = [row for row, split in enumerate(pairs["split"].to_pylist()) if split == "val"][
        :queries
    ]
    asked = {"text": [captions[row] for row in tests], "relevant": [[str(row)] for row in tests]}
    pq.write_table(pa.table(asked), folder / "test.parquet")
    return Corpus(
        [
            {"caption": caption, "image": key, "bucket": row * 7919 % 100}
            for row, (caption, key) in enumerate(zip(captions, keys, strict=True))
        ],
        sides["old"][0],
        sides["new"][0],
        np.array(tests),
        sides["old"][1][tests],
        sides["new"][1][tests],
        """
[payload]
text = "caption"
image = "image"

[old_model]
encoder = "precomputed"
path = "old.parquet"
stored = "image"

[new_model]
encoder = "precomputed"
path = "new.parquet"

[plan]
queries = "test.parquet"
strategy = "fastfill"
""",
    )


def by_key(file: Path) -> Callable[[Sequence[str]], Vectors]:
    """Look vectors up by text."""
    table = pq.read_table(file)
    row = {key: number for number, key in enumerate(table["key"].to_pylist())}
    matrix = as_matrix(table["vector"])
    return lambda keys: matrix[[row[key] for key in keys]]


def as_matrix(column: pa.ChunkedArray) -> Vectors:
    """A column of vectors as float32 of unit length."""
    cast = column.combine_chunks().cast(pa.list_(pa.float32(), column.type.list_size))
    matrix = vectors_of(pa.table({"v": cast}), "v")
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def fill(client: QdrantClient, corpus: Corpus, effort: int) -> None:
    """Make the collection as an application has it, with a place for the new vectors."""
    spaces = {
        "old": (corpus.old.shape[1], None),
        "new": (corpus.new.shape[1], models.HnswConfigDiff(ef_construct=effort)),
    }
    params = {
        name: models.VectorParams(size=size, distance=models.Distance.COSINE, hnsw_config=index)
        for name, (size, index) in spaces.items()
    }
    client.create_collection(NAME, vectors_config=params)
    client.create_payload_index(NAME, "bucket", models.PayloadSchemaType.INTEGER)
    for start in range(0, len(corpus.ids), 500):
        rows = slice(start, start + 500)
        batch = models.Batch(
            ids=corpus.ids[rows],
            vectors={"old": corpus.old[rows].tolist()},
            payloads=corpus.payloads[rows],
        )
        client.upsert(NAME, batch, wait=True)


def offline(corpus: Corpus, artefacts: Artefacts, encoded: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each serving over the whole gallery, shape (queries, points)."""
    calibration = artefacts.load_calibration()
    bridge, forward = (Projector.load(artefacts.projector_folder(each)) for each in Direction)
    cosine = Distance.COSINE
    sides = ChannelVectors(corpus.old, forward.apply(corpus.old), corpus.new, cosine, cosine)
    bridged = bridge.apply(corpus.queries_new)
    blended = slerp(corpus.queries_old, bridged, calibration.blend)
    blocks = {
        Channel.OLD: sides.space(Channel.OLD, corpus.queries_old).score(),
        Channel.FORWARD: sides.space(Channel.FORWARD, corpus.queries_new).score(),
        Channel.NEW: sides.space(Channel.NEW, corpus.queries_new).score(),
        Channel.BLEND: sides.space(Channel.OLD, blended).score(),
    }
    hubs = sides.hubness(calibration.bank, [str(each) for each in corpus.ids])
    return {
        "keep": blocks[Channel.OLD],
        "bridge": sides.space(Channel.OLD, bridged).score(),
        "single": np.where(encoded, blocks[Channel.NEW], blocks[Channel.FORWARD]),
        "merge": np.where(encoded, blocks[Channel.NEW], blocks[Channel.OLD]),
        "slerp": SlerpServing().score(blocks, encoded),
        "calibrated": CalibratedServing(calibration.fusion, hubs).score(blocks, encoded),
    }


def recall(corpus: Corpus, found: Sequence[Sequence[int]], relevant: np.ndarray) -> float:
    """Share of the queries whose one right point, or one just like it, is among the ten."""
    alike = corpus.alike
    hits = [alike[right] in alike[row] for row, right in zip(found, relevant, strict=True)]
    return float(np.mean(hits))


def quality(
    client: QdrantClient, corpus: Corpus, artefacts: Artefacts, fraction: float, ef: int | None
) -> list[dict[str, Any]]:
    """Recall of every serving, offline and through the searcher, for each filter."""
    records = client.retrieve(NAME, corpus.ids, with_payload=["_xbtmigrate.kind"])
    kinds = {record.id: record.payload["_xbtmigrate"]["kind"] for record in records}
    encoded = np.array([kinds[each] == "encoded" for each in corpus.ids])
    scores = offline(corpus, artefacts, encoded)
    buckets = np.array([payload["bucket"] for payload in corpus.payloads])
    rows = []
    params = None if ef is None else models.SearchParams(hnsw_ef=ef)
    for serving, block in scores.items():
        searcher = opened(client, artefacts, serving)
        for share in SHARES if serving == "calibrated" else (100,):
            passing = buckets < share
            asked = np.flatnonzero(passing[corpus.relevant])
            exact = rank_top_k(np.where(passing, block[asked], -np.inf), 10)
            rule = models.FieldCondition(key="bucket", range=models.Range(lt=share))
            condition = None if share == 100 else models.Filter(must=[rule])
            found = [
                [
                    point.id
                    for point in answer(searcher, corpus, row, filter=condition, params=params)
                ]
                for row in asked
            ]
            right = corpus.relevant[asked]
            rows.append(
                {
                    "fraction": fraction,
                    "serving": serving,
                    "filter": share,
                    "queries": len(asked),
                    "offline": recall(corpus, exact.tolist(), right),
                    "searcher": recall(corpus, found, right),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def opened(client: QdrantClient, artefacts: Artefacts, serving: str) -> MigrationSearcher:
    """A searcher that is asked for one serving."""
    return MigrationSearcher.open(client, NAME, folder=artefacts.folder, serving=serving)


def answer(searcher: MigrationSearcher, corpus: Corpus, row: int, **wanted: Any) -> Any:
    """Ask one test query."""
    return searcher.search(
        vector=corpus.queries_new[row], old_vector=corpus.queries_old[row], **wanted
    )


def latency(
    client: QdrantClient, corpus: Corpus, artefacts: Artefacts, rounds: int
) -> list[dict[str, Any]]:
    """Times of every serving in turns with the bare query, alone and eight at a time."""
    ways: dict[str, Callable[[int], Any]] = {
        f"query_points {name}": lambda row, name=name, queries=queries: client.query_points(
            NAME, query=queries[row].tolist(), using=name, limit=10
        )
        for name, queries in (("old", corpus.queries_old), ("new", corpus.queries_new))
    }
    for serving in ("keep", "bridge", "single", "merge", "slerp", "calibrated"):
        searcher = opened(client, artefacts, serving)
        ways[serving] = lambda row, own=searcher: answer(own, corpus, row)
    rows = []
    for workers in (1, 8):
        times: dict[str, list[float]] = {name: [] for name in ways}
        walls = dict.fromkeys(ways, 0.0)
        with ThreadPoolExecutor(workers) as pool:
            for turn in range(rounds):
                part = range(turn * 40 % 400, turn * 40 % 400 + 40)
                for name, ask in ways.items():
                    started = time.perf_counter()
                    times[name] += pool.map(lambda row, ask=ask: timed(ask, row), part)
                    walls[name] += time.perf_counter() - started
        for name, taken in times.items():
            p50, p95, p99 = np.percentile(taken[40:], [50, 95, 99]) * 1000
            rate = len(taken) / walls[name]
            rows.append(
                {"workers": workers, "way": name, "p50": p50, "p95": p95, "p99": p99, "rate": rate}
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def timed(ask: Callable[[int], Any], row: int) -> float:
    """Seconds that one query takes."""
    started = time.perf_counter()
    ask(row)
    return time.perf_counter() - started


def main() -> None:
    """Build, migrate and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", choices=("debian", "clipart"), default="debian")
    parser.add_argument(
        "--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared"
    )
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--kind", default="ridge")
    parser.add_argument("--pairs", default="6000")
    parser.add_argument("--rounds", type=int, default=10, help="of latency, at least 2; 0 for none")
    parser.add_argument("--hnsw-ef", type=int, help="of the searcher's requests; default Qdrant's")
    parser.add_argument("--ef-construct", type=int, default=EF_CONSTRUCT, help="of the new index")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    make = {"debian": debian, "clipart": clipart}[chosen.corpus]
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        corpus = make(chosen.shared, folder, chosen.queries)
        client = QdrantClient(url=server.url, check_compatibility=False, timeout=120)
        fill(client, corpus, chosen.ef_construct)
        head = f'[qdrant]\nurl = "{server.url}"\ncollection = "{NAME}"\nvector = "old"\n'
        (folder / "xbtmigrate.toml").write_text(head + corpus.config)
        answer_inside("plan", cwd=folder)
        fit = ["--kind", chosen.kind, "--pairs", chosen.pairs]
        answer_inside("train-projector", *fit, cwd=folder)
        artefacts = Artefacts(folder / ".xbtmigrate" / f"{NAME}-old")
        found: dict[str, Any] = {"quality": [], "latency": {}}
        for fraction in (0.0, 0.1, 0.5, 1.0):
            answer_inside("backfill", "--online", "--fraction", str(fraction), cwd=folder)
            found["quality"] += quality(client, corpus, artefacts, fraction, chosen.hnsw_ef)
            if fraction == 0.5 and chosen.rounds:
                found["latency"] = latency(client, corpus, artefacts, chosen.rounds)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
