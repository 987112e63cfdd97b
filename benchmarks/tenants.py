"""One collection of many tenants: a backfill tenant by tenant, and the status of each; run by hand.

python benchmarks/tenants.py --tenants 1000 --points 20000

Fills a collection on a real server with an `is_tenant` index and the models of million.py. A tenth
of the points is re-encoded in order of the tenants in a file, which lists every tenth tenant, and
in another collection without such an order. Then `status` counts the tenants.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from qdrant_client import models

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.data_path import SETTINGS  # noqa: E402
from benchmarks.million import NEW, OLD, PAGE, run, text  # noqa: E402
from tests.support.corpus import create_collection, write_precomputed_config  # noqa: E402
from tests.support.qdrant_server import Server, running_server  # noqa: E402
from tests.zoo.encoder import ZooEncoder, installed  # noqa: E402
from xbtmigrate.qdrant.wire.connect import connect  # noqa: E402
from xbtmigrate.qdrant.wire.points import NewPoint  # noqa: E402
from xbtmigrate.qdrant.wire.writer import Writer  # noqa: E402

TENANT = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)


def fill(server: Server, name: str, points: int, tenants: int) -> None:
    """Make the collection; neighbours in the store's order are of different tenants."""
    encoder = ZooEncoder(**OLD)
    with connect(server.url, grpc_port=server.grpc_port) as connection:
        sizes = {"old": OLD["dimension"], "new": NEW["dimension"]}
        create_collection(connection.client, name, sizes)
        connection.client.create_payload_index(name, "tenant", TENANT, wait=True)
        writer = Writer(connection, name)
        for start in range(0, points, PAGE):
            ids = range(start, min(start + PAGE, points))
            texts = [text(each) for each in ids]
            rows = encoder.vectors(texts)
            writer.upsert(
                [
                    NewPoint(
                        str(point),
                        {"text": texts[row], "tenant": f"t{point % tenants}"},
                        {"old": rows[row]},
                    )
                    for row, point in enumerate(ids)
                ],
                None,
            )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="Backfill tenant by tenant")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    given = parser.parse_args()
    zoo: dict[str, object] = {"encoder": "zoo", "path": None}
    with running_server(SETTINGS) as server:
        for ordered in (False, True):
            name = f"ordered-{ordered}"
            fill(server, name, given.points, given.tenants)
            with tempfile.TemporaryDirectory() as path, installed(folder := Path(path)):
                names = [f"t{number}" for number in range(0, given.tenants, 10)]
                (folder / "first").write_text("\n".join(names), "utf-8")
                write_precomputed_config(
                    *(folder, server.url, name),
                    qdrant={"grpc_port": server.grpc_port},
                    payload={"tenant": "tenant"},
                    old_model=zoo | OLD,
                    new_model=zoo | NEW,
                    plan={"strategy": "full", "layout": "in_place", "sample": 100},
                )
                order = ["--tenant-order", "first"] if ordered else []
                run(folder, "plan")
                run(folder, "backfill", "--online", "--fraction", "0.1", *order)
                run(folder, "status")
                found = json.loads((folder / "answer.json").read_text("utf-8"))["tenants"]
                print(f"  {found['complete']} of {found['count']} tenants complete", flush=True)


if __name__ == "__main__":
    main()
