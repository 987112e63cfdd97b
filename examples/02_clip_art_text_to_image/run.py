"""Migrate a text-to-image search over clip art, from an old CLIP model to a new one.

Without options it uses vectors that come with the package, so it runs anywhere. With --models and
--images it embeds your own pictures with your own two CLIP checkpoints.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

from xbtmigrate.encoders.open_clip import OpenClipEncoder
from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.protocols import Encoder
from xbtmigrate.types import Modality

HERE = Path(__file__).resolve().parent
DATA = Path(str(files("xbtmigrate"))) / "demo_data"
STEP = 6
ASKED = 6


@dataclass(frozen=True, slots=True)
class Pictures:
    """References and captions of n pictures, and which captions are kept as queries."""

    images: list[str]
    captions: list[str]
    asked: list[bool]


def packaged_pictures() -> Pictures:
    """Take every sixth picture of the package's own collection."""
    table = pq.read_table(DATA / "points.parquet")
    table = table.take(np.arange(0, len(table), STEP))
    return Pictures(*(table[name].to_pylist() for name in ("image", "caption", "held_out")))


def pictures_in(folder: Path) -> Pictures:
    """Read captions.csv (columns file and caption); every sixth caption becomes a query."""
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Pictures(
        [row["file"] for row in rows],
        [row["caption"] for row in rows],
        [number % ASKED == 0 for number in range(len(rows))],
    )


def build(folder: Path, pictures: Pictures, old_model: Encoder) -> None:
    """Play the past: embed the pictures with the old model and fill the collection."""
    vectors = old_model.encode(pictures.images, Modality.IMAGE)
    ids = list(range(1, len(vectors) + 1))
    payloads = [
        {"image": image, "caption": caption}
        for image, caption in zip(pictures.images, pictures.captions, strict=True)
    ]
    client = QdrantClient(path=str(folder / "qdrant"))
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("clip_art", vectors_config={"old": params})
    batch = models.Batch(ids=ids, vectors={"old": vectors.tolist()}, payloads=payloads)
    client.upsert("clip_art", batch, wait=True)
    client.close()
    asked = [row for row, is_asked in enumerate(pictures.asked) if is_asked]
    queries = {
        "text": [pictures.captions[row] for row in asked],
        "relevant": [[str(ids[row])] for row in asked],
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")


def prepare(folder: Path, models_dir: Path | None, images: Path | None) -> None:
    """Fill a new folder with a collection, judged queries and a configuration."""
    folder.mkdir(parents=True)
    if models_dir is None or images is None:
        for name in ("old.parquet", "new.parquet"):
            (folder / name).write_bytes((DATA / name).read_bytes())
        config = (HERE / "precomputed.toml").read_text("utf-8")
        build(folder, packaged_pictures(), PrecomputedEncoder(path=folder / "old.parquet"))
    else:
        config = (HERE / "open_clip.toml").read_text("utf-8")
        for word, path in (("MODELS", models_dir), ("IMAGES", images)):
            config = config.replace(word, path.resolve().as_posix())
        old_model = OpenClipEncoder(checkpoint=models_dir / "clip-old", image_root=images)
        build(folder, pictures_in(images), old_model)
    (folder / "xbtmigrate.toml").write_text(config, "utf-8")


def xbtmigrate(folder: Path, *arguments: str) -> None:
    """Run one command in the folder, as you would in a shell."""
    print(f"\n$ xbtmigrate {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "xbtmigrate", *arguments], cwd=folder, check=True)


def main() -> None:
    """Build the collection, then run the whole migration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("clip-art"), help="a new folder")
    parser.add_argument("--models", type=Path, help="folder with clip-old and clip-new")
    parser.add_argument("--images", type=Path, help="folder with pictures and captions.csv")
    chosen = parser.parse_args()
    if (chosen.models is None) != (chosen.images is None):
        parser.error("--models and --images belong together")
    if chosen.folder.exists():
        parser.error(f"{chosen.folder} exists; delete it or name another --folder")
    prepare(chosen.folder, chosen.models, chosen.images)
    xbtmigrate(chosen.folder, "plan")
    xbtmigrate(chosen.folder, "train-projector", "--kind", "procrustes,ridge")
    xbtmigrate(chosen.folder, "backfill", "--online", "--fraction", "0.5")
    xbtmigrate(chosen.folder, "evaluate", "--queries", "queries.parquet")
    xbtmigrate(chosen.folder, "status")


if __name__ == "__main__":
    main()
