"""Bad input ends with one clear error and the right exit code, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.checks import snapshot
from tests.support.clipart import DATA, Clipart, vectors, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside, inside
from tests.support.corpus import write_vectors
from tests.support.qdrant_server import free_port, running_server
from xbtmigrate.qdrant.wire.connect import connect
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import vector_array

pytestmark = pytest.mark.server
COUNT = 300


@dataclass(frozen=True, slots=True)
class World:
    """A planned and trained migration whose collection no bad input may touch."""

    client: QdrantClient
    clipart: Clipart
    name: str
    url: str
    ready: Path

    def refuses(
        self, folder: Path, *command: str, exit_code: int, says: str, hint: str = ""
    ) -> dict[str, Any]:
        """Run a command that has to fail; returns its error, having checked its form."""
        before = snapshot(self.client, self.name, "_xbtmigrate")
        code, out, err = inside(*command, "--json", cwd=folder)
        assert code == exit_code, f"{out}\n{err}"
        assert snapshot(self.client, self.name, "_xbtmigrate") == before
        error = json.loads(out)["error"]
        assert error["exit_code"] == exit_code
        assert says in error["message"]
        assert error["hint"]
        assert hint in error["hint"]
        assert err.count("error: ") == err.count("hint: ") == 1
        assert f"error: {error['message']}\nhint: {error['hint']}\n" in err
        return error


@pytest.fixture(scope="module")
def world(
    server_db: Connection, qdrant_url: str, tmp_path_factory: pytest.TempPathFactory
) -> World:
    clipart, name = Clipart.load(COUNT), fresh_name()
    clipart.fill(server_db.client, name)
    folder = tmp_path_factory.mktemp("ready")
    write_config(folder, qdrant_url, name)
    answer_inside("plan", cwd=folder)
    answer_inside("train-projector", "--kind", "ridge", cwd=folder)
    return World(server_db.client, clipart, name, qdrant_url, folder)


@pytest.fixture
def ready(world: World, tmp_path: Path) -> Path:
    """A copy of the planned and trained migration, to be spoiled."""
    folder = tmp_path / "ready"
    shutil.copytree(world.ready, folder)
    return folder


def replaced(folder: Path, old: str, new: str) -> None:
    path = folder / "xbtmigrate.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("command", [["plan"], ["backfill", "--online"], ["status"]])
def test_nothing_listens_there(world: World, ready: Path, command: list[str]):
    replaced(ready, world.url, f"http://127.0.0.1:{free_port()}")
    world.refuses(ready, *command, exit_code=1, says="does not answer", hint="qdrant.url")


CONFIG_MISTAKES = [
    ('url = "http', 'url = "ftp', 2, "qdrant.url: must be", ""),
    ('collection = "', 'collection = "no-such-', 1, "there is no collection 'no-such-", "{name}"),
    ('vector = "old"', 'vector = "odl"', 1, "no vector 'odl'", "'old'"),
    ('encoder = "precomputed"', 'encoder = "precomputde"', 2, "no plugin 'precomputde'", ""),
    ('image = "image"', 'image = "img"', 1, "has the payload field 'img'", "payload.image"),
    ('image = "image"', "", 2, "payload.image", "old_model.stored"),
    ('stored = "image"', 'stored = "text"', 3, "embed the image, not the text", 'stored = "image"'),
    ("[payload]", 'api_key_env = "XBT_UNSET"\n[payload]', 2, "XBT_UNSET", "export XBT_UNSET"),
]


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES)
def test_config(world: World, tmp_path: Path, mistake: tuple[str, str, int, str, str]):
    old, new, exit_code, says, hint = mistake
    write_config(tmp_path, world.url, world.name)
    replaced(tmp_path, old, new)
    hint = hint.format(name=world.name)
    world.refuses(tmp_path, "plan", exit_code=exit_code, says=says, hint=hint)
    assert not (tmp_path / ".xbtmigrate").exists()


def test_every_mistake_is_listed_at_once(world: World, tmp_path: Path):
    changes = {
        "qdrant": "colection = 1\ntimeout = -3",
        "plan": "measure_seconds = -5\ntarget = 2.0",
    }
    write_config(tmp_path, world.url, world.name, strategy="fasfill", layout="inplace", **changes)
    replaced(tmp_path, 'stored = "image"', 'stored = "sound"\npaht = "x"')
    error = world.refuses(tmp_path, "plan", exit_code=2, says="has 8 mistakes")
    for key, guess in {
        "qdrant.colection": "did you mean 'collection'?",
        "qdrant.timeout": "-3",
        "old_model.stored": "sound",
        "old_model.paht": "did you mean 'path'?",
        "plan.strategy": "fasfill",
        "plan.layout": "inplace",
        "plan.measure_seconds": "-5",
        "plan.target": "2.0",
    }.items():
        line = next(line for line in error["message"].splitlines() if f"  {key}:" in line)
        assert guess in line


def test_no_config(world: World, tmp_path: Path):
    world.refuses(tmp_path, "plan", exit_code=2, says="no configuration file", hint="init")
    (tmp_path / "xbtmigrate.toml").write_text("[qdrant\n")
    world.refuses(tmp_path, "plan", exit_code=2, says="cannot be read")


def test_another_model_of_the_same_dimension(world: World, tmp_path: Path):
    write_config(tmp_path, world.url, world.name)
    strange = np.random.default_rng(0).standard_normal((COUNT, 128)).astype(np.float32)
    write_vectors(tmp_path / "strange.parquet", world.clipart.images, strange)
    replaced(tmp_path, str(DATA / "old.parquet"), "strange.parquet")
    error = world.refuses(
        tmp_path, "plan", exit_code=3, says="median cosine", hint="--allow-model-mismatch"
    )
    assert "at least 0.99" in error["message"]
    plan = answer_inside("plan", "--allow-model-mismatch", cwd=tmp_path)
    assert plan["model_match"]["matches"] is False
    assert any("did not make the stored vectors" in warning for warning in plan["warnings"])


def test_an_old_model_of_another_dimension(world: World, tmp_path: Path):
    write_config(tmp_path, world.url, world.name)
    replaced(tmp_path, str(DATA / "old.parquet"), str(DATA / "new.parquet"))
    world.refuses(tmp_path, "plan", exit_code=1, says="256-d vectors", hint="[old_model]")


def test_a_model_file_that_is_missing_or_broken(world: World, tmp_path: Path):
    write_config(tmp_path, world.url, world.name)
    replaced(tmp_path, str(DATA / "new.parquet"), "missing.parquet")
    world.refuses(tmp_path, "plan", exit_code=1, says="does not exist")
    (tmp_path / "missing.parquet").write_bytes(b"PAR1 this is no parquet PAR1")
    world.refuses(tmp_path, "plan", exit_code=1, says="is not a Parquet file")


@pytest.fixture
def own(world: World) -> Iterator[Callable[..., World]]:
    """Make a collection of a test's own, filled by the test."""

    def make(fill: Callable[[QdrantClient, str], None]) -> World:
        name = fresh_name()
        fill(world.client, name)
        return World(world.client, world.clipart, name, world.url, world.ready)

    return make


