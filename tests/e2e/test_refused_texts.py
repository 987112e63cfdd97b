"""A text that a service refuses is set aside by itself, and the rest of its batch is embedded."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from tests.support.command import answer_inside
from tests.support.texts import Texts, embedding_service, write_text_config

COUNT = 120


@pytest.mark.parametrize("encoder", ["openai", pytest.param("litellm", marks=pytest.mark.long)])
def test_a_refused_text_is_quarantined_without_its_batch(
    tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEST_KEY", "any")
    texts = Texts.make(COUNT)
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    texts.fill(client, "c", both=False)
    client.close()
    with embedding_service() as service:
        write_text_config(tmp_path, "path:qdrant", "c", texts, service, layout="auto")
        path = tmp_path / "xbtmigrate.toml"
        config = path.read_text("utf-8").replace('"fastfill"', '"full"\nmax_missing = 0.1')
        if encoder == "litellm":
            config = config.replace('"openai"', '"litellm"').replace('"m"', '"openai/m"')
            config = config.replace("base_url", "api_base").replace("dimensions = 24\n", "")
            config = config.replace('api_key_env = ""', 'api_key_env = "TEST_KEY"')
        path.write_text(config, "utf-8")
        answer_inside("plan", cwd=tmp_path)
        # Texts whose vectors the plan has not paid for yet.
        due = [text for text in texts.texts if text not in service.charged]
        service.refused = {due[0], due[-1]}
        done = answer_inside("backfill", "--online", cwd=tmp_path)
    points = {str(texts.ids[texts.texts.index(text)]) for text in service.refused}
    assert set(done["quarantined"]) == points
    assert (done["encoded"], done["failed"]) == (COUNT - 2, 2)
    assert all("maximum context length" in reason for reason in done["quarantined"].values())
