"""Proposed models have vectors of the length that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.corpus import write_vectors
from xbtmigrate.cli.parsers import parse_model
from xbtmigrate.workflows.plan.known_models import propose_models


def test_models_by_the_length_of_their_vectors(tmp_path: Path):
    write_vectors(tmp_path / "a file.parquet", ["x"], np.ones((1, 1536), np.float32))
    write_vectors(tmp_path / "b.parquet", ["x"], np.ones((1, 3), np.float32))
    (tmp_path / "c.parquet").write_text("no vectors", "utf-8")
    found = propose_models(tmp_path, 1536)
    assert found[0] == "precomputed path='a file.parquet'"
    assert not any("b.parquet" in each or "c.parquet" in each for each in found)
    assert found[1:] == [each for each in found[1:] if "1536" in each or "openai" in each]


def test_every_proposal_is_a_model_that_can_be_given(tmp_path: Path):
    for each in propose_models(tmp_path):
        assert parse_model(each)["encoder"] == each.split()[0]