def without_image(world: World, count: int) -> Callable[[QdrantClient, str], None]:
    def fill(client: QdrantClient, name: str) -> None:
        world.clipart.fill(client, name)
        client.delete_payload(name, ["image"], points=world.clipart.ids[:count], wait=True)

    return fill


def test_more_points_without_their_source_than_allowed(
    world: World, own: Callable[..., World], tmp_path: Path
):
    bad = own(without_image(world, 4))
    write_config(tmp_path, bad.url, bad.name)
    error = bad.refuses(tmp_path, "plan", exit_code=3, says=f"4 of {COUNT}", hint="max_missing")
    assert str(world.clipart.ids[0]) in error["message"]


def test_some_points_without_their_source(world: World, own: Callable[..., World], tmp_path: Path):
    """Below the threshold they are told beforehand, passed over and counted."""
    bad = own(without_image(world, 3))
    write_config(tmp_path, bad.url, bad.name)
    plan = answer_inside("plan", cwd=tmp_path)
    assert plan["coverage"]["missing_source"] == 3
    assert "3 points have no image; they cannot be encoded" in plan["warnings"]
    answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
    done = answer_inside("backfill", "--online", "--fraction", "1", cwd=tmp_path)
    assert (done["missing_source"], done["failed"]) == (3, 0)
    assert (done["gallery"]["encoded"], done["gallery"]["projected"]) == (COUNT - 3, 3)
    assert done["quarantined"].keys() == {str(point) for point in world.clipart.ids[:3]}


