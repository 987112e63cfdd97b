"""A server, a way to it, and planned and trained migrations ready to be copied."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models

from tests.faults.application import NEW_ROWS, OLD_ROWS, TEXTS, Application
from tests.faults.network import Channel, rough_channel
from tests.support.command import answer_inside
from tests.support.proxy import Proxy, proxied
from tests.support.qdrant_server import MortalServer, mortal_server
from xbtmigrate.types import vector_array

PAGE = 24
_CONFIG = """
[qdrant]
url = "{url}"
collection = "{collection}"
vector = "old"
grpc_port = {grpc_port}
timeout = 20

[payload]
text = "text"

[old_model]
encoder = "precomputed"
path = "{folder}/old.parquet"
stored = "text"

[new_model]
encoder = "precomputed"
path = "{folder}/new.parquet"

[plan]
strategy = "{strategy}"
layout = "{layout}"
sample = 100
"""


@dataclass(slots=True)
class Lane:
    """What one schedule after another is played on.

    Attributes:
        server: Its own server.
        proxy: The way to its REST interface.
        channel: The way to its gRPC interface.
        folder: Where the models' vectors and the templates are.
    """

    server: MortalServer
    proxy: Proxy
    channel: Channel
    folder: Path
    _templates: dict[tuple[str, str], Path] = field(default_factory=dict)

    def template(self, layout: str, strategy: str) -> Path:
        """Return the folder of a migration that is planned and trained."""
        key = layout, strategy
        if key not in self._templates:
            folder = self.folder / f"{layout}-{strategy}"
            folder.mkdir()
            text = _CONFIG.format(
                url=self.proxy.url,
                collection=_name(layout, strategy),
                grpc_port=1,
                folder=self.folder,
                strategy=strategy,
                layout=layout,
            )
            (folder / "xbtmigrate.toml").write_text(text)
            client = QdrantClient(url=self.server.server.url, check_compatibility=False)
            Application("", self.reset(client, layout, strategy)).fill(client)
            client.close()
            self.proxy.before = self.proxy.after = lambda _: None
            answer_inside("plan", cwd=folder)
            answer_inside("train-projector", "--kind", "ridge", "--pairs", "100", cwd=folder)
            self._templates[key] = folder
        return self._templates[key]

    def reset(self, client: QdrantClient, layout: str, strategy: str) -> str:
        """Make the collection anew, as it was planned for; forget every former run."""
        name = _name(layout, strategy)
        for each in (name, f"{name}__xbtmigrate", "_xbtmigrate"):
            client.delete_collection(each)
        sizes = {"old": 16, "extra": 3} | ({"new": 24} if layout == "in_place" else {})
        cosine = models.Distance.COSINE
        client.create_collection(
            name,
            vectors_config={
                key: models.VectorParams(size=size, distance=cosine) for key, size in sizes.items()
            },
            strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=PAGE),
        )
        return name

    def configure(self, folder: Path, *, grpc: bool) -> None:
        """Let a copy of a template use gRPC; the address of REST is the same for all."""
        file = folder / "xbtmigrate.toml"
        port = self.channel.port if grpc else 1
        file.write_text(file.read_text().replace("grpc_port = 1\n", f"grpc_port = {port}\n"))


def _name(layout: str, strategy: str) -> str:
    return f"faults_{layout}_{strategy}"


@contextmanager
def open_lane(seed: int = 0) -> Iterator[Lane]:
    """Start a server and the ways to it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        for name, rows in (("old", OLD_ROWS), ("new", NEW_ROWS)):
            table = pa.table({"key": TEXTS, "vector": vector_array(rows)})
            pq.write_table(table, folder / f"{name}.parquet")
        server = stack.enter_context(mortal_server())
        proxy = stack.enter_context(proxied(server.server.url))
        target = ("127.0.0.1", server.server.grpc_port)
        channel = stack.enter_context(rough_channel(target, random.Random(seed)))
        yield Lane(server, proxy, channel, folder)
