"""`plan` recognises a new model whose vectors are the stored ones, and spares the migration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, vectors
from tests.support.command import answer_inside, inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate.types import Vectors, normalized

COUNT = 300
CAPTIONS = Clipart.load(COUNT).captions
BIG = vectors("new", CAPTIONS)
OTHER = vectors("old", CAPTIONS)
NOISE = np.random.default_rng(0).normal(size=OTHER.shape).astype(np.float32)


def cut(size: int) -> Vectors:
    return normalized(BIG[:, :size])


def rounded(made: Vectors) -> Vectors:
    return made.astype(np.float16).astype(np.float32)


def move(folder: Path, old: Vectors, new: Vectors, *, judged: bool, **more: dict) -> dict:
    """Plan to move a collection of captions from one model to another."""
    keys = sorted(range(COUNT), key=lambda row: CAPTIONS[row])
    first = [row for n, row in enumerate(keys) if not n or CAPTIONS[keys[n - 1]] != CAPTIONS[row]]
    for name, made in (("old", old), ("new", new)):
        write_vectors(folder / f"{name}.parquet", [CAPTIONS[row] for row in first], made[first])
    client = QdrantClient(path=str(folder / "qdrant"))
    create_collection(client, "c", {"old": old.shape[1]})
    row_of = {CAPTIONS[row]: row for row in first}
    stored = old[[row_of[caption] for caption in CAPTIONS]]
    payloads = [{"text": caption} for caption in CAPTIONS]
    fill_collection(client, "c", range(1, COUNT + 1), {"old": stored}, payloads)
    client.close()
    plan = {"sample": COUNT}
    if judged:
        groups: dict[str, list[int]] = {}
        for row in first:
            groups.setdefault(CAPTIONS[row].split()[0], []).append(row)
        several = [rows for rows in groups.values() if len(rows) > 1]
        asked = [CAPTIONS[rows[0]] for rows in several]
        answers = [[str(row + 1) for row in rows[1:]] for rows in several]
        pq.write_table(pa.table({"text": asked, "relevant": answers}), folder / "queries.parquet")
        plan["queries"] = "queries.parquet"
    write_precomputed_config(folder, "path:qdrant", "c", plan=plan, **more)
    return answer_inside("plan", cwd=folder)


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize(
    ("models", "relation", "strategy", "reason"),
    [
        ((BIG, rounded(BIG)), "same", "keep", "no migration is needed"),
        ((cut(128), BIG), "longer", "keep", "cut its vectors to 128"),
        ((BIG, cut(128)), "cut", "forward", "a cut of the stored vectors is enough"),
    ],
)
def test_the_same_vectors_are_recognised(
    tmp_path: Path,
    models: tuple[Vectors, Vectors],
    relation: str,
    strategy: str,
    reason: str,
    *,
    judged: bool,
):
    plan = move(tmp_path, *models, judged=judged)
    found, advice = plan["compatibility"], plan["recommendation"]
    assert found["relation"] == relation
    assert found["median_cosine"] > 0.999
    assert (advice["strategy"], plan["strategy"]) == (strategy, strategy)
    assert reason in advice["reason"]
    if judged:
        assert found["new_old"] == pytest.approx(found["old_old"], abs=0.1)
    assert "new/old" in inside("plan", cwd=tmp_path)[1]


def test_a_cut_is_made_without_embedding_and_is_exact(tmp_path: Path):
    move(tmp_path, BIG, cut(64), judged=False)
    trained = answer_inside("train-projector", cwd=tmp_path)
    assert trained["directions"]["forward"]["kind"] == "compatible"
    done = answer_inside("backfill", "--online", cwd=tmp_path)
    assert (done["projected"], done["encoded"]) == (COUNT, 0)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    records, _ = client.scroll("c", limit=COUNT, with_vectors=True)
    client.close()
    for record in records:
        expected = normalized(np.array([record.vector["old"][:64]], np.float32))
        np.testing.assert_allclose(
            normalized(np.array([record.vector["new"]])), expected, atol=1e-6
        )


def test_a_cut_that_finds_less_is_only_mentioned(tmp_path: Path):
    advice = move(tmp_path, BIG, cut(3), judged=True)["recommendation"]
    assert advice["strategy"] == "keep"
    assert "to save memory, the new model's vectors are the first 3 numbers" in advice["reason"]


def test_a_model_that_is_gone_may_have_come_back_under_another_name(tmp_path: Path):
    gone = {"encoder": "none", "path": None}
    plan = move(tmp_path, BIG, rounded(BIG), judged=False, old_model=gone)
    assert (plan["recommendation"]["strategy"], plan["strategy"]) == ("keep", "keep")
    assert plan["model_match"] is None


def test_a_fine_tune_is_compatible_and_another_model_is_different(tmp_path: Path):
    for name, new, relation in (
        ("tuned", normalized(OTHER + 0.02 * NOISE), "compatible"),
        ("other", vectors("new", CAPTIONS), "different"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        plan = move(folder, OTHER, new, judged=True)
        assert plan["compatibility"]["relation"] == relation
        assert plan["compatibility"]["median_cosine"] < 0.999
        warned = [each for each in plan["warnings"] if "readers may change" in each]
        assert len(warned) == (relation == "compatible")
        assert ("new/old" in inside("plan", cwd=folder)[1]) == (relation == "compatible")


def test_other_lengths_are_another_model_where_the_distance_sees_them(tmp_path: Path):
    # Stored under a dot product, the same directions at twice the length are other vectors.
    new = {"distance": "Dot"}
    plan = move(tmp_path, BIG, rounded(BIG), judged=False, new_model=new)
    assert plan["compatibility"]["relation"] == "different"
