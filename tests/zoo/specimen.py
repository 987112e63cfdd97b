"""What a collection is like and how it is migrated: drawn from a seed, reduced feature by feature.

Every field has a plain default. So a specimen is described by what is odd about it, and a failing
one is reduced by setting field after field back to its default.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

OTHERS = ("dense", "sparse", "multi")
TEXTS = (
    "nul",
    "surrogate",
    "rtl",
    "newlines",
    "list",
    "number",
    "nested",
    "long",
    "too long",
    "empty",
    "blank",
    "null",
    "absent",
    "twice",
    "markup",
    "escapes",
)
UNREADABLE = ("too long", "empty", "blank", "null", "absent", "nested", "surrogate")
STRATEGIES = (*["full"] * 4, *["fastfill"] * 4, "forward", "forward", "bridge", "auto")
UNUSABLE = ("nan", "infinite", "zero", "huge")
STRICT = ("unindexed", "exact", "reads", "writes", "indexes", "conditions")


@dataclass(frozen=True, slots=True)
class Specimen:
    """One collection and the way it is led.

    Attributes:
        place: embedded, server, grpc (a server that the tool reads over gRPC) or keyed (a cluster
            with custom sharding).
        strategy: What plan.strategy says; auto follows the recommendation.
        layout: What plan.layout says.
        count: Points, before the application writes.
        vector: Name of the old vector, "" for an unnamed one.
        both: Whether the collection was created with the name of the new vector as well.
        same_length: Whether the vectors of both models are equally long.
        datatype: Stored type of the old vector.
        distance: Distance of the old vector.
        new_distance: Distance of the new one where it is another.
        quantization: Kind of quantization of the collection; vector for the old vector's own.
        tuned: Whether index, disk and optimizer settings differ from the defaults.
        others: Kinds of other vectors on the same points.
        ids: ints, uuids, large (up to 2^64 - 1) or mixed.
        field: Where the text is: text, nested, listed, template or spaced.
        texts: Kinds of odd texts, on two points each.
        images: Whether image references are embedded in place of texts.
        payload: Whether the payload holds odd keys and values.
        without: Points without the old vector.
        bare: Points without any vector.
        unusable: Kinds of old vectors that nothing can be computed from, on one point each.
        odd_name: Whether the collection's name is more than letters.
        alias: read (the configuration names an alias), beside (one that it does not name) or none.
        strict: Limits of strict mode.
        indexes: Whether payload fields are indexed.
        tenants: Whether the collection is indexed by tenant.
        shards: Number of shards.
        leftover: What an earlier run left: aborted, planned, finished (a migration to a model in
            between), marks (of a plan that nobody knows) or foreign (a collection with the name of
            the shadow).
        outage: Whether the new model fails once during the backfill.
        writer: Whether the application writes meanwhile.
        back: Whether it is rolled back once.
        judged: Whether judged queries are given and evaluated.
        seed: Seed of texts and vectors.
    """

    place: str = "embedded"
    strategy: str = "full"
    layout: str = "auto"
    count: int = 110
    vector: str = "old"
    both: bool = False
    same_length: bool = False
    datatype: str = "float32"
    distance: str = "Cosine"
    new_distance: str = ""
    quantization: str = ""
    tuned: bool = False
    others: tuple[str, ...] = ()
    ids: str = "ints"
    field: str = "text"
    texts: tuple[str, ...] = ()
    images: bool = False
    payload: bool = False
    without: int = 0
    bare: int = 0
    unusable: tuple[str, ...] = ()
    odd_name: bool = False
    alias: str = "read"
    strict: tuple[str, ...] = ()
    indexes: bool = False
    tenants: bool = False
    shards: int = 1
    leftover: str = ""
    outage: bool = False
    writer: bool = False
    back: bool = False
    judged: bool = False
    seed: int = 0

    @classmethod
    def draw(cls, seed: int) -> Specimen:
        """Draw a specimen; about a third of its features are odd."""
        rng = random.Random(seed)

        def odd(plain: Any, *strange: Any, chance: float = 0.3) -> Any:
            return rng.choice(strange) if rng.random() < chance else plain

        def some(kinds: tuple[str, ...], most: int, chance: float = 0.3) -> tuple[str, ...]:
            if rng.random() >= chance:
                return ()
            return tuple(sorted(rng.sample(kinds, rng.randint(1, most))))

        return cls(
            place=rng.choice(
                ["embedded", "embedded", "server", "server", "server", "grpc", "keyed"]
            ),
            strategy=rng.choice(STRATEGIES),
            layout=odd("auto", "shadow", "in_place"),
            count=odd(110, 1, 3, 30, 270, 530),
            vector=odd("old", "", "", "text-embedding v1", "été вектор"),
            both=odd(False, True),
            same_length=odd(False, True),
            datatype=odd("float32", "float16", "float16", "uint8", chance=0.2),
            distance=odd("Cosine", "Dot", "Euclid", "Manhattan"),
            new_distance=odd("", "Cosine", "Dot", "Euclid", chance=0.15),
            quantization=odd("", "scalar", "product", "binary", "vector"),
            tuned=odd(False, True),
            others=some(OTHERS, 3),
            ids=odd("ints", "uuids", "large", "mixed"),
            field=odd("text", "nested", "listed", "template", "spaced"),
            texts=some(TEXTS, 5, 0.4),
            images=odd(False, True, chance=0.15),
            payload=odd(False, True),
            without=odd(0, 1, 7, chance=0.2),
            bare=odd(0, 2, chance=0.1),
            unusable=some(UNUSABLE, 3, 0.2),
            odd_name=odd(False, True, chance=0.15),
            alias=odd("read", "beside", "none"),
            strict=some(STRICT, 2, 0.2),
            indexes=odd(False, True),
            tenants=odd(False, True, chance=0.15),
            shards=odd(1, 2, 3, chance=0.15),
            leftover=odd("", "aborted", "planned", "foreign", "finished", "marks", chance=0.2),
            outage=odd(False, True, chance=0.15),
            writer=odd(False, True),
            back=odd(False, True, chance=0.15),
            judged=odd(False, True, chance=0.2),
            seed=seed,
        ).possible()

    def possible(self) -> Specimen:
        """Return it without what no collection of that kind can be."""
        changes: dict[str, Any] = {}
        if self.place == "embedded":
            # The embedded mode knows neither of these; it would ignore or refuse them.
            changes |= {"strict": (), "indexes": False, "tenants": False, "shards": 1}
            changes |= {"datatype": "float32", "quantization": "", "tuned": False}
        else:
            # JSON has no lone surrogates, so no server can store one.
            changes["texts"] = tuple(each for each in self.texts if each != "surrogate")
        if not self.vector:
            changes |= {"both": False, "others": ()}
        if self.images:
            changes |= {"field": "text", "texts": ()}
        if self.datatype == "uint8" or self.place == "embedded":
            # Bytes hold neither; the embedded mode takes part in tests of their own.
            changes["unusable"] = tuple(each for each in self.unusable if each == "zero")
        return replace(self, **changes)

    def features(self) -> dict[str, Any]:
        """Return what is odd about it."""
        return {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if getattr(self, each.name) != each.default
        }

    def plainer(self) -> Iterator[Specimen]:
        """Yield it without one of its oddities, each in turn."""
        default = Specimen()
        for name, value in self.features().items():
            if name == "seed":
                continue
            if isinstance(value, tuple) and len(value) > 1:
                for each in value:
                    yield replace(self, **{name: tuple(kind for kind in value if kind != each)})
            yield replace(self, **{name: getattr(default, name)}).possible()

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.features().items())
        return f"Specimen({shown})"
