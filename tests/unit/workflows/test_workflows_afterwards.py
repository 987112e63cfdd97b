"""What `finalize` says of the time after it."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from xbtmigrate.types import Layout
from xbtmigrate.workflows.cutover.afterwards import restore_command, settings_after, snapshot_place


def plan(layout: Layout) -> Any:
    target = "articles__xbtmigrate" if layout is Layout.SHADOW else "articles"
    return SimpleNamespace(
        collection=SimpleNamespace(name="articles", vector="old"),
        target=SimpleNamespace(layout=layout, collection=target, vector="new"),
        binding={"old_model.stored": "text"},
    )


CONFIG: Any = SimpleNamespace(
    url="http://127.0.0.1:6333",
    api_key=None,
    qdrant=SimpleNamespace(collection="articles", api_key_env=None),
)


@pytest.mark.parametrize(
    ("layout", "name"), [(Layout.SHADOW, "articles"), (Layout.IN_PLACE, "articles-before")]
)
def test_a_snapshot_is_restored_under_a_free_name(layout: Layout, name: str):
    command = restore_command(plan(layout), CONFIG, "s1.snapshot")
    assert f"'http://127.0.0.1:6333/collections/{name}/snapshots/recover'" in command
    assert "articles/s1.snapshot" in command
    assert snapshot_place(plan(layout), "s1.snapshot").startswith("articles/s1.snapshot under")
    assert restore_command(plan(layout), CONFIG, None) is None


def test_a_restore_can_be_typed_for_any_name():
    odd = plan(Layout.SHADOW)
    odd.collection.name = "été (v1), l'an"
    typed = shlex.split(restore_command(odd, CONFIG, "s1.snapshot") or "")
    name = "%C3%A9t%C3%A9%20%28v1%29%2C%20l%27an"
    assert typed[3] == f"http://127.0.0.1:6333/collections/{name}/snapshots/recover"
    assert json.loads(typed[-1]) == {"location": f"file:///qdrant/snapshots/{name}/s1.snapshot"}


def test_the_configuration_follows_the_data():
    by_switch = settings_after(plan(Layout.SHADOW), CONFIG, None)
    assert 'qdrant.collection = "articles__xbtmigrate"' in by_switch
    assert 'qdrant.vector = "new"' in settings_after(plan(Layout.IN_PLACE), CONFIG, None)
    assert settings_after(plan(Layout.SHADOW), CONFIG, "articles")[0] == 'qdrant.vector = "new"'
