"""Each file of a migration cut, flipped or swapped: one clear error or a repair, nothing wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, write_config
from tests.support.command import answer_inside, inside

pytestmark = pytest.mark.long
COUNT = 300
NAME = "pictures"


def cut(content: bytes, other: bytes) -> bytes:
    del other
    return content[: len(content) // 2]


def flip(content: bytes, other: bytes) -> bytes:
    del other
    flipped = bytearray(content)
    flipped[int(np.random.default_rng(len(content)).integers(len(content)))] ^= 4
    return bytes(flipped)


def swap(content: bytes, other: bytes) -> bytes:
    del content
    return other


def nest(content: bytes, other: bytes) -> bytes:
    del content, other
    return b'{"a":' * 100_000


DAMAGES: list[Callable[[bytes, bytes], bytes]] = [cut, flip, swap, nest]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migration of which a part is re-encoded, and every file that its commands write."""
    folder, clipart = tmp_path_factory.mktemp("whole"), Clipart.load(COUNT)
    client = QdrantClient(path=str(folder / "qdrant"))
    clipart.fill(client, NAME)
    client.close()
    write_config(folder, "path:qdrant", NAME)
    answer_inside("plan", cwd=folder)
    answer_inside("train-projector", "--kind", "ridge", cwd=folder)
    answer_inside("backfill", "--online", "--fraction", "0.3", cwd=folder)
    answer_inside("verify", cwd=folder)
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(each for each in (folder / ".xbtmigrate").rglob("*") if each.is_file())


def neighbours(contents: Mapping[Path, bytes]) -> Iterator[tuple[Path, Path]]:
    """Each file, and another one in its place."""
    places = list(contents)
    return zip(places, [*places[1:], places[0]], strict=True)


def run(folder: Path, *command: str) -> tuple[int, str]:
    """Run a command: it ends well, or in one error with a way out."""
    code, out, err = inside(*command, cwd=folder)
    assert code in (0, 1, 2, 3), err
    assert err.count("error: ") == err.count("hint: ") <= 1, f"{command}: {err}"
    assert code not in (1, 2) or "error: " in err, f"{command}: {out}{err}"
    return code, out + err


def check_vectors(folder: Path, clipart: Clipart, before: dict[int, np.ndarray]) -> None:
    """Every new vector is the one that was there before, or the true one."""
    client = QdrantClient(path=str(folder / "qdrant"))
    records, _ = client.scroll(NAME, limit=2 * COUNT, with_vectors=True)
    client.close()
    assert len(records) == COUNT
    true = dict(zip(clipart.ids, clipart.new, strict=True))
    for record in records:
        vector = np.array(record.vector["new"])
        cosines = [
            vector @ each / np.linalg.norm(each) for each in (before[record.id], true[record.id])
        ]
        assert max(cosines) > 0.9999, record.id


def new_vectors(folder: Path) -> dict[int, np.ndarray]:
    client = QdrantClient(path=str(folder / "qdrant"))
    records, _ = client.scroll(NAME, limit=2 * COUNT, with_vectors=True)
    client.close()
    return {record.id: np.array(record.vector["new"]) for record in records}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_no_damage_ends_in_a_traceback_or_a_wrong_vector(whole, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    before, fraction = new_vectors(folder), 0.3
    contents = {place: place.read_bytes() for place in files_of(folder)}
    assert len(contents) > 12
    for place, other in neighbours(contents):
        place.write_bytes(damage(contents[place], contents[other]))
        fraction += 0.01
        code, said = run(folder, "backfill", "--online", "--fraction", f"{fraction:.2f}")
        if code:
            assert place.name in said or place.parent.name in said, f"{place}: {said}"
        run(folder, "status")
        place.write_bytes(contents[place])
    check_vectors(folder, Clipart.load(COUNT), before)


@pytest.mark.parametrize("command", ["cutover"])
def test_every_reader_names_a_damaged_file(whole, tmp_path, command):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    contents = {place: place.read_bytes() for place in files_of(folder)}
    for place, other in neighbours(contents):
        place.write_bytes(contents[other])
        code, said = run(folder, command)
        if code in (1, 2):
            assert place.name in said or place.parent.name in said, f"{place}: {said}"
        place.write_bytes(contents[place])
