"""The plan: what was measured, what will be done, and the digest that freezes both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from xbtmigrate.errors import ArtefactError, StaleError
from xbtmigrate.files import parse, parse_json
from xbtmigrate.migration.phases import MigrationRecord, Phase
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.types import Distance, Layout, Strategy, WithoutVector, digest_of

SCHEMA = 1


class _PlanPart(BaseModel):
    # A key that this version does not know may change what the plan means: refuse it.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Coverage(_PlanPart):
    """How many points have content and old vectors; counted exactly."""

    points: int
    """Points seen."""
    with_text: int
    """Points with a text."""
    with_image: int
    """Points with an image reference."""
    with_old_vector: int
    """Points with a usable old vector."""
    missing_source: int
    """Points without the field that the vectors embed."""
    with_neither: int = 0
    """Points without that field and without the old vector."""
    examples_missing: list[str] = []
    """Ids of some points without the field."""
    unusable_old: int = 0
    """Points whose old vector is not finite, zero or of absurd length."""
    examples_unusable: list[str] = []
    """Ids of some of them."""
    sampled: int = 0
    """Points with content that the new model tried to embed."""
    sample_unreadable: int = 0
    """Those of them that it cannot embed."""
    examples_unreadable: list[str] = []
    """Ids of some of them."""
    sample_truncated: int = 0
    """Those whose text is longer than the new model reads; 0 where its encoder cannot tell."""
    examples_truncated: list[str] = []
    """Ids of some of them."""


class ModelMatch(_PlanPart):
    """Whether the declared old model made the stored vectors."""

    sample: int
    """Points compared."""
    median_cosine: dict[str, float]
    """Median cosine between stored vectors and those the declared old model makes, by what it
    embeds: `text` or `image`."""
    stored: str
    """What the stored vectors embed by this comparison: `text`, `image` or `unknown`."""
    matches: bool
    """Whether the declared model fits."""
    remark: str | None = None
    """The likely cause of a match below 0.999, or of other lengths where the distance sees them;
    null for a match."""


class Relation(StrEnum):
    """How the new model's vectors relate to the stored ones."""

    SAME = "same"
    """They are the same."""
    LONGER = "longer"
    """They begin with the stored ones."""
    CUT = "cut"
    """They are the first numbers of the stored ones."""
    COMPATIBLE = "compatible"
    """Their queries find in the stored ones nearly what those of the old model find."""
    DIFFERENT = "different"
    """The two spaces have nothing in common."""


class Compatibility(_PlanPart):
    """What the new model's vectors have in common with the stored ones."""

    relation: Relation
    """`same`; `longer`, which begin with the stored ones; `cut`, which are the first numbers of the
    stored ones; `compatible`, whose queries find in the stored ones nearly what those of the old
    model find; or `different`."""
    sample: int
    """Points compared."""
    numbers: int
    """Leading numbers of both vectors that were compared."""
    median_cosine: float
    """Median cosine between them."""
    old_old: float
    """`sample_recall@10` of queries of the old model in the stored vectors."""
    new_old: float
    """The same of queries of the new model in the stored vectors, cut or padded with zeros."""
    new_new: float
    """The same of queries of the new model in its own vectors."""


class Throughput(_PlanPart):
    """Rates measured on this machine against this collection, in items per second."""

    scan: float
    """Points read per second."""
    encode: float
    """Items encoded per second."""


class Cost(_PlanPart):
    """Estimated cost of one strategy."""

    strategy: Strategy
    """The strategy."""
    encodes: int
    """Items to embed."""
    writes: int
    """Vectors to write."""
    disk_bytes: int
    """Growth on disk in bytes, at most."""
    ram_bytes: int
    """Growth in memory in bytes, at most, while vectors and index are held there."""
    seconds: float
    """Predicted working time in seconds, from what `bench --yes` measured or else from ratios
    measured elsewhere."""
    money: float | None
    """Estimated price; null without a price."""


class System(_PlanPart):
    """Quality of one way to answer queries."""

    name: str
    """`keep`, `keep:centred`, `lexical`, `keep+lexical`, `bridge:<kind>`, `forward:<kind>`,
    `fusion:<serving>` or `full`; a fusion row is a mixed gallery before anything is re-encoded."""
    metrics: dict[str, float]
    """Quality in the sample: metric, named `sample_<metric>` -> mean over the queries, 0 to 1."""
    against_keep: str = ""
    """`better` or `worse` by `sample_recall@10`, or `no difference` where it is not significant."""
    by_definition: bool = False
    """True for `full` where the answers are what the new model finds: its figures mean nothing."""
    estimated: bool = False
    """True for `keep` where the old model is gone, see
    [a provider shut down](how-to/provider-shut-down.md)."""


