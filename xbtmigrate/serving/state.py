"""The state of a migration as a searcher knows it, and the serving that answers in it.

The state is replaced as a whole when the journal or the artefacts change. Values that depend only
on it (space, calibrated mixture, formula, threshold scales) are computed once and kept with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from qdrant_client import models

from xbtmigrate.errors import UnsupportedError
from xbtmigrate.evaluation.servings import SERVINGS
from xbtmigrate.migration.phases import Phase
from xbtmigrate.migration.plan import Plan
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.hubness import StoredHubness
from xbtmigrate.scoring.mixture import BRIDGE, KEEP, SINGLE, Mixture
from xbtmigrate.serving.formula import FormulaBuilder
from xbtmigrate.serving.space import ServingSpace
from xbtmigrate.serving.thresholds import Scale
from xbtmigrate.types import Layout, Vectors

Key: TypeAlias = tuple[bool, bool, str | None]

WITHOUT_NEW = (None, Phase.PLANNED, Phase.TRAINED, Phase.ABORTING, Phase.ABORTED)
"""Phases in which new vectors may not be storable."""
UNTOUCHED = (*WITHOUT_NEW, Phase.ROLLED_BACK)
"""Phases in which new vectors may be missing or unreliable."""
WITHOUT_OLD = (Phase.FINALIZING, Phase.FINALIZED)
"""Phases in which old vectors are being or have been removed."""


@dataclass(frozen=True, slots=True)
class ActiveServing:
    """A serving in one state of the migration, with everything that is the same for every query.

    Attributes:
        mixture: How scores combine.
        space: The one space that answers, "old" or "new"; None where both are searched.
        needs_old: Whether a query has to be embedded by the old model.
        needs_new: Whether it has to be embedded by the new model.
        formula: The mixture for Qdrant, where one request can fuse both spaces.
        away: What centres a query q in the new space, as q - (q.a) a; None for no centring.
        note: Why it is not the serving that should be used; "" where it is.
    """

    mixture: Mixture
    space: str | None
    needs_old: bool
    needs_new: bool
    formula: models.FormulaQuery | None
    away: Vectors | None
    note: str


@dataclass(frozen=True, slots=True)
class ServingState:
    """The state of a migration as a searcher knows it.

    Attributes:
        migration: Name of the migration.
        names: What the application may call the collection: its name and its aliases.
        phase: Where the migration stands; None before the first backfill.
        plan: The plan.
        layout: Where the new vectors are.
        old: The old vectors.
        new: The new vectors.
        switched: Whether the new vectors are what an application is to query.
        covered: Whether every point had its new vector once; what came later may wait for it.
        waiting: Whether points without a new vector were seen.
        asked: The serving that the application chose; "" for none.
        bridge: Projector of queries into the old space.
        forward: Projector of old vectors into the new space.
        calibration: Calibration and slerp weight; None where nothing was calibrated.
        hubness: Hubness stored on the points for this calibration.
        away: What centres queries of the new space for the share re-encoded now; None for nothing.
        one_request: Whether the server can fuse both spaces in one request.
        seen: What it was made from, to be compared with.
        servings: The servings chosen so far, by the models at hand and the enclosing collection.
        scales: Threshold scales measured so far, by the name of the serving.
    """

    migration: str
    names: frozenset[str]
    phase: Phase | None
    plan: Plan
    layout: Layout
    old: ServingSpace
    new: ServingSpace
    switched: bool
    covered: bool
    waiting: bool
    asked: str
    bridge: Projector | None
    forward: Projector | None
    calibration: Calibration | None
    hubness: StoredHubness | None
    away: Vectors | None
    one_request: bool
    seen: object = None
    # Kept here and not in the searcher, since threads may still use a state that was replaced.
    servings: dict[Key, ActiveServing] = field(init=False, default_factory=dict, compare=False)
    scales: dict[str, Scale] = field(init=False, default_factory=dict, compare=False)

    @property
    def is_transparent(self) -> bool:
        """Whether applications get the same answers as before the migration."""
        return not self.switched and self.asked in ("", KEEP.name)

    @property
    def translates(self) -> bool:
        """Whether known queries can translate scores of the old model to another scale."""
        known = self.calibration is not None and len(self.calibration.bank.ids) > 0
        return known and self.phase not in WITHOUT_OLD

    def choose(
        self, *, old_model: bool, new_model: bool, within: str | None = None
    ) -> ActiveServing:
        """Choose the serving: the old vectors until the cutover, the new ones afterwards.

        Before the cutover, an application has to ask for another serving. If that needs something
        that is missing, the old vectors answer; any other replacement might be worse.

        Args:
            old_model: Whether the query can be embedded by the old model.
            new_model: Whether it can be embedded by the new model.
            within: The collection of the larger request that the search is a part of.

        Raises:
            UnsupportedError: Nothing can answer with the models at hand.
        """
        key = old_model, new_model, within
        if key not in self.servings:
            mixture, note = self._mixture(old_model=old_model, new_model=new_model, within=within)
            self.servings[key] = self.activate(mixture, note)
        return self.servings[key]

    def activate(self, mixture: Mixture, note: str = "") -> ActiveServing:
        """Compute everything that is the same for all queries of a mixture in this state."""
        waiting = self.waiting
        # If one space answers, a plain search is enough: fusing takes four (docs/serving.md).
        space, formula = mixture.space(waiting=waiting), None
        if space is None and self.one_request:
            plan = self.plan.digest
            builder = FormulaBuilder(self.old, self.new, plan, waiting, self.hubness)
            formula = builder.build(mixture)
        needs_old = mixture.needs_old_model(waiting=waiting)
        needs_new = mixture.needs_new_model(waiting=waiting)
        # Fused servings were calibrated with queries as they are.
        away = self.away if space == "new" else None
        return ActiveServing(mixture, space, needs_old, needs_new, formula, away, note)

    def _mixture(
        self, *, old_model: bool, new_model: bool, within: str | None
    ) -> tuple[Mixture, str]:
        """Return the mixture that answers, and why it is not the first choice; "" if it is."""
        wanted = self._ranked()
        if within is not None:
            # Only one space may answer there: a query of the new model is bridged if necessary.
            wanted += [] if self.is_transparent or self.switched else [BRIDGE]
            wanted = [each for each in wanted if self._fits(each, within)]
        for mixture in wanted:
            lacks = self._lacks(mixture, old_model=old_model, new_model=new_model)
            if not lacks:
                reason = self._lacks(wanted[0], old_model=old_model, new_model=new_model)
                note = f"{wanted[0].name} needs {reason}: serving {mixture.name}" if reason else ""
                return mixture, note
        # Raise rather than search the wrong space: if both models have one length, Qdrant would
        # answer with points that mean nothing.
        if self.switched:
            raise UnsupportedError(
                f"'{self.old.collection}' is cut over: it answers queries of the new model",
                "embed queries with the new model, or give it as new_encoder",
            )
        raise UnsupportedError(
            f"'{self.old.collection}' is not cut over: it answers queries of the old model",
            "embed queries with the old model, or give it as old_encoder; for queries of the new "
            'model before the cutover open with serving="bridge", or "single" after a backfill',
        )

    def _ranked(self) -> list[Mixture]:
        """List the mixtures that may answer in this phase, best first."""
        if self.switched:
            # Applications may now write only new vectors: an old one may be missing or stale.
            return [SINGLE]
        asked = self._asked()
        return [KEEP] if asked is None else [asked, KEEP]

    def _asked(self) -> Mixture | None:
        """Return the serving that the application chose; None if this phase does not offer it."""
        spec = SERVINGS.get(self.asked)
        mixture = spec.mixture(self.calibration) if spec and spec.mixture else None
        if spec is None or mixture is None or (spec.needs_cover and not self.covered):
            return None
        if self.phase in UNTOUCHED:
            # There may be no new vectors yet: only servings of the old ones are possible.
            return replace(mixture, parts=KEEP.parts) if spec.maps_query else None
        return mixture

    def _fits(self, mixture: Mixture, collection: str) -> bool:
        """Return whether a search can be part of a larger request to a collection."""
        space = mixture.space(waiting=self.waiting)
        if space is None:
            return self.one_request
        # A request is for one collection: it cannot search both a shadow and its source.
        return collection == (self.new if space == "new" else self.old).collection

    def _lacks(self, mixture: Mixture, *, old_model: bool, new_model: bool) -> str:
        """Name what a mixture needs and lacks; "" for nothing."""
        if mixture.needs_old_model(waiting=self.waiting) and not old_model:
            return "the old model"
        if mixture.needs_new_model(waiting=self.waiting) and not new_model:
            return "the new model"
        spec = SERVINGS[mixture.name]
        if spec.maps_query and self.bridge is None:
            return "a bridge"
        if spec.needs_calibration and self.calibration is None:
            return "a calibration"
        return ""
