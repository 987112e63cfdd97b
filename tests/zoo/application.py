"""The application that owns a specimen's collection: makes it, fills it and goes on writing."""

from __future__ import annotations

import copy
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from tests.zoo.encoder import MAX_CHARACTERS, ZooEncoder, refusal
from tests.zoo.specimen import Specimen

OLD = 16
KEYS = ("north", "south")
_VOCABULARY = [f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "li", "mo") for b in range(40)]
_ODD_TEXTS: dict[str, Any] = {
    "nul": "before\x00after the nul",
    "surrogate": "half of a pair \ud83d and more",
    "rtl": "שלום עולם \u202eright to left\u202c مرحبا",
    "newlines": "first\nsecond\r\nthird\tfourth\u2028fifth",
    "list": ["one part", "another part", 7],
    "number": 42.5,
    "nested": {"deep": {"deeper": "a text where nobody looks"}},
    "long": "word " * 4000,
    "too long": "x" * (MAX_CHARACTERS + 1),
    "empty": "",
    "blank": " \t\n",
    "null": None,
    "absent": None,
    "twice": "the same text on two points",
    "markup": "[bold]no markup[/bold] {curly} %s $HOME `tick` </script>",
    "escapes": "\x1b[31mred\x1b[0m \x07 bell",
}
_ODD_PAYLOAD: dict[str, Any] = {
    "": "an empty key",
    "a.b": {"c.d": [1, [2, {"e": None}]]},
    'quo"ted': True,
    "new\nline\tand tab": "a text behind a key of two lines",
    "\x1b[31mred": "a text behind a key that colours",
    "[plan]": "a text behind a key that looks like a section",
    "ключ": "значение",
    "[]": [],
    "{}": {},
    "big": 2**63 - 1,
    "low": -(2**63),
    "tiny": 5e-324,
    "whole": 3.0,
    "fraction": 0.1,
    "nothing": None,
    "when": "2024-02-30T25:61:00Z",
    "where": {"lon": 13.4, "lat": 52.5},
    "_xbtmigrate_": "not the tool's key",
}


