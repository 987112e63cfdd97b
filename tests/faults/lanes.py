"""A server, a way to it, and planned and trained migrations ready to be copied."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from tests.faults.application import NEW_ROWS, OLD_ROWS, TEXTS, Application
from tests.faults.network import Channel, rough_channel
from tests.support.command import answer_inside
from tests.support.corpus import create_collection, write_precomputed_config, write_vectors
from tests.support.proxy import Proxy, proxied
from tests.support.qdrant_server import MortalServer, mortal_server, running_cluster

PAGE = 24


@dataclass(slots=True)
class Lane:
    """What one schedule after another is played on.

    Attributes:
        servers: Its own server, or the peers of its own cluster; the tool asks the first one.
        proxy: The way to its REST interface.
        channel: The way to its gRPC interface.
        folder: Where the models' vectors and the templates are.
        keys: Shard keys of its collections; none without custom sharding.
    """

    servers: list[MortalServer]
    proxy: Proxy
    channel: Channel
    folder: Path
    keys: Sequence[str] = ()
    _templates: dict[tuple[str, str], Path] = field(default_factory=dict)

    @property
    def server(self) -> MortalServer:
        """The one that is asked."""
        return self.servers[0]

    def lose_peer(self) -> None:
        """Kill -9 a peer that is not asked."""
        self.servers[-1].kill()

    def regain_peer(self) -> None:
        """Let it come back; whoever asks the others does not wait for that."""
        threading.Thread(target=self.servers[-1].start, daemon=True).start()

    def settle(self, client: QdrantClient) -> None:
        """Wait until every replica is active again."""
        names = [each.name for each in client.get_collections().collections]
        deadline = time.monotonic() + 60
        while len(self.servers) > 1 and not all(_whole(client, name) for name in names):
            assert time.monotonic() < deadline, "the replicas do not recover"
            time.sleep(0.2)

    def template(self, layout: str, strategy: str) -> Path:
        """Return the folder of a migration that is planned and trained."""
        key = layout, strategy
        if key not in self._templates:
            folder = self.folder / f"{layout}-{strategy}"
            folder.mkdir()
            write_precomputed_config(
                *(folder, self.proxy.url, _name(layout, strategy)),
                qdrant={"grpc_port": 1, "timeout": 20},
                old_model={"path": f"{self.folder}/old.parquet"},
                new_model={"path": f"{self.folder}/new.parquet"},
                plan={"strategy": strategy, "layout": layout, "sample": 100},
            )
            client = QdrantClient(url=self.server.server.url, check_compatibility=False)
            Application("", self.reset(client, layout, strategy), self.keys).fill(client)
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
        shards: dict[str, Any] = {"shard_number": 3, "replication_factor": 2}
        if self.keys:
            shards |= {"shard_number": 1, "sharding_method": models.ShardingMethod.CUSTOM}
        pages = models.StrictModeConfig(enabled=True, max_query_limit=PAGE)
        sharded = shards if len(self.servers) > 1 else {}
        create_collection(client, name, sizes, strict_mode_config=pages, **sharded)
        for each in self.keys:
            # A peer killed a moment ago may be slow to take part; the default is ten seconds.
            client.create_shard_key(name, each, timeout=60)
        return name

    def configure(self, folder: Path, *, grpc: bool) -> None:
        """Let a copy of a template use gRPC; the address of REST is the same for all."""
        file = folder / "xbtmigrate.toml"
        port = self.channel.port if grpc else 1
        file.write_text(file.read_text().replace("grpc_port = 1\n", f"grpc_port = {port}\n"))


def _whole(client: QdrantClient, name: str) -> bool:
    info = client.collection_cluster_info(name)
    shards = [*info.local_shards, *info.remote_shards]
    return all(each.state is models.ReplicaState.ACTIVE for each in shards)


def _name(layout: str, strategy: str) -> str:
    return f"faults_{layout}_{strategy}"


@contextmanager
def open_lane(seed: int = 0, *, peers: int = 1, keys: Sequence[str] = ()) -> Iterator[Lane]:
    """Start a server, or a cluster of some peers, and the ways to it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        for name, rows in (("old", OLD_ROWS), ("new", NEW_ROWS)):
            write_vectors(folder / f"{name}.parquet", TEXTS, rows)
        cluster = (
            [stack.enter_context(mortal_server())]
            if peers == 1
            else (stack.enter_context(running_cluster(peers)))
        )
        first = cluster[0].server
        proxy = stack.enter_context(proxied(first.url))
        target = ("127.0.0.1", first.grpc_port)
        channel = stack.enter_context(rough_channel(target, random.Random(seed)))
        yield Lane(cluster, proxy, channel, folder, keys)