def test_a_new_vector_of_another_dimension(own: Callable[..., World], tmp_path: Path):
    def fill(client: QdrantClient, name: str) -> None:
        size = {"old": 128, "new": 100}
        config = {
            key: models.VectorParams(size=value, distance=models.Distance.COSINE)
            for key, value in size.items()
        }
        client.create_collection(name, vectors_config=config)
        points = [models.PointStruct(id=1, vector={"old": [1.0] * 128}, payload={"image": "x"})]
        client.upsert(name, points, wait=True)

    bad = own(fill)
    write_config(tmp_path, bad.url, bad.name)
    bad.refuses(tmp_path, "plan", exit_code=1, says="of size 100", hint="another name")


def test_new_vectors_that_are_not_ours(world: World, own: Callable[..., World], tmp_path: Path):
    def fill(client: QdrantClient, name: str) -> None:
        world.clipart.fill(client, name)
        points = [models.PointVectors(id=world.clipart.ids[0], vector={"new": [1.0] * 256})]
        client.update_vectors(name, points, wait=True)

    bad = own(fill)
    write_config(tmp_path, bad.url, bad.name)
    bad.refuses(tmp_path, "plan", exit_code=1, says="1 point(s)", hint="another name")


def test_an_empty_collection(own: Callable[..., World], tmp_path: Path):
    config = {"old": models.VectorParams(size=128, distance=models.Distance.COSINE)}
    bad = own(lambda client, name: client.create_collection(name, vectors_config=config))
    write_config(tmp_path, bad.url, bad.name)
    bad.refuses(tmp_path, "plan", exit_code=1, says="is empty")


@pytest.mark.parametrize(
    ("command", "exit_code", "says"),
    [
        (["backfill", "--online", "--budget", "soon"], 2, "is not a time"),
        (["backfill", "--online", "--budget", "0s"], 2, "is not a time"),
        (["backfill", "--online", "--order", "alphabetical"], 2, "no plugin 'alphabetical'"),
        (["train-projector", "--kind", "ridge,rigde"], 2, "rigde"),
        (["evaluate", "--queries", "nothing.parquet"], 2, "there is no query file"),
        (["evaluate", "--queries", "xbtmigrate.toml"], 2, "is not a query file"),
        (["backfill", "--online", "--order", "random", "--batch-size", "0"], 2, "--batch-size"),
        (["backfill", "--onlin"], 2, "--onlin"),
        (["migrate"], 2, "migrate"),
    ],
)
def test_options(world: World, ready: Path, command: list[str], exit_code: int, says: str):
    world.refuses(ready, *command, exit_code=exit_code, says=says)


@pytest.mark.parametrize("fraction", ["1.5", "-0.1", "half", "nan"])
def test_fraction_out_of_range(world: World, ready: Path, fraction: str):
    command = ("backfill", "--online", f"--fraction={fraction}")
    world.refuses(ready, *command, exit_code=2, says="--fraction", hint="--help")


def test_a_fraction_of_forward(world: World, tmp_path: Path):
    write_config(tmp_path, world.url, world.name, strategy="forward")
    answer_inside("plan", cwd=tmp_path)
    world.refuses(
        tmp_path, "backfill", "--online", "--fraction", "0.5",
        exit_code=2, says="encodes nothing", hint="fastfill",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "exit_code", "says"),
    [
        ({"query": ["a"], "relevant": [["1"]]}, 2, "is not a query file"),
        ({"text": ["a"], "answers": ["1"]}, 2, "is not a query file"),
        ({"text": ["a"], "relevant": [[0.5]]}, 2, "loses digits"),
        ({"text": [], "relevant": []}, 2, "has no queries"),
        ({"text": ["a", None], "relevant": [["1"], ["1"]]}, 2, "without a query"),
        ({"text": ["a"], "relevant": [["no-such-point"]]}, 1, "'no-such-point' is not a point id"),
        ({"text": ["a"], "relevant": [["999999999"]]}, 1, "such as '999999999', is in"),
    ],
)
def test_queries(world: World, ready: Path, columns: dict, exit_code: int, says: str):
    pq.write_table(pa.table(columns), ready / "q.parquet")
    world.refuses(ready, "evaluate", "--queries", "q.parquet", exit_code=exit_code, says=says)


