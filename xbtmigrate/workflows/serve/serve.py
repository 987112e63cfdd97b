"""Build the HTTP service: check the collection, load the models, open the searchers."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xbtmigrate.config import Config, key_in
from xbtmigrate.errors import ConfigError, EncoderError, PluginError, UnreadableSourceError
from xbtmigrate.protocols import Encoder
from xbtmigrate.qdrant.wire.connect import open_async
from xbtmigrate.scoring.mixture import BRIDGE, CALIBRATED_BRIDGE, SINGLE
from xbtmigrate.serving.searcher import AsyncMigrationSearcher
from xbtmigrate.serving.traffic_log import DemandLog
from xbtmigrate.types import Modality, PointId, Vectors
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import open_store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from xbtmigrate.serving.http.app import Backend
    from xbtmigrate.serving.http.canary import TrafficSplit

KEY_VARIABLE = "XBTMIGRATE_SERVICE_KEY"


@dataclass(frozen=True, slots=True)
class Service:
    """The options of a service.

    Attributes:
        serving: Way to serve before the cutover, "" for the old vectors; on trial what the cutover
            will serve.
        with_old_model: Whether the old model is loaded.
        canary: Share of the queries answered by the new serving on trial.
        shadow_read: Share of the queries on which both servings are compared.
        demand: Where the points that queries reach are counted.
        seconds: Longest time for one request.
        key: What clients must send.
    """

    serving: str = ""
    with_old_model: bool = True
    canary: float | None = None
    shadow_read: float | None = None
    demand: Path | None = None
    seconds: float = 10.0
    key: str | None = None


def key_of(file: Path | None, host: str) -> str | None:
    """Return the key that clients must send; None where only this machine can connect.

    Raises:
        ConfigError: The file cannot be read or is empty, or strangers could connect without a key.
    """
    if file is not None:
        return key_in(file, "--api-key-file")
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"listening on {host} without a key would let strangers search the collection",
            f"give --api-key-file, set {KEY_VARIABLE}, or listen on 127.0.0.1",
        )
    return None


def make_application(config: Config, service: Service) -> FastAPI:
    """Return the service's application, with its models loaded.

    Raises:
        XbtMigrateError: The collection, the artefacts or a model cannot be used.
        ConfigError: Both a canary and shadow reads are set, or one of them without the old model.
    """
    try:
        # The service's libraries are an extra: without them, the user gets a hint, not a traceback.
        from xbtmigrate.serving.http.app import create_app
    except ImportError as error:
        raise PluginError(
            f"the service needs a library that is missing: {error.name}",
            "pip install 'xbtmigrate[serve]'",
        ) from error
    models = Models(config)
    if not models.has_old:
        service = _without_old_model(models, service)
    split = _traffic_split(service)
    with open_store(config):  # an unusable collection is refused before the server starts
        encoders = _encoders(models, service)

    async def start() -> Backend:
        # In the server's event loop, which the async client has to share.
        return await _opened(config, service, split, encoders)

    return create_app(start, service.key)


def _without_old_model(models: Models, service: Service) -> Service:
    """Return the options of a service that asks with the new model alone.

    Raises:
        ConfigError: They need the old model.
    """
    possible = (BRIDGE.name, SINGLE.name, CALIBRATED_BRIDGE)
    if service.canary is not None or service.shadow_read is not None:
        models.require_old("--canary or --shadow-read", "leave it out")
    if service.serving and service.serving not in possible:
        models.require_old(f"the serving '{service.serving}'", f"use {', '.join(possible)}")
    # Old vectors can only be searched over the bridge, which the other one falls back to.
    return replace(service, with_old_model=False, serving=service.serving or BRIDGE.name)


async def _opened(
    config: Config, service: Service, split: TrafficSplit | None, encoders: dict[str, Encoder]
) -> Backend:
    from xbtmigrate.artefacts import FOLDER
    from xbtmigrate.serving.http.app import Backend
    from xbtmigrate.serving.http.canary import SplitSearcher
    from xbtmigrate.serving.http.service_metrics import Metrics

    client = open_async(
        config.url,
        api_key=config.api_key,
        timeout=config.qdrant.timeout,
        seconds=service.seconds,
        ca_file=config.ca_file,
    )
    demand = None if service.demand is None else DemandLog(service.demand)
    folder = config.base / FOLDER / config.migration

    async def searcher(serving: str, demand: DemandLog | None) -> AsyncMigrationSearcher:
        return await AsyncMigrationSearcher.open(
            client,
            config.qdrant.collection,
            vector=config.qdrant.vector,
            folder=folder,
            serving=serving,
            new_encoder=encoders.get("new"),
            old_encoder=encoders.get("old"),
            demand=demand,
            centre_queries=config.serving.centre_queries,
        )

    async def close() -> None:
        # Counts since the last flush are only in memory.
        if demand is not None:
            demand.flush()
        await client.close()

    metrics = Metrics()
    # Only one of the two searchers counts demand, or a compared query would count twice.
    old = None if split is None else await searcher("keep", None)
    # By default `single` is tried, which the cutover will serve.
    new = await searcher(service.serving or ("single" if split else ""), demand)
    both = SplitSearcher(new, old, split, metrics, service.seconds)
    return Backend(both, encoders, metrics, service.seconds, close)


def _traffic_split(service: Service) -> TrafficSplit | None:
    from xbtmigrate.serving.http.canary import TrafficSplit

    asked: list[TrafficSplit] = []
    if service.canary is not None:
        asked.append(TrafficSplit("canary", service.canary))
    if service.shadow_read is not None:
        asked.append(TrafficSplit("shadow-read", service.shadow_read))
    if len(asked) == 2:
        raise ConfigError("--canary and --shadow-read exclude each other", "give one of them")
    # Both modes compare with the old answer, which takes the old model's query vector.
    if asked and not service.with_old_model:
        raise ConfigError(
            f"a {asked[0].mode} compares with the old model, which --no-old-model leaves out",
            "leave out --no-old-model",
        )
    return asked[0] if asked else None


def _encoders(models: Models, service: Service) -> dict[str, Encoder]:
    chosen: dict[str, Encoder] = {"new": models.new}
    if service.with_old_model:
        chosen["old"] = models.old
    for encoder in chosen.values():
        _load(encoder)
    return {name: LockedEncoder(encoder, service.seconds) for name, encoder in chosen.items()}


def _load(encoder: Encoder) -> None:
    """Embed one item, so that the model is loaded before the first query.

    Raises:
        EncoderError: The model cannot be loaded.
    """
    try:
        encoder.encode(["warm up"], Modality.TEXT)
    except UnreadableSourceError:
        return  # a Parquet file of vectors need not know the item, but it has been read


class LockedEncoder:
    """An encoder that several threads may call: fast tokenizers must not be shared.

    Args:
        encoder: The encoder.
        seconds: Longest wait for a turn; the request is over by then.
    """

    def __init__(self, encoder: Encoder, seconds: float) -> None:
        self._encoder = encoder
        self._seconds = seconds
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Identity of the model."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self._encoder.dimension

    def encode(
        self, items: Sequence[str], modality: Modality, *, ids: Sequence[PointId] | None = None
    ) -> Vectors:
        """Embed texts or image references; see `Encoder`.

        Raises:
            EncoderError: Too many others came first.
        """
        # A query that waits longer than its request's time limit would only delay the others.
        if not self._lock.acquire(timeout=self._seconds):
            raise EncoderError("the model is busy with other queries", "try again later")
        try:
            return self._encoder.encode(items, modality, ids=ids)
        finally:
            self._lock.release()
