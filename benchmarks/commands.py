"""The commands on a real server over the two corpora beside the checkout; run by hand.

python benchmarks/commands.py --url http://127.0.0.1:6333 --corpus debian --folder run

Makes the collection as an application has it, writes a configuration in which both models are
precomputed, and runs plan, train-projector, backfill and evaluate as a user would. Held-out queries
are judged; no projector, calibration or order has seen a point that they ask for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from projectors import matrix
from qdrant_client import QdrantClient, models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.corpus import write_vectors
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT
from xbtmigrate.types import Vectors


@dataclass(frozen=True, slots=True)
class Corpus:
    """A collection, both models' vectors by key, and judged queries."""

    ids: list[int]
    payloads: list[dict[str, Any]]
    stored: Vectors
    models: dict[str, tuple[list[str], Vectors]]
    queries: tuple[list[str], list[list[str]]]
    sections: str


def debian(data: Path) -> Corpus:
    """20,000 package descriptions, asked for by their synopses."""
    folder = data / "text"
    packages = pq.read_table(folder / "debian-packages.parquet")
    queries = pq.read_table(folder / "queries.parquet").to_pylist()
    files = {"old": "old-svd128-by-text.parquet", "new": "new-minilm384-by-text.parquet"}
    tables = {name: pq.read_table(folder / file) for name, file in files.items()}
    found = {name: (t["key"].to_pylist(), matrix(t, "vector")) for name, t in tables.items()}
    row = {key: number for number, key in enumerate(found["old"][0])}
    test = [query for query in queries if query["split"] == "test"]
    return Corpus(
        ids=packages["id"].to_pylist(),
        payloads=packages.select(["description", "synopsis"]).to_pylist(),
        stored=found["old"][1][[row[text] for text in packages["description"].to_pylist()]],
        models=found,
        queries=([query["text"] for query in test], [query["relevant"] for query in test]),
        sections='[payload]\ntext = "description"\nquery = "synopsis"\n',
    )


def clipart(data: Path) -> Corpus:
    """11,973 pictures, asked for by the captions of the val split."""
    folder = data / "clipart"
    items = pq.read_table(folder / "pairs.parquet", columns=["id", "key", "caption", "split"])
    vectors = pq.read_table(folder / "embeddings.parquet")
    rows = items.to_pylist()
    first = {item["caption"]: number for number, item in reversed(list(enumerate(rows)))}
    found = {}
    for name in ("old", "new"):
        image, text = (matrix(vectors, f"{name}_{kind}") for kind in ("img", "txt"))
        keys = [*(item["key"] for item in rows), *first]
        found[name] = (keys, np.concatenate([image, text[list(first.values())]]))
    asked = [item for item in rows if item["split"] == "val"]
    return Corpus(
        ids=[item["id"] for item in rows],
        payloads=[{"image": item["key"], "caption": item["caption"]} for item in rows],
        stored=matrix(vectors, "old_img"),
        models=found,
        queries=([item["caption"] for item in asked], [[str(item["id"])] for item in asked]),
        sections='[payload]\ntext = "caption"\nimage = "image"\n',
    )