def spoil_plan(folder: Path) -> None:
    path = next(folder.glob(".xbtmigrate/*/plan.json"))
    path.write_text(path.read_text().replace('"fraction"', '"fractoin"', 1))


def edit_plan(folder: Path) -> None:
    path = next(folder.glob(".xbtmigrate/*/plan.json"))
    plan = json.loads(path.read_text())
    path.write_text(json.dumps(plan | {"seed": plan["seed"] + 1}))


def spoil_projector(folder: Path) -> None:
    path = next(folder.glob(".xbtmigrate/*/projector/forward/projector.safetensors"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)


def lose_projector(folder: Path) -> None:
    shutil.rmtree(next(folder.glob(".xbtmigrate/*/projector/forward")))


def lose_plan(folder: Path) -> None:
    next(folder.glob(".xbtmigrate/*/plan.json")).unlink()


def change_model(folder: Path) -> None:
    table = pq.read_table(DATA / "new.parquet")
    turned = vector_array(-vectors("new", table["key"].to_pylist()))
    pq.write_table(pa.table({"key": table["key"], "vector": turned}), folder / "turned.parquet")
    replaced(folder, str(DATA / "new.parquet"), "turned.parquet")


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (spoil_plan, (1, "plan.json is damaged")),
        (edit_plan, (1, "was changed after it was made")),
        (lose_plan, (1, "there is no plan")),
        (spoil_projector, (1, "is damaged")),
        (lose_projector, (1, "there is no projector")),
        (change_model, (3, "new_model.fingerprint: was precomputed:")),
    ],
)
@pytest.mark.parametrize("online", [False, True])
def test_artefacts(
    world: World, ready: Path, spoil: Callable[[Path], None], refusal: tuple[int, str], online: bool
):
    spoil(ready)
    exit_code, says = refusal
    flags = ["--online"] if online else []
    world.refuses(ready, "backfill", *flags, exit_code=exit_code, says=says)


def test_a_plan_of_another_collection(
    world: World, own: Callable[..., World], ready: Path, tmp_path: Path
):
    other = own(world.clipart.fill)
    write_config(tmp_path, other.url, other.name)
    answer_inside("plan", cwd=tmp_path)
    here, there = (next(folder.glob(".xbtmigrate/*")) for folder in (tmp_path, ready))
    shutil.copytree(there, here, dirs_exist_ok=True)
    error = other.refuses(tmp_path, "backfill", "--online", exit_code=3, says="is out of date")
    assert f"collection: was {world.name}, is now {other.name}" in error["message"]


KEY, READ_ONLY = "the-master-key", "the-reading-key"


def test_a_key_that_may_only_read(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = {
        "QDRANT__SERVICE__API_KEY": KEY,
        "QDRANT__SERVICE__READ_ONLY_API_KEY": READ_ONLY,
    }
    with running_server(settings) as server:
        client = connect(server.url, api_key=KEY).client
        world.clipart.fill(client, world.name)
        guarded = World(client, world.clipart, world.name, server.url, tmp_path)
        write_config(tmp_path, server.url, world.name, qdrant='api_key_env = "XBT_KEY"')
        monkeypatch.setenv("XBT_KEY", READ_ONLY)
        answer_inside("plan", cwd=tmp_path)
        answer_inside("train-projector", "--kind", "ridge", cwd=tmp_path)
        answer_inside("backfill", cwd=tmp_path)
        guarded.refuses(
            tmp_path, "backfill", "--online",
            exit_code=1, says="no right to write points", hint="api_key_env",
        )  # fmt: skip
        monkeypatch.setenv("XBT_KEY", "wrong")
        guarded.refuses(tmp_path, "plan", exit_code=1, says="refused the credentials")
        client.close()


def test_an_embedded_folder_that_is_missing_or_in_use(world: World, tmp_path: Path):
    write_config(tmp_path, "path:qdrant", "c")
    world.refuses(tmp_path, "plan", exit_code=1, says="does not exist", hint="path:DIR")
    (tmp_path / "qdrant").mkdir()
    world.refuses(tmp_path, "plan", exit_code=1, says="is not an embedded Qdrant database")
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    world.clipart.fill(client, "c")
    world.refuses(tmp_path, "plan", exit_code=1, says="is in use by another process")
    client.close()
    answer_inside("plan", cwd=tmp_path)
