"""Keep the last result on judged queries, which a cutover checks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.evaluation.recommendation import Recommendation
from xbtmigrate.files import read_json, write_json
from xbtmigrate.migration.phases import utc_now
from xbtmigrate.migration.plan import Plan
from xbtmigrate.types import Strategy
from xbtmigrate.workflows.models import Models


class Judgement(BaseModel):
    """The recommendation of one evaluation on judged queries.

    Attributes:
        strategy: What it recommends.
        reason: Why, with the figures.
        new_model: Fingerprint of the new model.
        at: When, UTC, ISO 8601.
        crossover: Share re-encoded from which the single space is as good as the old model; None
            where no share is, or none was measured.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    strategy: Strategy
    reason: str
    new_model: str
    at: str
    crossover: float | None = None


def save_judgement(
    models: Models, artefacts: Artefacts, advice: Recommendation, crossover: float | None
) -> None:
    """Store what judged queries recommend; an evaluation on made queries changes nothing."""
    if advice.strategy is None:
        return
    found = Judgement(
        strategy=advice.strategy,
        reason=advice.reason,
        new_model=models.new.fingerprint,
        at=utc_now(),
        crossover=crossover,
    )
    write_json(artefacts.evaluation_file, found.model_dump(mode="json"))


def load_last_judgement(models: Models, artefacts: Artefacts, plan: Plan) -> Judgement | None:
    """Return the newer result, of the plan or the last evaluation; None without judged queries.

    Raises:
        ArtefactError: The file of the evaluation is damaged.
    """
    found, fingerprint = [], models.new.fingerprint
    advice = plan.recommendation
    if advice.strategy is not None:
        found.append(
            Judgement(
                strategy=advice.strategy,
                reason=advice.reason,
                new_model=fingerprint,
                at=plan.created_at,
            )
        )
    file = artefacts.evaluation_file
    if file.exists():
        kept = read_json(file, Judgement, "evaluate again with `xbtmigrate evaluate`")
        # A result for another new model does not apply to this one.
        found += [kept] if kept.new_model == fingerprint else []
    # Both times are UTC in ISO 8601, so their order as strings is that in time.
    return max(found, key=lambda each: each.at, default=None)
