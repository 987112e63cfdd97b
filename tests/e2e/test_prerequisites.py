"""What a migration needs until its end is found by `plan`, before anything is written or paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from qdrant_client import models

from tests.support.chain import COUNT, Chain
from tests.support.command import inside

LIMITS = [
    {"search_allow_exact": False},
    {"max_payload_index_count": 0},
    {"condition_max_size": 10, "max_query_limit": 5},
    {"filter_max_conditions": 3},
    {"max_collection_vector_size_bytes": 1000},
    {"read_rate_limit": 19},
]


@pytest.mark.server
@pytest.mark.parametrize("limits", LIMITS, ids=",".join)
def test_limits_that_would_stop_it_half_way_are_refused(
    limits: dict[str, int | bool], qdrant_url: str, tmp_path: Path
):
    chain = Chain(qdrant_url, "in_place", tmp_path)
    folder = chain.configure(0, strategy="full")
    client = chain.open()
    strict = models.StrictModeConfig(enabled=True, **limits)
    client.update_collection(chain.name, strict_mode_config=strict)
    code, _, err = inside("plan", cwd=folder)
    assert code == 3, err
    for name in limits:
        assert name in err
    assert err.count(f"PATCH /collections/{chain.name}") == len(limits)
    assert not (folder / ".xbtmigrate").exists()

    client.update_collection(chain.name, strict_mode_config=models.StrictModeConfig(enabled=False))
    chain.run(0, "plan")
    client.update_collection(chain.name, strict_mode_config=strict)
    before = client.get_collection(chain.name)
    code, _, err = inside("backfill", "--online", cwd=folder)
    assert code == 3, err
    assert client.get_collection(chain.name) == before
    client.close()


@pytest.mark.server
def test_a_slow_server_is_said_and_not_refused(qdrant_url: str, tmp_path: Path):
    chain = Chain(qdrant_url, "in_place", tmp_path)
    chain.configure(0, strategy="full")
    client = chain.open()
    strict = models.StrictModeConfig(enabled=True, write_rate_limit=100)
    client.update_collection(chain.name, strict_mode_config=strict)
    client.close()
    [finding] = chain.run(0, "plan")["findings"]
    assert (finding["name"], finding["blocks"]) == ("write_rate_limit", False)
    assert "120 vectors to write take 1 minutes at least" in finding["message"]


@pytest.mark.server
def test_each_point_that_a_shadow_copies_counts_as_a_read(qdrant_url: str, tmp_path: Path):
    chain = Chain(qdrant_url, "shadow", tmp_path)
    chain.configure(0, strategy="full")
    client = chain.open()
    strict = models.StrictModeConfig(enabled=True, read_rate_limit=119)
    client.update_collection(chain.name, strict_mode_config=strict)
    client.close()
    [finding] = chain.run(0, "plan")["findings"]
    assert (finding["name"], finding["blocks"]) == ("read_rate_limit", False)
    assert "120 points to read take 1 minutes at least" in finding["message"]


@pytest.mark.server
def test_marks_may_meet_a_limit_to_the_payloads(qdrant_url: str, tmp_path: Path):
    chain = Chain(qdrant_url, "in_place", tmp_path)
    chain.configure(0, strategy="full")
    client = chain.open()
    strict = models.StrictModeConfig(enabled=True, max_collection_payload_size_bytes=2**20)
    client.update_collection(chain.name, strict_mode_config=strict)
    client.close()
    [finding] = chain.run(0, "plan")["findings"]
    assert (finding["name"], finding["blocks"]) == ("max_collection_payload_size_bytes", False)
    raised = 2**20 + 512 * COUNT
    assert f'{{"max_collection_payload_size_bytes": {raised}}}' in finding["way_out"]


def test_a_cutover_without_an_alias_is_said_beforehand(tmp_path: Path):
    chain = Chain("", "shadow", tmp_path)
    folder = chain.configure(0, strategy="full", collection=chain.name)
    [finding] = chain.run(0, "plan")["findings"]
    assert finding["name"] == "no_alias"
    assert f"`xbtmigrate cutover --alias {chain.live}`" in finding["way_out"]
    assert "--by-switch" in finding["way_out"]
    chain.configure(0, strategy="full")
    code, out, err = inside("plan", cwd=folder)
    assert (code, "Needed:" in out) == (0, False), err


def test_an_alias_that_stays_is_said_beforehand(tmp_path: Path):
    chain = Chain("", "shadow", tmp_path)
    chain.configure(0, strategy="full")
    made = models.CreateAlias(collection_name=chain.name, alias_name="beside")
    client = chain.open()
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    client.close()
    [finding] = chain.run(0, "plan")["findings"]
    assert (finding["name"], finding["blocks"]) == ("other_aliases", False)
    assert "beside" in finding["message"]


def test_settings_that_the_embedded_mode_does_not_keep_are_said(tmp_path: Path):
    chain = Chain("", "in_place", tmp_path)
    folder = chain.configure(0, strategy="full")
    code, out, err = inside("plan", cwd=folder)
    assert (code, "keeps no index settings of 'v2'" in out) == (0, True), err


def test_too_small_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = Chain("", "in_place", tmp_path)
    folder = chain.configure(0, strategy="full")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    code, _, err = inside("plan", cwd=folder)
    assert code == 3
    assert "on disk" in err
    assert "larger disk" in err


class Usage:
    free = 1000
