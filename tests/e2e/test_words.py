"""Words of the payload as side information, on the real server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from xbtmigrate import Projector
from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.types import Modality, normalized

pytestmark = [pytest.mark.long, pytest.mark.server]
COUNT, WORDS = 500, 240
PLAN = {"strategy": "forward", "sample": 300}


@pytest.fixture
def world(qdrant_url: str, tmp_path: Path) -> tuple[QdrantClient, str, list[str], np.ndarray]:
    """The new model says what the words say; the old vector knows little of it."""
    rng = np.random.default_rng(0)
    meanings = rng.standard_normal((WORDS, 24)).astype(np.float32)
    chosen = np.array([rng.choice(WORDS, 6, replace=False) for _ in range(COUNT)])
    texts = [" ".join(f"word{n:03}" for n in row) for row in chosen]
    new = normalized(meanings[chosen].sum(axis=1))
    old = normalized(new @ rng.standard_normal((24, 4)).astype(np.float32))
    words = [f"word{n:03}" for n in range(WORDS)]
    for name, keys, vectors in (
        ("old", texts, old),
        ("new", texts + words, np.concatenate([new, normalized(meanings)])),
    ):
        write_vectors(tmp_path / f"{name}.parquet", keys, vectors)
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 4, "new": 24})
    fill_collection(client, name, range(COUNT), {"old": old}, [{"text": each} for each in texts])
    return client, name, texts, old


@pytest.mark.parametrize("layout", ["in_place", "shadow"])
def test_words_are_read_in_training_backfill_and_verification(
    layout: str, world: tuple[QdrantClient, str, list[str], np.ndarray], qdrant_url: str,
    tmp_path: Path,
):  # fmt: skip
    client, name, texts, old = world
    write_precomputed_config(tmp_path, qdrant_url, name, plan=PLAN | {"layout": layout})
    plan = answer_inside("plan", cwd=tmp_path)
    trained = answer_inside("train-projector", cwd=tmp_path)
    forward, bridge = (trained["directions"][each] for each in ("forward", "bridge"))
    assert (forward["kind"], forward["side_vector"]) == ("gaussian_process", None)
    assert forward["side_information"] == ["words", "lexical"]
    assert bridge["side_information"] == []

    done = answer_inside("backfill", "--online", cwd=tmp_path)
    assert done["gallery"]["projected"] == COUNT
    projector = Projector.load(Path(forward["folder"]))
    expected = projector.apply(old, projector.text_side.embed(texts))
    target = plan["target"]["collection"]
    records = client.retrieve(target, list(range(COUNT)), with_vectors=["new"])
    stored = {record.id: record.vector["new"] for record in records}
    np.testing.assert_allclose([stored[n] for n in range(COUNT)], expected, atol=1e-4)
    answer_inside("verify", cwd=tmp_path)

    client.set_payload(name, {"text": texts[4]}, [3], wait=True)
    assert answer_inside("verify", cwd=tmp_path, expect=3)["mismatches"]["stale"] == 1
    answer_inside("backfill", "--online", cwd=tmp_path)
    (record,) = client.retrieve(target, [3], with_vectors=["new"])
    again = projector.apply(old[[3]], projector.text_side.embed([texts[4]]))[0]
    np.testing.assert_allclose(record.vector["new"], again, atol=1e-4)
    systems = answer_inside("evaluate", cwd=tmp_path)["systems"]
    names = {each["name"] for each in systems}
    # These models know no excerpts, so points stood in for queries.
    assert trained["calibration"]["basis"].startswith("neighbours")
    assert {"forward:gaussian_process", "fusion:calibrated"} <= names

    given = {"vector": [1.0] * 24, "old_vector": [1.0] * 4, "limit": 5}
    searcher = MigrationSearcher.open(
        *(client, name), folder=Path(forward["folder"]).parents[1], serving="calibrated"
    )
    found = searcher.search(**given)
    assert (found.serving, len(found)) == ("calibrated", 5)


def test_words_can_be_left_out(
    world: tuple[QdrantClient, str, list[str], np.ndarray], qdrant_url: str, tmp_path: Path
):
    _, name, _, _ = world
    plan = PLAN | {"layout": "in_place"}
    write_precomputed_config(tmp_path, qdrant_url, name, new_model={"words": False}, plan=plan)
    answer_inside("plan", cwd=tmp_path)
    forward = answer_inside("train-projector", cwd=tmp_path)["directions"]["forward"]
    assert forward["side_information"] == []
    assert Projector.load(Path(forward["folder"])).d_side == 0


def test_a_bridge_keeps_the_old_models_words_after_that_model_is_gone(
    qdrant_url: str, tmp_path: Path
):
    """The old vector says what the words say; the new one knows little of it."""
    rng = np.random.default_rng(1)
    meanings = rng.standard_normal((WORDS, 24)).astype(np.float32)
    chosen = np.array([rng.choice(WORDS, 6, replace=False) for _ in range(COUNT)])
    texts = [" ".join(f"word{n:03}" for n in row) for row in chosen]
    asked = [" ".join(f"word{n:03}" for n in row[:3]) for row in chosen[:100]]
    words = [f"word{n:03}" for n in range(WORDS)]
    vague = rng.standard_normal((24, 4)).astype(np.float32)
    sums = [meanings[chosen].sum(axis=1), meanings[chosen[:100, :3]].sum(axis=1), meanings]
    known = normalized(np.concatenate(sums))
    write_vectors(tmp_path / "old.parquet", texts + asked + words, known)
    write_vectors(tmp_path / "new.parquet", texts + asked, normalized(known[:-WORDS] @ vague))
    judged = [json.dumps({"text": q, "relevant": [str(n)]}) for n, q in enumerate(asked)]
    (tmp_path / "asked.jsonl").write_text("\n".join(judged))
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 24})
    old = {"old": known[:COUNT]}
    fill_collection(client, name, range(COUNT), old, [{"text": each} for each in texts])

    plan = {"strategy": "bridge", "sample": 300, "queries": "asked.jsonl"}
    write_precomputed_config(tmp_path, qdrant_url, name, plan=plan)
    answer_inside("plan", cwd=tmp_path)
    bridge = answer_inside("train-projector", cwd=tmp_path)["directions"]["bridge"]
    assert bridge["side_information"] == ["words"]
    systems = {row["name"]: row for row in answer_inside("evaluate", cwd=tmp_path)["systems"]}
    with_words = systems[f"bridge:{bridge['kind']}"]["recall@10"]

    model = PrecomputedEncoder(path=tmp_path / "new.parquet")
    searcher = MigrationSearcher.open(
        *(client, name), new_encoder=model, folder=Path(bridge["folder"]).parents[1],
        serving="bridge",
    )  # fmt: skip
    found = [searcher.search(text=query, limit=10) for query in asked]
    blind = [searcher.search(vector=model.encode([each], Modality.TEXT)[0]) for each in asked]
    served, unaware = (
        np.mean([n in {point.id for point in each} for n, each in enumerate(answers)])
        for answers in (found, blind)
    )
    assert {each.serving for each in found} == {"bridge"}
    assert served == pytest.approx(with_words, abs=0.03)
    assert served > unaware + 0.3

    write_precomputed_config(tmp_path, qdrant_url, name, plan=plan, old_model={"words": False})
    answer_inside("plan", cwd=tmp_path)
    bridge = answer_inside("train-projector", cwd=tmp_path)["directions"]["bridge"]
    assert bridge["side_information"] == []


def test_a_bridge_does_without_words_that_mislead_judged_queries(qdrant_url: str, tmp_path: Path):
    """Words say much of the documents, and nothing of what is asked for."""
    rng = np.random.default_rng(2)
    meanings = rng.standard_normal((WORDS, 24)).astype(np.float32)
    chosen = np.array([rng.choice(WORDS, 6, replace=False) for _ in range(COUNT)])
    texts = [" ".join(f"word{n:03}" for n in row) for row in chosen]
    asked = [" ".join(f"word{n:03}" for n in rng.choice(WORDS, 3)) + f" {q}" for q in range(100)]
    words = [f"word{n:03}" for n in range(WORDS)]
    known = normalized(meanings[chosen].sum(axis=1))
    write_vectors(
        tmp_path / "old.parquet",
        texts + asked + words,
        np.concatenate([known, known[:100], normalized(meanings)]),
    )
    noise = [rng.standard_normal((n, 24)).astype(np.float32) / 8 for n in (COUNT, 100)]
    new = normalized(np.concatenate([known + noise[0], known[:100] + noise[1]]))
    write_vectors(tmp_path / "new.parquet", texts + asked, new)
    client, name = QdrantClient(url=qdrant_url, check_compatibility=False), fresh_name()
    create_collection(client, name, {"old": 24})
    old = {"old": known}
    fill_collection(client, name, range(COUNT), old, [{"text": each} for each in texts])
    judged = [json.dumps({"text": q, "relevant": [str(n)]}) for n, q in enumerate(asked)]
    (tmp_path / "asked.jsonl").write_text("\n".join(judged))

    def train(**more: str) -> list[str]:
        plan = {"strategy": "bridge", "sample": 300, **more}
        write_precomputed_config(tmp_path, qdrant_url, name, plan=plan)
        answer_inside("plan", cwd=tmp_path)
        trained = answer_inside("train-projector", "--direction", "bridge", cwd=tmp_path)
        return trained["directions"]["bridge"]["side_information"]

    assert train() == ["words"]
    assert train(queries="asked.jsonl") == []