class CurvePoint(_PlanPart):
    """Quality of the mixed gallery at one fraction."""

    fraction: float
    """Share of re-encoded points, 0 to 1."""
    sample_recall_at_10: float
    """Recall at 10 of the mixed gallery there, 0 to 1."""


class Measurement(_PlanPart):
    """The quick measurement on a sample."""

    basis: str
    """Where queries and relevance came from."""
    provisional: bool
    """Whether queries were made from the collection, without judged ones."""
    query_count: int
    """Number of queries."""
    gallery_count: int
    """Number of points they were searched in."""
    systems: list[System]
    """One row per system, `keep` first."""
    curve: list[CurvePoint] = []
    """The mixed gallery by share of re-encoded points, for the strategy that re-encodes in
    order."""


class Advice(_PlanPart):
    """The recommended way, with its reason in words; strategy None without judged queries."""

    strategy: Strategy | None
    """The recommended strategy; null without judged queries."""
    fraction: float
    """Recommended share of the points, 0 to 1, to re-encode."""
    ordering: str
    """Order of re-encoding, `""` where there is none."""
    serving: str
    """How to answer queries meanwhile, see [Servings](#servings); `""` where it does not apply."""
    reason: str
    """Why, with the figures."""


class Finding(_PlanPart):
    """Something that the migration needs and does not have."""

    name: str
    """Its name, see [plan](commands.md#plan)."""
    blocks: bool = False
    """Whether it makes the migration impossible, which a plan that writes refuses with exit code
    3."""
    message: str
    """What is missing, in one sentence."""
    way_out: str
    """What to do about it."""


class Collection(_PlanPart):
    """Facts of the collection and its server when the plan was made."""

    server: str
    """`server` or `embedded`, and the version."""
    name: str
    """Real name of the collection."""
    alias: str | None
    """Alias it was named by; null for none."""
    points: int
    """Exact number of points."""
    vector: str
    """Name of the old vector; `""` for the unnamed one."""
    size: int
    """Length of its vectors."""
    distance: str
    """Its distance."""
    identity: str
    """Fingerprint of the collection's definition."""
    other_vectors: list[str] = []
    """Names of its other vectors."""


class Target(_PlanPart):
    """Where the new vectors go, and why there."""

    layout: Layout
    """Where the new vectors go."""
    collection: str
    """Collection that is written to."""
    vector: str
    """Name of the new vector there."""
    size: int
    """Length of its vectors."""
    distance: Distance
    """Its distance."""
    creates_vector: bool
    """Whether the vector has still to be added."""
    creates_collection: bool
    """Whether the shadow has still to be created."""
    reason: str
    """Why this layout."""


class Plan(_PlanPart):
    """A frozen plan."""

    schema_version: int = SCHEMA
    """Version of this document: 1."""
    tool_version: str
    """Version of xbtmigrate that made it."""
    created_at: str
    """When, UTC, ISO 8601."""
    migration: str
    """Name of the migration: collection and vector."""
    binding: dict[str, str]
    """Everything the plan depends on, dotted key -> value; compared before each use."""
    collection: Collection
    """The collection and its server when the plan was made."""
    target: Target
    """Where the new vectors go, and why there."""
    coverage: Coverage
    """How many points have content and old vectors; counted exactly."""
    model_match: ModelMatch | None
    """Whether the declared old model made the stored vectors; null where it is gone."""
    compatibility: Compatibility
    """What the new model's vectors have in common with the stored ones."""
    throughput: Throughput
    """Rates measured on this machine against this collection."""
    costs: list[Cost]
    """Estimated cost of each strategy, `keep` first."""
    measurement: Measurement
    """The quick measurement on a sample."""
    recommendation: Advice
    """The recommended way."""
    strategy: Strategy
    """What will be done: the configured strategy, else the recommended one, `keep` where there is
    none, and `bridge` where the old model is gone as well."""
    fraction: float
    """Share of the points, 0 to 1, to re-encode unless `backfill --fraction` sets another."""
    ordering: str
    """Order of re-encoding unless `backfill --order` sets another."""
    seed: int
    """Seed of every random choice."""
    without_vector: WithoutVector = WithoutVector(no_content=0, refused=0, no_old_vector=0)
    """Points that will get no new vector, by the reason, from full counts; `refused` is 0, since
    only the backfill can count them."""
    warnings: list[str] = []
    """What to know before acting."""
    findings: list[Finding] = []
    """What the migration needs until `finalize` and lacks."""
    digest: str = Field(default="", repr=False)
    """SHA-256 over all the rest."""

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
        """How to answer queries meanwhile; "" if the strategy is not the recommended one."""
        advised = self.recommendation
        # Advice for another strategy does not apply, and `full` has no mixture to serve.
        followed = advised.strategy is self.strategy and not STRATEGIES[self.strategy].only_encodes
        return advised.serving if followed else ""

    def freeze(self) -> Self:
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
        # A key on only one side counts: adding or removing an option is a change too.
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
