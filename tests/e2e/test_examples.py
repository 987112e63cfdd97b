"""The examples, each run as its README says, in a copy of its folder."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart, vectors
from tests.support.command import SETTINGS
from tests.support.documents import ROOT
from xbtmigrate.types import vectors_of

pytestmark = pytest.mark.long
EXAMPLES = ROOT / "examples"
FIRST, CLIP_ART, PLUGIN = "01_first_migration", "02_clip_art_text_to_image", "03_write_a_plugin"
SHARED_COUNT = 300


def copied(name: str, folder: Path) -> Path:
    """Copy an example, as a fresh checkout has it."""
    ignore = shutil.ignore_patterns(".xbtmigrate", "qdrant", "clip-art", "build", "__pycache__")
    return Path(shutil.copytree(EXAMPLES / name, folder / name, ignore=ignore))


def run(
    *command: str | Path, cwd: Path, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one command with this Python's programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | SETTINGS | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == expect, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def commands_of(readme: Path, language: str = "sh") -> list[str]:
    """Lines of the README's code blocks in one language."""
    blocks = re.findall(rf"```{language}\n(.*?)```", readme.read_text("utf-8"), re.DOTALL)
    return "".join(blocks).splitlines()


def points_of(folder: Path, collection: str, vector: str) -> dict[int, models.Record]:
    """All points of an embedded collection with one vector."""
    client = QdrantClient(path=str(folder / "qdrant"))
    records, _ = client.scroll(collection, limit=10_000, with_vectors=[vector])
    client.close()
    return {record.id: record for record in records}


def test_the_first_migration_runs_as_its_readme_says(tmp_path: Path):
    folder = copied(FIRST, tmp_path)
    script = (folder / "run.sh").read_text("utf-8").partition("\n\n")[2].splitlines()
    assert commands_of(folder / "README.md") == script

    output = run("./run.sh", cwd=folder).stdout

    for figure in ("0.207", "0.448"):  # keep and full, as the README quotes them
        assert figure in (folder / "README.md").read_text("utf-8")
        assert figure in output
    assert "2 dead frogs" in output.splitlines()[-5]
    assert (folder / "found.toml").exists()
    new = points_of(folder, "pictures", "new")
    assert len(new) == 600
    assert {record.payload["_xbtmigrate"]["kind"] for record in new.values()} == {"encoded"}
    expected = vectors("new", [record.payload["image"] for record in new.values()])
    stored = np.array([record.vector["new"] for record in new.values()])
    np.testing.assert_allclose(stored, expected, atol=2e-6)
    old = points_of(folder, "pictures", "old")
    expected = vectors("old", [record.payload["image"] for record in old.values()])
    np.testing.assert_allclose(
        np.array([record.vector["old"] for record in old.values()]), expected, atol=1e-4
    )


def test_clip_art_runs_without_models(tmp_path: Path):
    folder = copied(CLIP_ART, tmp_path)
    readme = (folder / "README.md").read_text("utf-8")
    assert commands_of(folder / "README.md")[0] == "python run.py"
    for snippet in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL):
        configs = [path.read_text("utf-8") for path in folder.glob("*.toml")]
        assert any(snippet in config for config in configs)

    output = run("python", "run.py", cwd=folder).stdout

    assert "median cosine image 1.0000" in output
    source = points_of(folder / "clip-art", "clip_art", "old")
    shadow = points_of(folder / "clip-art", "clip_art__xbtmigrate", "new")
    assert len(source) == len(shadow) == 500
    assert not any("_xbtmigrate" in record.payload for record in source.values())
    kinds = [record.payload["_xbtmigrate"]["kind"] for record in shadow.values()]
    assert (kinds.count("encoded"), kinds.count("projected")) == (250, 250)


def test_clip_art_refuses_half_of_its_options(tmp_path: Path):
    folder = copied(CLIP_ART, tmp_path)
    refused = run("python", "run.py", "--models", tmp_path, cwd=folder, expect=2)
    assert "--models and --images belong together" in refused.stderr