def prepare(corpus: Corpus, name: str, folder: Path, url: str, seed: int) -> None:
    """Fill the collection and write the files of both models, the queries and the configuration."""
    folder.mkdir(parents=True)
    sizes = {model: vectors.shape[1] for model, (_, vectors) in corpus.models.items()}
    with closing(QdrantClient(url=url)) as client:
        client.delete_collection(name)
        client.create_collection(
            name,
            vectors_config={
                vector: models.VectorParams(
                    size=size,
                    distance=models.Distance.COSINE,
                    hnsw_config=models.HnswConfigDiff(ef_construct=EF_CONSTRUCT),
                )
                for vector, size in sizes.items()
            },
        )
        client.upload_collection(
            name, {"old": corpus.stored}, corpus.payloads, corpus.ids, wait=True
        )
    for model, (keys, vectors) in corpus.models.items():
        write_vectors(folder / f"{model}.parquet", keys, vectors)
    texts, relevant = corpus.queries
    pq.write_table(pa.table({"text": texts, "relevant": relevant}), folder / "queries.parquet")
    stored = "image" if "image =" in corpus.sections else "text"
    (folder / "xbtmigrate.toml").write_text(
        f'[qdrant]\nurl = "{url}"\ncollection = "{name}"\nvector = "old"\n'
        f"{corpus.sections}"
        f'[old_model]\nencoder = "precomputed"\npath = "old.parquet"\nstored = "{stored}"\n'
        '[new_model]\nencoder = "precomputed"\npath = "new.parquet"\n'
        f'[plan]\nqueries = "queries.parquet"\nstrategy = "fastfill"\nseed = {seed}\n',
        encoding="utf-8",
    )


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one command as a user does; prints what it took and returns its document."""
    started = time.monotonic()
    command = [sys.executable, "-m", "xbtmigrate", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments} exited with {done.returncode}: {done.stdout.decode()}")
    print(f"xbtmigrate {' '.join(arguments)}: {time.monotonic() - started:.0f} s", flush=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def show(found: dict[str, Any]) -> None:
    """Print cells and curves."""
    for system in found["systems"]:
        low, high = system["ci95"]["recall@10"]
        print(
            f"{system['name']:20} R@1 {system['recall@1']:.3f} R@10 {system['recall@10']:.3f} "
            f"[{low:.3f}, {high:.3f}] MRR {system['mrr@10']:.3f} "
            f"p {system['p_value']['recall@10']:.4f} {system['p_value']['mrr@10']:.4f}"
        )
    for curve in found["curves"]:
        low, high = curve["auc_ci95"]
        values = " ".join(f"{value:.3f}" for value in curve["recall@10"])
        reach = curve["fraction_to_full"]["0.95"]
        print(
            f"{curve['serving']:12} {curve['ordering']:12} {curve['auc']:.3f} [{low:.3f}, "
            f"{high:.3f}]  {values}  95 % at {'-' if reach is None else f'{reach:.2f}'}"
            f"{'' if curve['no_regret'] else '  below keep somewhere'}"
        )


def main(given: Sequence[str] | None = None) -> None:
    """Parse, run the commands, print, write."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Run the commands over a corpus")
    parser.add_argument("--url", required=True, help="an empty server")
    parser.add_argument("--folder", type=Path, required=True, help="new folder, figures too")
    parser.add_argument("--corpus", choices=["debian", "clipart"], default="debian")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--pairs", default="6000")
    parser.add_argument("--orders", default="random,centroid,uncertainty,combined,benefit,oracle")
    parser.add_argument("--servings", default="single,merge,slerp,calibrated,two-stage,rrf")
    parser.add_argument("--until", help="stop the backfill at this quality")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(given)
    corpus = {"debian": debian, "clipart": clipart}[arguments.corpus](arguments.data)
    prepare(corpus, arguments.corpus, arguments.folder, arguments.url, arguments.seed)
    found = {"plan": run(arguments.folder, "plan")}
    found["train"] = run(arguments.folder, "train-projector", "--pairs", arguments.pairs)
    share = ["--fraction", "0.3"]
    if arguments.until:
        share = ["--until", arguments.until, "--queries", "queries.parquet"]
    online = ("backfill", "--online", "--order", "benefit", "--max-slowdown", "off")
    found["backfill"] = run(arguments.folder, *online, *share)
    print({key: value for key, value in found["backfill"].items() if key != "quarantined"})
    asked = {"orders": (arguments.orders, "calibrated"), "servings": ("random", arguments.servings)}
    for name, (orders, servings) in asked.items():
        chosen = ("--queries", "queries.parquet", "--orders", orders, "--servings", servings)
        found[name] = run(arguments.folder, "evaluate", *chosen)
        show(found[name])
    (arguments.folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
