"""A model that was trained to be compatible spares the backfill: from its vectors to `plan`."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient
from xbtmigrate_research.trial import Trial

from tests.support.command import answer_inside
from tests.support.corpus import (
    create_collection,
    fill_collection,
    write_precomputed_config,
    write_vectors,
)
from tests.support.made_corpus import made_corpus
from xbtmigrate.types import normalized

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trial():
    """The old model knows its points, but reads questions badly: new queries can gain at once."""
    corpus, rng = made_corpus(d_old=16), np.random.default_rng(1)

    def misread(questions):
        noise = rng.standard_normal(questions.shape).astype(np.float32)
        return normalized(questions + 0.4 * noise)

    asked = misread(corpus.asked_old)
    questions = misread(corpus.questions[0]), corpus.questions[1]
    return Trial(replace(corpus, asked_old=asked, questions=questions), 400, epochs=15)


@pytest.mark.parametrize(("name", "relation"), [("bct", "compatible"), ("head", "different")])
def test_plan_recommends_no_backfill_for_a_compatible_model(trial, tmp_path, name, relation):
    from xbtmigrate_research.methods import load_methods

    corpus, made = trial.corpus, load_methods()[name].run(trial).own
    asked = [f"question {row}" for row in corpus.rel]
    for file, gallery, queries in (
        ("old", corpus.old, corpus.asked_old),
        ("new", made.gallery, made.query),
    ):
        vectors = np.concatenate([gallery, queries])
        write_vectors(tmp_path / f"{file}.parquet", [*corpus.texts, *asked], vectors)
    answers = [[str(row)] for row in corpus.rel]
    pq.write_table(pa.table({"text": asked, "relevant": answers}), tmp_path / "queries.parquet")
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    create_collection(client, "c", {"old": corpus.old.shape[1]})
    payloads = [{"text": text} for text in corpus.texts]
    fill_collection(client, "c", range(len(corpus.old)), {"old": corpus.old}, payloads)
    client.close()
    settings = {"sample": len(corpus.old), "queries": "queries.parquet"}
    write_precomputed_config(tmp_path, "path:qdrant", "c", plan=settings)

    plan = answer_inside("plan", cwd=tmp_path)

    found, advice = plan["compatibility"], plan["recommendation"]
    assert found["relation"] == relation
    if relation == "different":
        assert found["new_old"] < 0.1 < found["old_old"]
        return
    # BCT's criterion, and new queries may ask the stored vectors as they are.
    assert found["new_old"] > found["old_old"] + 0.2
    assert any("readers may change models" in each for each in plan["warnings"])
    assert (advice["strategy"], advice["fraction"]) == ("bridge", 0)