@pytest.mark.shared
def test_clip_art_runs_with_real_models(shared_dir: Path, tmp_path: Path):
    folder, images = copied(CLIP_ART, tmp_path), tmp_path / "images"
    images.mkdir()
    data = shared_dir / "data/clipart"
    pairs = pq.read_table(data / "pairs.parquet").slice(0, SHARED_COUNT)
    with (images / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "caption"])
        for row, (caption, png) in enumerate(
            zip(pairs["caption"].to_pylist(), pairs["png"].to_pylist(), strict=True)
        ):
            (images / f"{row}.png").write_bytes(png)
            lines.writerow([f"{row}.png", caption])

    models_dir = shared_dir / "data/models"
    options = ["--folder", "mine", "--models", models_dir, "--images", images]
    output = run("python", "run.py", *options, cwd=folder).stdout

    assert re.search(r"median cosine image (1\.0|0\.999)", output)
    shadow = points_of(folder / "mine", "clip_art__xbtmigrate", "new")
    stored = pq.read_table(data / "embeddings.parquet").slice(0, SHARED_COUNT)
    truth = vectors_of(stored.combine_chunks().to_batches()[0], "new_img").astype(np.float32)
    encoded = {
        point - 1: np.array(record.vector["new"])
        for point, record in shadow.items()
        if record.payload["_xbtmigrate"]["kind"] == "encoded"
    }
    assert (len(shadow), len(encoded)) == (SHARED_COUNT, SHARED_COUNT // 2)
    assert min(truth[row] @ vector for row, vector in encoded.items()) > 0.999


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin, built and installed into a folder of its own, without a network."""
    source = copied(PLUGIN, tmp_path_factory.mktemp("source"))
    target = tmp_path_factory.mktemp("plugin")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", target]
    run(sys.executable, "-m", "pip", "install", *offline, source, cwd=source)
    return target


def test_the_plugin_passes_its_own_tests(installed: Path, tmp_path: Path):
    folder = copied(PLUGIN, tmp_path)
    assert commands_of(folder / "README.md") == ["pip install '.[test]'", "pytest test_wordhash.py"]
    (folder / "xbtmigrate_wordhash.py").unlink()  # what is tested is what was installed
    output = run(
        sys.executable, "-m", "pytest", "test_wordhash.py", cwd=folder, PYTHONPATH=str(installed)
    ).stdout
    assert re.search(r"\d\d passed", output)
    assert "skipped" not in output


WORDHASH = """
[qdrant]
url = "path:qdrant"
collection = "captions"
vector = "old"
[payload]
text = "caption"
[old_model]
encoder = "wordhash"
dimension = 64
stored = "text"
[new_model]
encoder = "wordhash"
dimension = 128
[plan]
strategy = "full"
sample = 100
"""


def test_the_plugin_is_found_by_its_names(installed: Path, tmp_path: Path):
    clipart = Clipart.load(300)
    config = tmp_path / "xbtmigrate.toml"
    config.write_text(WORDHASH, "utf-8")
    build = f"""
from qdrant_client import QdrantClient, models
from xbtmigrate.types import Modality
from xbtmigrate_wordhash import WordHashEncoder
captions, ids = {clipart.captions!r}, {clipart.ids!r}
client = QdrantClient(path="qdrant")
params = models.VectorParams(size=64, distance=models.Distance.COSINE)
client.create_collection("captions", vectors_config={{"old": params}})
vectors = WordHashEncoder(dimension=64).encode(captions, Modality.TEXT).tolist()
payloads = [{{"caption": caption}} for caption in captions]
client.upsert("captions", models.Batch(ids=ids, vectors={{"old": vectors}}, payloads=payloads))
client.close()
"""
    with_plugin = {"PYTHONPATH": str(installed)}
    run("python", "-c", build, cwd=tmp_path, **with_plugin)
    planned = run("xbtmigrate", "plan", cwd=tmp_path, **with_plugin)
    assert "median cosine text 1.0000" in planned.stdout
    order = ["--online", "--order", "newest", "--fraction", "0.6"]
    run("xbtmigrate", "backfill", *order, cwd=tmp_path, **with_plugin)

    new = points_of(tmp_path, "captions", "new")
    encoded = {point for point, record in new.items() if "_xbtmigrate" in record.payload}
    left = set(clipart.ids) - encoded
    assert len(encoded) == 180
    # The plan has encoded 100 points anywhere: they come first, then the 80 newest.
    assert len({point for point in encoded if point > max(left)}) >= 80

    config.write_text(WORDHASH.replace("dimension = 128", "dimensions = 128"), "utf-8")
    refused = run("xbtmigrate", "plan", cwd=tmp_path, expect=2, **with_plugin)
    assert "did you mean 'dimension'?" in refused.stderr


def test_an_application_searches_while_its_collection_is_migrated(tmp_path: Path):
    folder = copied("04_search_while_migrating", tmp_path)
    assert commands_of(folder / "README.md") == ["python run.py"]
    lines = run("python", "run.py", cwd=folder).stdout.splitlines()
    served = [line.split("  ")[0].strip() + " " + line[12:22].strip() for line in lines]
    assert served == [
        "not begun keep",
        "not begun bridge",
        "backfilled keep",
        "backfilled calibrated",
        "backfilled single",
        "backfilled calibrated",
    ]
    assert all(line.count("; ") == 2 for line in lines)