@dataclass(slots=True)
class Application:
    """What the application knows, and how it writes.

    Attributes:
        specimen: What its collection is like.
        connect: Opens a client of its own.
        name: Real name of the collection.
        alias: Name of the alias, where there is one.
        ids: Ids of its points by number.
        gone: Numbers of the points that it deleted.
        vector: Name of the vector that it uses.
        generation: Number of migrations that are over.
    """

    specimen: Specimen
    connect: Callable[[], QdrantClient]
    name: str = ""
    alias: str = ""
    ids: dict[int, int | str] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    vector: str = ""
    generation: int = 0
    _rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.specimen.seed)
        tail = uuid.uuid4().hex[:10]
        self.name = f"zoo {tail}, päckchen (v1.2)" if self.specimen.odd_name else f"zoo-{tail}"
        self.alias = f"live-{tail}"
        self.vector = self.specimen.vector

    @property
    def configured(self) -> str:
        """Name that the application reads, and that its configuration gives."""
        return self.alias if self.specimen.alias == "read" else self.name

    @property
    def old_options(self) -> dict[str, Any]:
        """Options of the model that made the vectors it uses."""
        return self._options(self.generation)

    @property
    def new_options(self) -> dict[str, Any]:
        """Options of the model that it moves to."""
        return self._options(self.generation + 1)

    @property
    def old_model(self) -> ZooEncoder:
        return ZooEncoder(**self.old_options)

    @property
    def new_model(self) -> ZooEncoder:
        return ZooEncoder(**self.new_options)

    def move_on(self, name: str, vector: str) -> None:
        """Go on with the new vectors, as after a migration."""
        self.name, self.vector, self.generation = name, vector, self.generation + 1

    @contextmanager
    def client(self) -> Iterator[QdrantClient]:
        """Open a client for a moment: an embedded database is open once at a time."""
        opened = self.connect()
        try:
            yield opened
        finally:
            opened.close()

    def create(self) -> None:
        """Make the collection and fill it."""
        with self.client() as client:
            self._create(client)
            points = [
                self._point(number, self._payload(number), self._broken(number))
                for number in range(self.specimen.count)
            ]
            for part in range(len(KEYS) if self.specimen.place == "keyed" else 1):
                chosen = points[part :: len(KEYS)] if self.specimen.place == "keyed" else points
                if chosen:
                    client.upsert(self.name, chosen, wait=True, **self._key(part))
            if self.specimen.alias != "none":
                alias = models.CreateAlias(collection_name=self.name, alias_name=self.alias)
                client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
            if self.specimen.strict:
                client.update_collection(self.name, strict_mode_config=self._strict())

    def relax(self, limits: dict[str, Any]) -> None:
        """Change limits of strict mode."""
        with self.client() as client:
            config = models.StrictModeConfig(**limits)
            client.update_collection(self.name, strict_mode_config=config)

    def write(self, times: int, *, vector: str | None = None, place: str = "") -> None:
        """Write as an application does: new points, new contents, deletes.

        Args:
            times: Number of operations.
            vector: Name of the vector that it writes; None for the old one.
            place: Collection or alias that it writes to; its own by default.
        """
        with self.client() as client:
            for _ in range(times):
                self._write(client, vector, place or self.name)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write the old way without a pause, until the end."""
        over = threading.Event()

        def go_on() -> None:
            with self.client() as client:
                while not over.wait(0.005):
                    self._write(client, None, self.name)

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(go_on)
            try:
                yield
            finally:
                over.set()
            writer.result()

    def content(self, payload: dict[str, Any]) -> str | None:
        """Return what is embedded where that is a plain text; None where it is anything else."""
        found: Any = payload
        path = {"nested": ("meta", "title"), "spaced": ("my text",)}
        if self.specimen.images:
            return payload.get("image")
        if self.specimen.field == "listed":
            parts = [each.get("part") for each in payload.get("parts") or []]
            return ", ".join(parts) if parts and all(map(_plain, parts)) else None
        if self.specimen.field == "template":
            title, text = payload.get("title"), payload.get("text")
            return f"{title}. {text}" if _plain(title) and _plain(text) else None
        for key in path.get(self.specimen.field, ("text",)):
            found = found.get(key) if isinstance(found, dict) else None
        return found if _plain(found) else None

    @property
    def text_setting(self) -> str:
        """What payload.text says."""
        settings = {
            "nested": "meta.title",
            "listed": "parts.part",
            "template": "{title}. {text}",
            "spaced": "my text",
        }
        return settings.get(self.specimen.field, "text")

    def _options(self, generation: int) -> dict[str, Any]:
        return {
            "dimension": OLD if self.specimen.same_length else OLD + 8 * generation,
            "seed": generation,
            "whole": generation == 0 and self.specimen.datatype == "uint8",
        }

    def _create(self, client: QdrantClient) -> None:
        specimen, server = self.specimen, self.specimen.place != "embedded"
        more: dict[str, Any] = {}
        if specimen.place == "keyed":
            more["sharding_method"] = models.ShardingMethod.CUSTOM
        if specimen.tuned:
            more |= _TUNED
        if specimen.tenants:
            more["hnsw_config"] = models.HnswConfigDiff(m=0, payload_m=8)
        if specimen.quantization in _QUANTIZATION:
            more["quantization_config"] = _QUANTIZATION[specimen.quantization]
        client.create_collection(
            self.name,
            vectors_config=self._vectors(),
            sparse_vectors_config={"sparse": _SPARSE[specimen.tuned]}
            if "sparse" in specimen.others
            else None,
            shard_number=specimen.shards if server else None,
            **more,
        )
        for key in KEYS if specimen.place == "keyed" else ():
            client.create_shard_key(self.name, key)
        if specimen.tenants:
            tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            client.create_payload_index(self.name, "tenant", tenant, wait=True)
        for path, schema in _INDEXES.items() if specimen.indexes else ():
            client.create_payload_index(self.name, path, schema, wait=True)

    def _vectors(self) -> models.VectorParams | dict[str, models.VectorParams]:
        specimen = self.specimen
        distance = models.Distance(specimen.distance)
        old = models.VectorParams(
            size=OLD,
            distance=distance,
            datatype=models.Datatype(specimen.datatype) if specimen.datatype != "float32" else None,
            on_disk=True if specimen.tuned else None,
            hnsw_config=models.HnswConfigDiff(m=8, ef_construct=64) if specimen.tuned else None,
            quantization_config=_QUANTIZATION["scalar"]
            if specimen.quantization == "vector"
            else None,
        )
        if not specimen.vector:
            return old
        found = {specimen.vector: old}
        if specimen.both:
            new = models.Distance(specimen.new_distance) if specimen.new_distance else distance
            found["new"] = models.VectorParams(size=self.new_model.dimension, distance=new)
        if "dense" in specimen.others:
            half = models.Datatype.FLOAT16 if specimen.tuned else None
            found["side"] = models.VectorParams(size=4, distance=models.Distance.DOT, datatype=half)
        if "multi" in specimen.others:
            found["multi"] = models.VectorParams(
                size=3,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            )
        return found

    def _strict(self) -> models.StrictModeConfig:
        limits: dict[str, Any] = {}
        for each in self.specimen.strict:
            limits |= _STRICT[each]
        if "indexes" in self.specimen.strict:
            count = self.specimen.tenants + len(_INDEXES) * self.specimen.indexes
            limits["max_payload_index_count"] = count
        return models.StrictModeConfig(enabled=True, **limits)

    def _id(self, number: int) -> int | str:
        kind = self.specimen.ids
        if kind == "mixed":
            kind = ("ints", "uuids", "large")[number % 3]
        if number not in self.ids:
            self.ids[number] = {
                "ints": number + 1,
                "uuids": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                "large": 2**64 - 1 - number,
            }[kind]
        return self.ids[number]

    def _payload(self, number: int, *, odd: bool = True) -> dict[str, Any]:
        specimen, rng = self.specimen, self._rng
        text: Any = " ".join(rng.choices(_VOCABULARY, k=rng.randint(6, 14)))
        kinds = specimen.texts if odd else ()
        if number // 2 < len(kinds):
            text = _ODD_TEXTS[kinds[number // 2]]
        payload: dict[str, Any] = {"note": number, "tenant": f"t{number % 3}"}
        if specimen.payload:
            payload |= copy.deepcopy(_ODD_PAYLOAD)
        if odd and specimen.leftover == "marks" and number % 9 in _MARKS:
            payload["_xbtmigrate"] = copy.deepcopy(_MARKS[number % 9])
        if specimen.images:
            return payload | {"image": f"{text}.png", "text": f"caption {text}"}
        if number // 2 < len(kinds) and kinds[number // 2] == "absent":
            return payload
        shapes: dict[str, dict[str, Any]] = {
            "nested": {"meta": {"title": text, "lang": "en"}},
            "listed": {"parts": [{"part": text}, {"part": "the second part"}]},
            "template": {"title": f"title {number}", "text": text},
            "spaced": {"my text": text},
        }
        return payload | shapes.get(specimen.field, {"text": text})

    def _broken(self, number: int) -> str:
        """What is wrong with a point's vectors: the last points are those."""
        place = self.specimen.count - 1 - number
        wrong = ["bare"] * self.specimen.bare + ["without"] * self.specimen.without
        wrong += self.specimen.unusable
        return wrong[place] if place < len(wrong) else ""

    def _point(
        self, number: int, payload: dict[str, Any], broken: str = "", vector: str | None = None
    ) -> models.PointStruct:
        """Make a whole point; with `vector` it has that one, of the new model, for the old one."""
        name = self.vector if vector is None else vector
        given: dict[str, Any] = {} if broken == "bare" else self._others(number)
        if broken not in ("bare", "without"):
            model = self.old_model if vector is None else self.new_model
            given[name] = self._made(payload, model, broken)
        self.gone.discard(number)
        stored = given.get("", given)
        return models.PointStruct(id=self._id(number), payload=payload, vector=stored)

    def _made(self, payload: dict[str, Any], model: ZooEncoder, broken: str) -> list[float]:
        """Make a vector as the owner did; a content that no model reads got a random one."""
        content = self.content(payload)
        if broken in _BROKEN:
            return _BROKEN[broken]
        if content is None or refusal(content):
            content = f"random {payload['note']}"
        made: list[float] = model.vectors([content])[0].tolist()
        return made

    def _others(self, number: int) -> dict[str, Any]:
        rng, given = random.Random(number), {}
        if "dense" in self.specimen.others and number % 5:
            given["side"] = [rng.gauss(0, 1) for _ in range(4)]
        if "multi" in self.specimen.others and number % 3:
            given["multi"] = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(1 + number % 4)]
        if "sparse" in self.specimen.others and number % 4:
            indices = sorted(rng.sample(range(2**31), 1 + number % 6))
            values = [rng.gauss(0, 1) for _ in indices]
            given["sparse"] = models.SparseVector(indices=indices, values=values)
        return given

    def _key(self, number: int) -> dict[str, Any]:
        keyed = self.specimen.place == "keyed"
        return {"shard_key_selector": KEYS[number % 2]} if keyed else {}

    def _write(self, client: QdrantClient, vector: str | None, place: str) -> None:
        """One write; only points that are whole are written, and the first ones stay odd."""
        rng = self._rng
        first = 2 * len(self.specimen.texts)
        last = self.specimen.count - self.specimen.bare - self.specimen.without
        last -= len(self.specimen.unusable)
        number = rng.randrange(first, last) if first < last else len(self.ids) + 1
        if rng.random() < 0.3:
            number = max(self.ids) + 1
        if rng.random() < 0.2 and len(self.ids) > 20:
            gone = models.PointIdsList(points=[self._id(number)])
            client.delete(place, gone, wait=True, **self._key(number))
            self.gone.add(number)
        elif rng.random() < 0.3 and number in self.ids and number not in self.gone:
            note = {"note": rng.randrange(10**6)}
            client.set_payload(place, note, [self._id(number)], wait=True, **self._key(number))
        else:
            point = self._point(number, self._payload(number, odd=False), vector=vector)
            client.upsert(place, [point], wait=True, **self._key(number))


