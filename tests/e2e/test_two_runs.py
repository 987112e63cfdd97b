"""One run at a time: a second one is refused and the first goes on unharmed."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path

import pytest
from qdrant_client import models

from tests.support.checks import check_vectors, stored
from tests.support.collections import fresh_name
from tests.support.command import answer, answer_inside, inside, start
from tests.support.texts import Texts, embedding_service, write_text_config
from xbtmigrate import __version__
from xbtmigrate.qdrant.wire.connection import Connection

COUNT = 400
JOURNAL = "_xbtmigrate"


@pytest.mark.server
def test_a_second_run_is_refused(server_db: Connection, qdrant_url: str, tmp_path: Path):
    texts, name, client = Texts.make(COUNT), fresh_name(), server_db.client
    texts.fill(client, name, both=True)
    with embedding_service() as service:
        write_text_config(tmp_path, qdrant_url, name, texts, service, layout="in_place")
        answer_inside("plan", cwd=tmp_path)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "100", cwd=tmp_path)
        service.forget()
        encoding: Future = Future()
        others_done: Future = Future()

        def hold(number: int) -> None:
            if number == 2:
                encoding.set_result(None)
                others_done.result(timeout=120)

        service.on_request = hold
        command = ("backfill", "--online", "--fraction", "1", "--batch-size", "50", "--json")
        first = start(*command, cwd=tmp_path)
        try:
            encoding.result(timeout=120)
            refused = answer("backfill", "--online", "--fraction", "1", cwd=tmp_path, expect=3)
            assert refused["error"]["type"] == "LeaseError"
            assert f"held by process {first.pid} on " in refused["error"]["message"]
            assert "one run at a time" in refused["error"]["hint"]
            for verb in ("plan", "train-projector"):
                code, _, err = inside(verb, cwd=tmp_path)
                assert (code, "is backfilling under plan" in err) == (3, True), err
            status = answer_inside("status", cwd=tmp_path)
            assert (status["phase"], status["projected"] > 0) == ("backfilling", True)
            assert str(first.pid) in status["owner"]
        finally:
            others_done.set_result(None)
            out, err = first.communicate(timeout=120)
        assert first.returncode == 0, err
        assert json.loads(out)["gallery"]["encoded"] == COUNT
        assert max(service.charged.values()) == 1
    check_vectors(client, name, texts, tmp_path, encoded=COUNT)


@pytest.mark.server
@pytest.mark.parametrize("change", [{"phase": "folded"}, {"counts": {"folded": 1}}, {}])
def test_what_a_newer_version_began_is_left_alone(
    change: dict, server_db: Connection, qdrant_url: str, tmp_path: Path
):
    texts, name, client = Texts.make(60), fresh_name(), server_db.client
    texts.fill(client, name, both=True)
    with embedding_service() as service:
        write_text_config(tmp_path, qdrant_url, name, texts, service, layout="in_place")
        answer_inside("plan", cwd=tmp_path)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "50", cwd=tmp_path)
        answer_inside("backfill", "--online", "--fraction", "0.5", cwd=tmp_path)
        before = stored(client, name, "new")
        newer = {"tool_version": "99.1.0", **change}
        migration = answer_inside("status", cwd=tmp_path)["migration"]
        match = models.FieldCondition(key="migration", match=models.MatchValue(value=migration))
        client.set_payload(JOURNAL, newer, models.Filter(must=[match]), wait=True)
        command = ("backfill", "--online", "--fraction", "1")
        refused = answer_inside(*command, cwd=tmp_path, expect=1)
        assert refused["error"]["type"] == "UnsupportedError"
        assert "xbtmigrate 99.1.0 left the migration" in refused["error"]["message"]
        after = stored(client, name, "new")
        assert {point: found[1] for point, found in after.items()} == {
            point: found[1] for point, found in before.items()
        }
        was = {"tool_version": __version__, "phase": "backfilled", "counts": {}}
        client.set_payload(JOURNAL, was, models.Filter(must=[match]), wait=True)
        answer_inside(*command, cwd=tmp_path)
    check_vectors(client, name, texts, tmp_path, encoded=60)
