"""Migrate the small real collection in the package, from plan to cutover."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from qdrant_client import QdrantClient

from xbtmigrate.config import Config, load_config
from xbtmigrate.documents.backfill import BackfillDocument
from xbtmigrate.documents.evaluate import EvaluateDocument
from xbtmigrate.documents.operate import DemoDocument, DemoRow
from xbtmigrate.errors import ConfigError
from xbtmigrate.qdrant.collection.seed import create_embedded
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.training.trainers import AUTO
from xbtmigrate.types import vectors_of
from xbtmigrate.workflows.backfill.backfill import run
from xbtmigrate.workflows.backfill.request import BackfillOptions
from xbtmigrate.workflows.cutover.cutover import cutover
from xbtmigrate.workflows.cutover.options import CutoverOptions
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.collect import EvaluationOptions
from xbtmigrate.workflows.evaluate.curves import Curves
from xbtmigrate.workflows.evaluate.evaluate import measure
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.plan.plan import make_plan
from xbtmigrate.workflows.train.train import train
from xbtmigrate.workflows.verify.verify import VerifyOptions, verify
from xbtmigrate.workflows.workspace import artefacts_of

PAIRS = 1000
FRACTION = 0.3
SHOWN = (0.1, 0.3, 0.5)
CURVES = Curves(orders=["uncertainty"], servings=["single", "calibrated"])
QUERY = "clock12, clocks"
HITS = 5
CONFIG = """\
# Openclipart pictures with captions. The stored vectors embed the pictures; queries are captions.
[qdrant]
url = "path:qdrant"
collection = "clipart"
vector = "old"

[payload]
text = "caption"
image = "image"

[old_model]
encoder = "precomputed"
path = "old.parquet"
stored = "image"
words = false                 # the file has vectors of pictures and captions, not of single words

[new_model]
encoder = "precomputed"
path = "new.parquet"
words = false

[plan]
strategy = "fastfill"
sample = 400                  # 2000 without this line; fewer keep the demo short
queries = "queries.parquet"   # captions that no projector is trained on
"""


def run_demo(folder: Path, *, report: Report) -> DemoDocument:
    """Build the collection in `folder` and migrate it: part is re-encoded, the rest is projected.

    Args:
        folder: A new or empty folder.
        report: Called with progress.

    Raises:
        ConfigError: The folder is not empty.
    """
    # Never build beside the user's files: a collection there might be overwritten.
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", "name a new folder with --folder")
    folder.mkdir(parents=True, exist_ok=True)
    _build(folder)
    config = load_config(folder / "xbtmigrate.toml")
    plan = make_plan(config, out=None, allow_model_mismatch=False, report=report)
    before = _hits(config)
    train(config, pairs=PAIRS, direction="both", kinds=[AUTO], threads=2, report=report)
    result = run(config, BackfillOptions(fraction=FRACTION), should_stop=_never, report=report)
    measured = measure(config, EvaluationOptions(), curves=CURVES, report=report)
    verify(config, VerifyOptions(), should_stop=_never, report=report)
    switched = cutover(config, CutoverOptions(act=True), should_stop=_never, report=report)
    return {
        "folder": str(folder),
        "query_count": measured["query_count"],
        "gallery_count": measured["gallery_count"],
        "plan": plan.digest,
        "backfill": result.document(),
        "rows": _rows(measured),
        "evaluation": measured,
        "cutover": switched,
        "query": {"text": QUERY, "before": before, "after": _hits(config)},
        "advice": _advice(folder, result.document()),
    }


def _never() -> str:
    return ""


def _hits(config: Config) -> list[str]:
    """Search as an application does, which calls the same before and after a cutover."""
    models = Models(config)
    client = QdrantClient(path=str(config.base / "qdrant"))
    try:
        searcher = MigrationSearcher.open(
            client,
            config.qdrant.collection,
            new_encoder=models.new,
            old_encoder=models.old,
            folder=artefacts_of(config).folder,
        )
        found = searcher.search(text=QUERY, limit=HITS)
        return [(hit.payload or {})["caption"] for hit in found]
    finally:
        client.close()


def _build(folder: Path) -> None:
    data = files("xbtmigrate") / "demo_data"
    for name in ("old.parquet", "new.parquet"):
        (folder / name).write_bytes((data / name).read_bytes())
    points = pq.read_table(pa.BufferReader((data / "points.parquet").read_bytes()))
    old = pq.read_table(folder / "old.parquet")
    # The stored vectors are those of the precomputed encoder, so `plan` finds the old model right.
    rows = pc.index_in(points["image"], value_set=old["key"])
    stored = old["vector"].take(rows).cast(pa.list_(pa.float32(), 128))
    vectors = vectors_of(pa.table({"vector": stored}), "vector")
    payloads = points.select(["image", "caption"]).to_pylist()
    by_id: dict[int, Mapping[str, Any]] = dict(zip(points["id"].to_pylist(), payloads, strict=True))
    create_embedded(folder / "qdrant", "clipart", "old", by_id, vectors)
    # The captions of these pictures are the queries; no projector is trained on them.
    held_out = points.filter(points["held_out"])
    ids = pa.array([[str(point)] for point in held_out["id"].to_pylist()])
    queries = pa.table({"text": held_out["caption"], "relevant": ids})
    pq.write_table(queries, folder / "queries.parquet")
    (folder / "xbtmigrate.toml").write_text(CONFIG, "utf-8")


def _rows(measured: EvaluateDocument) -> list[DemoRow]:
    """Keep, bridge, forward, the mixed gallery at several fractions, full."""
    rows: list[DemoRow] = [
        {
            "strategy": system["name"],
            "serving": None,
            "fraction": 1.0 if system["name"] == "full" else 0.0,
            "recall@1": system["recall@1"],
            "recall@10": system["recall@10"],
            "mrr@10": system["mrr@10"],
        }
        for system in measured["systems"]
        if system["chosen"]
    ]
    curves = {(curve["ordering"], curve["serving"]): curve for curve in measured["curves"]}
    # Without a fitted calibration there is no such curve.
    serving = "calibrated" if ("uncertainty", "calibrated") in curves else "single"
    curve = curves["uncertainty", serving]
    mixed: list[DemoRow] = [
        {
            "strategy": "fastfill",
            "serving": serving,
            "fraction": fraction,
            "recall@1": curve["recall@1"][place],
            "recall@10": curve["recall@10"][place],
            "mrr@10": curve["mrr@10"][place],
        }
        for place, fraction in enumerate(curve["fractions"])
        if fraction in SHOWN
    ]
    # `full` is the last system: the mixed gallery belongs between forward and it.
    return [*rows[:-1], *mixed, rows[-1]]


def _advice(folder: Path, done: BackfillDocument) -> list[str]:
    gallery = done["gallery"]
    return [
        f"Applications now search {gallery['encoded']:,} re-encoded and {gallery['projected']:,} "
        f"projected vectors; the {gallery['points']:,} old ones are still there.",
        f"In {folder}, `xbtmigrate evaluate --report report.html` draws the figures, `xbtmigrate "
        "rollback --yes` goes back, and `xbtmigrate finalize` shows what the end would delete. "
        "`xbtmigrate init` begins with your own collection.",
        f"Next: xbtmigrate status -c {shlex.quote(str(folder / 'xbtmigrate.toml'))}",
    ]
