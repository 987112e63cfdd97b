"""Define the plan: what was measured, what will be done, and the digest that freezes both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from xbtmigrate.errors import ArtefactError, StaleError
from xbtmigrate.files import parse, parse_json
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Layout, Strategy, digest_of

SCHEMA = 1


class _Part(BaseModel):
    # A key that this version does not know may change what the plan means: refuse it.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Coverage(_Part):
    """How many points have content and old vectors; counted exactly.

    Attributes:
        points: Points seen.
        with_text: Points with a text.
        with_image: Points with an image reference.
        with_old_vector: Points with a usable old vector.
        missing_source: Points without the field that the vectors embed.
        with_neither: Points without that field and without the old vector.
        examples_missing: Ids of some points without the field.
        unusable_old: Points whose old vector is not finite, zero or of absurd length.
        examples_unusable: Ids of some of them.
        sampled: Points with content that the new model tried to embed.
        sample_unreadable: Those of them that it cannot embed.
        examples_unreadable: Ids of some of them.
    """

    points: int
    with_text: int
    with_image: int
    with_old_vector: int
    missing_source: int
    with_neither: int = 0
    examples_missing: list[str] = []
    unusable_old: int = 0
    examples_unusable: list[str] = []
    sampled: int = 0
    sample_unreadable: int = 0
    examples_unreadable: list[str] = []


class ModelMatch(_Part):
    """Whether the declared old model made the stored vectors.

    Attributes:
        sample: Points compared.
        median_cosine: Median cosine between stored and re-encoded vectors, by what was embedded.
        stored: What the stored vectors embed, as far as the comparison shows.
        matches: Whether the declared model and `stored` pass the threshold.
        remark: What is likely wrong where the match is not that of one and the same model.
    """

    sample: int
    median_cosine: dict[str, float]
    stored: str
    matches: bool
    remark: str | None = None


class Throughput(_Part):
    """Rates measured on this machine against this collection, in items per second."""

    scan: float
    encode: float


class Cost(_Part):
    """Estimated cost of one strategy.

    Attributes:
        strategy: The strategy.
        encodes: Items the new model has to embed.
        writes: Vectors written.
        disk_bytes: Growth of the collection on disk, at most.
        ram_bytes: Growth in memory while vectors and index are held there.
        seconds: Estimated working time.
        money: Estimated price of encoding, None without a price.
    """

    strategy: Strategy
    encodes: int
    writes: int
    disk_bytes: int
    ram_bytes: int
    seconds: float
    money: float | None


class System(_Part):
    """Quality of one way to answer queries.

    Attributes:
        name: The system.
        metrics: Metric -> mean over the queries.
        against_keep: How it compares with keep by the metric that decides, see `Standing`.
        by_definition: Whether it is right because the queries' answers are what it finds.
    """

    name: str
    metrics: dict[str, float]
    against_keep: str = ""
    by_definition: bool = False


class CurvePoint(_Part):
    """Quality of the mixed gallery at one fraction."""

    fraction: float
    sample_recall_at_10: float


class Measurement(_Part):
    """The quick measurement on a sample.

    Attributes:
        basis: What stood for queries and relevance, in words.
        provisional: Whether relevance was made up because there are no judgements.
        query_count: Number of queries.
        gallery_count: Number of points they were searched in.
        systems: One row per system, keep first.
        curve: The mixed gallery by fraction, for the strategy that re-encodes in order.
    """

    basis: str
    provisional: bool
    query_count: int
    gallery_count: int
    systems: list[System]
    curve: list[CurvePoint] = []


class Advice(_Part):
    """The recommended way, with its reason in words; strategy None without judged queries."""

    strategy: Strategy | None
    fraction: float
    ordering: str
    serving: str
    reason: str


class Finding(_Part):
    """Something that the migration needs and does not have.

    Attributes:
        name: Its name.
        blocks: Whether it makes the migration impossible.
        message: What is missing, in one sentence.
        way_out: What to do about it.
    """

    name: str
    blocks: bool = False
    message: str
    way_out: str


class Collection(_Part):
    """Facts of the collection and its server when the plan was made."""

    server: str
    name: str
    alias: str | None
    points: int
    vector: str
    size: int
    distance: str
    identity: str
    other_vectors: list[str] = []


class Target(_Part):
    """Where the new vectors go, and why there."""

    layout: Layout
    collection: str
    vector: str
    size: int
    distance: str
    creates_vector: bool
    creates_collection: bool
    reason: str


class Plan(_Part):
    """A frozen plan.

    Attributes:
        binding: Everything the plan depends on, dotted key -> value; compared before each use.
        strategy: What will be done: the declared strategy, else the recommended one.
        fraction: Share of the points to re-encode.
        without_vector: Points that will get no new vector, by the reason; exact but for what the
            encoder turns out to refuse.
        warnings: What the user should know before acting.
        findings: What the way to `finalize` needs and lacks.
        digest: Digest over all the rest.
    """

    schema_version: int = SCHEMA
    tool_version: str
    created_at: str
    migration: str
    binding: dict[str, str]
    collection: Collection
    target: Target
    coverage: Coverage
    model_match: ModelMatch
    throughput: Throughput
    costs: list[Cost]
    measurement: Measurement
    recommendation: Advice
    strategy: Strategy
    fraction: float
    ordering: str
    seed: int
    without_vector: dict[str, int] = {}
    warnings: list[str] = []
    findings: list[Finding] = []
    digest: str = Field(default="", repr=False)

    @property
    def collections(self) -> tuple[str, ...]:
        """Real names of the collections that the migration reads and writes."""
        # In place, both are the same collection.
        return tuple(dict.fromkeys((self.collection.name, self.target.collection)))

    def follows(self, record: MigrationRecord) -> bool:
        """Return whether a record is that of an earlier, finished migration of the same name."""
        # Both are UTC in ISO 8601 (`utc_now`), so they compare as strings.
        other = record.plan_digest != self.digest and self.created_at >= record.updated_at
        return record.phase is Phase.FINALIZED and other

    @property
    def serving(self) -> str:
        """How to answer queries meanwhile; "" where what is done is not what was recommended."""
        advised = self.recommendation
        # Advice for another strategy does not apply, and `full` has no mixture to serve.
        followed = advised.strategy is self.strategy and not STRATEGIES[self.strategy].only_encodes
        return advised.serving if followed else ""

    def frozen(self) -> Self:
        """Return the plan with its digest filled in."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": _digest(content)})

    def check_current(self, binding: dict[str, str]) -> None:
        """Refuse a plan that is out of date.

        Args:
            binding: What a plan depends on, as it is now; the keys are those of the plan's
                own `binding`.

        Raises:
            StaleError: Something differs; names each key with its former and present value.
        """
        # A key on one side alone counts: an option that was added or removed is a change, too.
        compared = self.binding.keys() | binding.keys()
        changes = [
            f"  {key}: was {self.binding.get(key, 'not set')}, is now {binding.get(key, 'not set')}"
            for key in sorted(compared)
            if self.binding.get(key) != binding.get(key)
        ]
        if changes:
            raise StaleError(
                f"the plan {self.digest[:12]} is out of date:\n" + "\n".join(changes),
                "undo the change, or plan again with `xbtmigrate plan`",
            )

    @classmethod
    def parse(cls, text: str | bytes, origin: str) -> Plan:
        """Read a plan and check its digest.

        Raises:
            ArtefactError: Not a plan, of another version, or edited by hand.
        """
        hint = "make a new one with `xbtmigrate plan`"
        raw = parse_json(text, origin, hint)
        # Before the fields: another version deserves this message, not a list of unknown keys.
        version = raw.get("schema_version")
        if version != SCHEMA:
            raise ArtefactError(f"{origin} has plan schema {version}, not {SCHEMA}", hint)
        plan = parse(raw, cls, origin, hint)
        # Of the document, not of the model: a field that a later version adds changes nothing.
        try:
            whole = plan.digest == _digest({key: raw[key] for key in raw if key != "digest"})
        except ValueError:  # a number that is none
            whole = False
        if not whole:
            raise ArtefactError(f"{origin} was changed after it was made: its digest differs", hint)
        return plan


def _digest(content: Mapping[str, object]) -> str:
    # Sorted keys: the order in which a file lists them is no change. NaN has no place in JSON.
    return digest_of([json.dumps(content, sort_keys=True, allow_nan=False)])