def _plain(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


_MARKS: dict[int, Any] = {
    2: {"plan": "0123456789abcdef", "kind": "encoded", "hash": "0123456789abcdef"},
    4: "not a mark",
    6: {"plan": 7, "kind": None, "vectors": ["?"]},
}
_BROKEN = {
    "nan": [float("nan")] * OLD,
    "infinite": [float("inf")] + [1.0] * (OLD - 1),
    "zero": [0.0] * OLD,
    "huge": [3e38] * OLD,
}
_TUNED: dict[str, Any] = {
    "hnsw_config": models.HnswConfigDiff(m=12, ef_construct=80, full_scan_threshold=200),
    "optimizers_config": models.OptimizersConfigDiff(
        default_segment_number=3, indexing_threshold=15_000, flush_interval_sec=7
    ),
    "on_disk_payload": True,
    "metadata": {"owner": "team", "nested": {"since": 2023}},
}
_SPARSE = {
    False: models.SparseVectorParams(),
    True: models.SparseVectorParams(
        modifier=models.Modifier.IDF,
        index=models.SparseIndexParams(on_disk=True, datatype=models.Datatype.FLOAT16),
    ),
}
_QUANTIZATION: dict[str, Any] = {
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=0.99, always_ram=True
        )
    ),
    "product": models.ProductQuantization(
        product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X4)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=False)),
}
_INDEXES: dict[str, Any] = {
    "note": models.IntegerIndexParams(
        type=models.IntegerIndexType.INTEGER, lookup=True, range=True, on_disk=True
    ),
    "when": models.PayloadSchemaType.DATETIME,
    "where": models.PayloadSchemaType.GEO,
    "text": models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, min_token_len=2
    ),
}
_STRICT: dict[str, dict[str, Any]] = {
    "unindexed": {"unindexed_filtering_retrieve": False, "unindexed_filtering_update": False},
    "exact": {"search_allow_exact": False},
    "reads": {"max_query_limit": 20},
    "writes": {"upsert_max_batchsize": 8},
    "indexes": {},
    "conditions": {"filter_max_conditions": 3},
}


def database(folder: Path) -> Callable[[], QdrantClient]:
    """Open an embedded database."""
    return lambda: QdrantClient(path=str(folder / "qdrant"))
