"""`xbtmigrate serve` beside the plain client, each with the same number of connections.

    python benchmarks/service.py --shared ../shared

Builds what benchmarks/serving.py builds, a half re-encoded, and starts the service. Then, in turns:
32 threads share one `QdrantClient` and query the old vector; 32 connections post the same queries
to the service; and 32 connections post them to the server, without a client library, for what the
sender itself can reach. Prints the rates, and each round's ratio to the plain client.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from qdrant_client import QdrantClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving import NAME, Corpus, debian, fill
from tests.support.command import PROGRAM, answer_inside
from tests.support.qdrant_server import free_port, running_server
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT

HEADERS = {"content-type": "application/json"}


@contextmanager
def service(folder: Path, serving: str) -> Iterator[str]:
    """Run the service in a process of its own; yields its address."""
    port = free_port()
    command = [*PROGRAM, "serve", "--port", str(port), "--serving", serving]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def rate(ask: Callable[[int], object], queries: int, threads: int) -> float:
    """Queries a second of that many threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))  # connections are opened before the clock runs
        started = time.perf_counter()
        list(pool.map(ask, range(queries)))
        return queries / (time.perf_counter() - started)


def post(url: str, path: str, bodies: list[bytes]) -> Callable[[int], object]:
    """Make what posts a body over a connection of the calling thread and reads the answer."""
    address, own = urlsplit(url), threading.local()

    def ask(row: int) -> object:
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection(address.hostname or "", address.port)
        own.connection.request("POST", path, bodies[row % len(bodies)], HEADERS)
        answer = own.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(content.decode())
        return orjson.loads(content)

    return ask


def senders(corpus: Corpus, url: str, served: str) -> dict[str, Callable[[int], object]]:
    """Make the three ways to send the same queries."""
    client = QdrantClient(url=url, check_compatibility=False, timeout=120)
    rows = [row.tolist() for row in corpus.queries_old]
    direct: list[dict[str, Any]] = [
        {"query": row, "using": "old", "limit": 10, "with_payload": True} for row in rows
    ]
    return {
        "plain client": lambda row: client.query_points(
            NAME, query=rows[row % len(rows)], using="old", limit=10
        ),
        "serve": post(served, "/search", [orjson.dumps({"old_vector": row}) for row in rows]),
        "server alone": post(
            url, f"/collections/{NAME}/points/query", [orjson.dumps(each) for each in direct]
        ),
    }


def main() -> None:
    """Build, serve and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--queries", type=int, default=500, help="in each round")
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        corpus = debian(chosen.shared, folder, 500)
        client = QdrantClient(url=server.url, check_compatibility=False, timeout=120)
        fill(client, corpus, EF_CONSTRUCT)
        head = f'[qdrant]\nurl = "{server.url}"\ncollection = "{NAME}"\nvector = "old"\n'
        (folder / "xbtmigrate.toml").write_text(head + corpus.config)
        answer_inside("plan", cwd=folder)
        with service(folder, "keep") as url:
            ways = senders(corpus, server.url, url)
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(chosen.rounds):
                for way, ask in ways.items():
                    rates[way].append(rate(ask, chosen.queries, chosen.connections))
    print(f"load {os.getloadavg()[0]:.1f} at the end; {chosen.connections} connections")
    for way, each in rates.items():
        ratios = [mine / plain for mine, plain in zip(each, rates["plain client"], strict=True)]
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(
            f"{way}: {statistics.median(each):,.0f} queries/s, "
            f"{middle:.2f} ({least:.2f} to {most:.2f}) of the plain client's"
        )


if __name__ == "__main__":
    main()
