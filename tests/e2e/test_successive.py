"""One collection moved from model to model to model, and two migrations that want the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chain import COUNT, Chain
from tests.support.command import inside
from xbtmigrate.qdrant.wire.own_collection import JOURNAL

MODES = [
    pytest.param("server-in_place", marks=pytest.mark.server),
    pytest.param("server-shadow", marks=pytest.mark.server),
    "embedded-in_place",
    "embedded-shadow",
]


@pytest.fixture
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Chain:
    mode, layout = request.param.split("-")
    url = request.getfixturevalue("qdrant_url") if mode == "server" else ""
    return Chain(url, layout, tmp_path)


@pytest.mark.parametrize("chain", MODES, indirect=True)
def test_three_migrations_in_a_row(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for step in range(3):
        # The second one trains nothing: it must not serve by what the first one trained.
        chain.begin(step, strategy="full" if step == 1 else "fastfill")
        # An application that was configured for this step finds its migration among all of them.
        monkeypatch.chdir(chain.folder_of(step))
        assert chain.answers(step) == [0] * (COUNT // 40)
        ended = chain.end(step)
        assert ended["status"] == "finalized"
        chain.check(step + 1)
        monkeypatch.chdir(tmp_path)
        assert chain.answers(step) == [0] * (COUNT // 40)
        assert kinds(chain) == {"migration": 1 if chain.shadow else step + 1, "serving": 1}
    client = chain.open()
    there = {each.name for each in client.get_collections().collections}
    client.close()
    assert {name for name in there if name.startswith(chain.name)} == {chain.place(3)[0]}


def kinds(chain: Chain) -> dict[str, int]:
    """What the journal keeps of this collection's migrations, but for the parts of archives."""
    client = chain.open()
    records, _ = client.scroll(JOURNAL, limit=10_000)
    client.close()
    found: dict[str, int] = {}
    for record in records:
        kind = record.payload.get("kind", "shadow")
        if chain.name in str(record.payload) and kind != "serving_part":
            found[kind] = found.get(kind, 0) + 1
    return found


@pytest.mark.parametrize("chain", MODES, indirect=True)
def test_a_collection_under_migration_is_refused_to_a_second_one(chain: Chain, tmp_path: Path):
    chain.begin(0, strategy="full")
    first = chain.run(0, "status")
    # By its real name in place of the alias, and the place of the new vectors as a source.
    wanted = [(0, chain.name), (1, chain.place(1)[0])] if chain.shadow else [(1, chain.name)]
    for step, collection in wanted:
        there = chain.configure(
            step, strategy="full", folder=f"second-{step}", collection=collection
        )
        code, _, err = inside("plan", cwd=there)
        assert code == 3, err
        assert f"the migration '{first['migration']}' ({first['phase']}) already has" in err
        assert "xbtmigrate abort --yes" in err
        assert not (there / ".xbtmigrate").exists()
    chain.end(0)
    chain.check(1)
