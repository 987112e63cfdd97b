"""Turn the findings of a verification into a result: reasons, what is proven, what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import pyarrow.compute as pc

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.documents.next_step import NextDocument
from xbtmigrate.documents.verify import (
    BaselineDocument,
    FaultsDocument,
    IndexRecallDocument,
    VerifyDocument,
)
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.migration.phases import Phase
from xbtmigrate.migration.plan import Plan, Target
from xbtmigrate.protocols import Gallery
from xbtmigrate.qdrant.collection.index_recall import measure_index_recall
from xbtmigrate.qdrant.gallery.baseline import BaselineChanges
from xbtmigrate.types import Kind, Layout, PointId, Vectors, vectors_of
from xbtmigrate.workflows.encode_points import encode_questions
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import BACKFILL, CUTOVER, VERIFY, next_step
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.tally import Tally, count_by_reason, describe_without_vector
from xbtmigrate.workflows.verify.check_points import Fault
from xbtmigrate.workflows.verify.checkpoint import MAX_MISMATCHES, VerifyCheckpoint
from xbtmigrate.workflows.workspace import read_judged_questions

EXAMPLES = 20
QUERIES = 100
LOST_RECALL = 0.05
"""How much lower the recall of the new index may be than that of the old one."""


@dataclass(frozen=True, slots=True)
class VerifyFindings:
    """Everything that was found.

    Attributes:
        plan: The plan that was followed.
        state: The points that were looked at.
        max_stale: Points written since the backfill that are accepted.
        repaired: Points that were made right.
        tally: Exact counts at the end.
        max_unembeddable: Largest share of the points that may get no new vector.
        settings: Differences between the settings of both vectors' places.
        index_recall: How well the indexes find; None where nothing could be searched for.
        baseline: What became of the points looked at while planning; None without them.
        max_replaced: Points whose old vectors an application may have replaced, at most.
        route: Option that the cutover needs, see `route_option`.
    """

    plan: Plan
    state: VerifyCheckpoint
    max_stale: int
    repaired: int
    tally: Tally
    max_unembeddable: float
    settings: Sequence[str]
    index_recall: IndexRecallDocument | None
    baseline: BaselineChanges | None
    max_replaced: int
    route: str = ""

    @property
    def faults(self) -> Counter[Fault]:
        """Number of points with each fault."""
        return Counter(each.fault for each in self.state.mismatches.values())

    @property
    def reasons(self) -> list[str]:
        """Reasons against a cutover; empty if the verification is clean."""
        # Every reason is listed, so that one run shows everything that has to be corrected.
        behind, found = self.state.behind, []
        # The scan stopped early, so every other figure would cover only part of the points.
        if self.state.overflowing:
            return [
                f"more than {MAX_MISMATCHES:,} points are wrong: run `xbtmigrate backfill --online`"
            ]
        wrong = len(self.state.mismatches) - behind
        if wrong:
            found.append(f"{wrong:,} point(s) are wrong")
        # Points behind are normal on a live collection: `cutover` catches up with them.
        if behind > self.max_stale:
            found.append(
                f"{behind:,} point(s) were written since the backfill, {self.max_stale:,} may be"
            )
        without = self.tally.without_vector
        if without > self.max_unembeddable * self.tally.points:
            reasons = describe_without_vector(count_by_reason(self.tally.of))
            found.append(
                f"{without:,} points get no new vector ({reasons}), more than plan.max_missing"
            )
        if self.settings:
            found.append(f"{len(self.settings)} setting(s) differ")
        recall = self.index_recall
        if recall is not None and loses_neighbours(recall):
            found.append(
                f"the new index finds {recall['new']:.3f} of the exact neighbours, the old one "
                f"{recall['old']:.3f}: a larger ef_construct or a finer quantization finds more"
            )
        changed = self._vectors_changed
        if len(changed) > self.max_replaced:
            found.append(
                f"the old vectors of {len(changed):,} encoded point(s) changed while their payload "
                f"did not (for example {', '.join(changed[:5])}): `xbtmigrate backfill --online` "
                f"encodes them again, or --accept-replaced-vectors {len(changed)} lets them pass"
            )
        return found

    @property
    def _vectors_changed(self) -> list[PointId]:
        return [] if self.baseline is None else self.baseline.vectors_changed

    def document(self, phase: Phase, seconds: float) -> VerifyDocument:
        """Return the document of the verification.

        Args:
            phase: Phase of the migration after it.
            seconds: Time it took.
        """
        state, reasons, faults = self.state, self.reasons, self.faults
        examples = list(state.mismatches.items())[:EXAMPLES]
        return {
            "collection": self.plan.collection.name,
            "status": "not clean" if reasons else "clean",
            "clean": not reasons,
            "reasons": reasons,
            "sample": state.sample,
            "checked": state.checked,
            **self.tally.document(),
            "mismatches": cast("FaultsDocument", {str(fault): faults[fault] for fault in Fault}),
            "examples": [
                {"id": point, "fault": each.fault.value, "detail": each.detail}
                for point, each in examples
            ],
            "repaired": self.repaired,
            "compared": {
                "projected": state.compared.get(Kind.PROJECTED, 0),
                "encoded": state.compared.get(Kind.ENCODED, 0),
            },
            "least_cosine": {
                "projected": state.least_cosine.get(Kind.PROJECTED),
                "encoded": state.least_cosine.get(Kind.ENCODED),
            },
            "settings": list(self.settings),
            "index_recall": self.index_recall,
            "baseline": self._baseline(),
            "proven": self._proven(),
            "not_proven": self._not_proven(),
            "phase": phase,
            "seconds": round(seconds, 3),
            **self._next(),
        }

    def _baseline(self) -> BaselineDocument | None:
        return None if self.baseline is None else cast("BaselineDocument", asdict(self.baseline))

    def _proven(self) -> list[str]:
        state, kept = self.state, self.baseline
        found = [
            f"{state.checked:,} points were checked for their new vector and what it was made from",
            f"{state.compared.get(Kind.PROJECTED, 0):,} projected and "
            f"{state.compared.get(Kind.ENCODED, 0):,} encoded vectors were made again and compared",
        ]
        # In place there are no copies to compare.
        if self.plan.target.layout is Layout.SHADOW:
            found.append(
                "payload, other vectors and shard key of each of these copies were compared with "
                "the source, and each copy's source was looked for"
            )
        if kept is not None:
            found.append(
                f"{kept.same:,} of the {kept.points:,} source points that `plan` recorded have the "
                "same payload and bit for bit the same old vectors"
                + (f", {kept.rounded:,} more up to rounding" if kept.rounded else "")
            )
            # Put there by an application: the tool writes neither a source nor old vectors.
            if kept.replaced:
                found.append(
                    f"{len(kept.replaced):,} of them have old vectors that an application has "
                    "put there since"
                )
        return found

    def _not_proven(self) -> list[str]:
        state, kept = self.state, self.baseline
        # A clean result covers only what was checked, so the gaps are listed too.
        encoded = self.tally.encoded - state.compared.get(Kind.ENCODED, 0)
        found = []
        if encoded > 0:
            found.append(f"{encoded:,} encoded vectors were not made again (--reencode)")
        if kept is None:
            found.append("how the points were before the first write: no copy of it was kept")
        else:
            rest = self.tally.points - kept.same - kept.rounded
            if rest > 0:
                found.append(
                    f"that payload and old vectors of {rest:,} points are as before the first "
                    "write: `plan` did not record these points, or they have changed since"
                )
        return found

    def _next(self) -> NextDocument:
        if not self.reasons:
            return next_step(CUTOVER + self.route)
        if self.state.overflowing:
            return next_step(BACKFILL)
        if self.state.mismatches:
            return next_step(f"{VERIFY} --yes", "It makes the vectors that are wrong again.")
        changed = len(self._vectors_changed)
        # A repair corrects points; replaced old vectors need a backfill.
        if changed > self.max_replaced and len(self.reasons) == 1:
            return next_step(BACKFILL)
        return next_step(VERIFY, "First correct what was found.")


def loses_neighbours(recall: IndexRecallDocument) -> bool:
    """Return whether the new index has a clearly lower recall than the old one."""
    # Against the old index and not an absolute level: that is what users are used to. A few queries
    # of a coarsely quantized vector differ by more than LOST_RECALL by chance alone.
    return recall["old"] - recall["new"] > LOST_RECALL + recall["chance"]


def compare_index_recall(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    gallery: Gallery,
    target: Target,
    *,
    hnsw_ef: int | None,
) -> IndexRecallDocument | None:
    """Search both spaces with and without the index, with judged queries or stored points.

    None if there is nothing to search with, and in the embedded mode, which has no index.
    """
    if store.connection.embedded:
        return None
    # Judged queries look like traffic; stored points as queries are the second best, and all that
    # can ask in both spaces where the old model is gone.
    for questions in read_judged_questions(store.config) if models.has_old else ():
        return _recall_of_questions(store, models, questions, target, hnsw_ef)
    before = artefacts.load_baseline()
    # The baseline is a random sample; without one, the first page is used.
    ids = None if before is None else before["id"].to_pylist()[:QUERIES]
    for batch in gallery.read({"old", "new"}, ids=ids):
        # Both spaces get the same points, or the two shares could not be compared.
        usable = batch.filter(pc.and_(pc.is_valid(batch["old"]), pc.is_valid(batch["new"])))
        usable = usable.slice(0, QUERIES)
        if len(usable):
            own = usable["id"].to_pylist()
            basis = "stored vectors of points that search for their neighbours"
            spaces = (vectors_of(usable, "old"), vectors_of(usable, "new"))
            return _measured(store, basis, spaces, target, own=own, hnsw_ef=hnsw_ef)
    return None


def _recall_of_questions(
    store: Store, models: Models, questions: Questions, target: Target, hnsw_ef: int | None
) -> IndexRecallDocument | None:
    some = questions.sample(QUERIES, store.config.plan.seed)
    asked, old, new = encode_questions(models, some)
    if old is None or not len(asked):
        return None
    return _measured(store, questions.basis, (old, new), target, own=None, hnsw_ef=hnsw_ef)


def _measured(
    store: Store,
    basis: str,
    spaces: tuple[Vectors, Vectors],
    target: Target,
    *,
    own: Sequence[PointId] | None,
    hnsw_ef: int | None,
) -> IndexRecallDocument:
    # It takes as long to import as all of this package.
    from scipy.stats import sem

    facts = store.facts
    places = ((facts.collection, facts.vector), (target.collection, target.vector))
    old, new = (
        measure_index_recall(store.connection, *place, queries, own=own, hnsw_ef=hnsw_ef)
        for place, queries in zip(places, spaces, strict=True)
    )
    chance = 2 * sem(old - new) if len(old) > 1 else 1.0
    return {
        "basis": basis,
        "queries": len(old),
        "old": float(old.mean()),
        "new": float(new.mean()),
        "chance": float(chance),
    }
