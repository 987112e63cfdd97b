"""How many files and functions one batch of a backfill crosses; run by hand (a minute).

python benchmarks/batch_path.py            # embedded, and a server over gRPC
python benchmarks/batch_path.py --list     # with the functions of each file

Runs `backfill` over the clip-art collection in batches of 50 whose new vectors are already paid
for, and notes by `sys.setprofile`, in all threads, each function of the package that is called
between one batch of the encoding pass and a later one. The encoder's room is left out: a vector
that is paid for is not encoded. The journal is stored with each batch, so that it always counts;
what happens now and then does not: no queries are probed, and no commands of other shells read.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import CodeType, FrameType

import pyarrow as pa
from qdrant_client import QdrantClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.clipart import Clipart, write_config
from tests.support.command import answer_inside
from tests.support.qdrant_server import running_server
from xbtmigrate.backfill import loop
from xbtmigrate.backfill.make_vectors import VectorMaker
from xbtmigrate.workflows.backfill import throttle

PACKAGE = f"{Path(loop.__file__).parents[1]}/"
BATCH = 50
POINTS = 600
ENCODE = VectorMaker.encode
FIRST, LAST = 3, 9
"""The calls of `VectorMaker.encode` between which is counted."""


def encode_and_wait(maker: VectorMaker, batch: pa.RecordBatch) -> None:
    """Encode a batch and wait for its writes, which then do not fall into a later batch's time."""
    ENCODE(maker, batch)
    maker.later.wait()


class Crossed:
    """Counts the calls within the package between two batches."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self._seen: dict[CodeType, set[int]] = {}
        self._batches = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note one call; `sys.setprofile` calls this."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        self._batches += code is ENCODE.__code__
        if not FIRST <= self._batches < LAST or "/encoders/" in code.co_filename:
            return
        self.calls[code] += 1
        self._seen.setdefault(code, set()).add(self._batches)

    def show(self, title: str, *, listed: bool) -> None:
        """Print the counts, and the functions of each file."""
        files: dict[str, Counter[str]] = {}
        batches = LAST - FIRST
        steady = {
            code: calls for code, calls in self.calls.items() if len(self._seen[code]) > batches / 2
        }
        for code, calls in steady.items():
            file = code.co_filename.removeprefix(PACKAGE)
            files.setdefault(file, Counter())[code.co_qualname] += calls
        calls = sum(steady.values()) / batches
        print(f"{title}: {len(files)} files, {len(steady)} functions, {calls:.0f} calls a batch")
        for file, names in sorted(files.items()) if listed else ():
            print(f"  {file} {sum(names.values()) / batches:.1f}")
            for name, number in names.most_common():
                print(f"    {number / batches:6.1f} {name}")


def count(url: str, client: QdrantClient, folder: Path, settings: str = "") -> Crossed:
    """Run a backfill of a fresh collection and count what its batches cross."""
    with closing(client):
        Clipart.load(POINTS).fill(client, "batches")
    write_config(folder, url, "batches", layout="in_place", strategy="full", qdrant=settings)
    config = folder / "xbtmigrate.toml"
    config.write_text(config.read_text().replace("sample = 400", f"sample = {POINTS}"))
    answer_inside("plan", cwd=folder)
    for each in folder.glob(".xbtmigrate/*/baseline.parquet"):
        # Points that are watched are too many here for batches to be like those of a real run.
        each.unlink()
    path = Crossed()
    threading.setprofile(path)
    sys.setprofile(path)
    try:
        answer_inside(
            *("backfill", "--online", "--batch-size", BATCH, "--max-slowdown", "off"), cwd=folder
        )
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return path


def main() -> None:
    """Count both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the functions of each file")
    listed = parser.parse_args().list
    loop.SAVE_SECONDS = 0.0
    VectorMaker.encode = encode_and_wait  # type: ignore[method-assign]
    throttle.TICK = 3600.0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        for title in ("embedded", "server"):
            folder = Path(name) / title
            folder.mkdir()
            embedded = title == "embedded"
            url = f"path:{folder / 'qdrant'}" if embedded else server.url
            client = QdrantClient(path=str(folder / "qdrant")) if embedded else QdrantClient(url)
            settings = "" if embedded else f"grpc_port = {server.grpc_port}"
            count(url, client, folder, settings).show(title, listed=listed)


if __name__ == "__main__":
    main()
