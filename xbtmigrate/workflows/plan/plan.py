"""Run `plan`: survey the collection, measure on a sample, choose a strategy. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xbtmigrate
from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.evaluation.recommendation import Recommendation
from xbtmigrate.files import write_atomically
from xbtmigrate.migration.phases import MigrationRecord, Phase, utc_now
from xbtmigrate.migration.plan import (
    Advice,
    Collection,
    Compatibility,
    Coverage,
    ModelMatch,
    Plan,
    Target,
    Throughput,
)
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.gallery.create import EF_CONSTRUCT
from xbtmigrate.types import Layout, PointId, Strategy
from xbtmigrate.workflows.compare_baseline import read_baseline_points
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.cost import FLOAT, Workload, estimate_costs
from xbtmigrate.workflows.evaluate.rates import guess_rates
from xbtmigrate.workflows.evaluate.report import check_page, write_page
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.next_step import find_next_step
from xbtmigrate.workflows.plan.bench import load_measured_rates
from xbtmigrate.workflows.plan.check_plannable import check_plannable
from xbtmigrate.workflows.plan.coverage import (
    add_sample,
    count_without_vector,
    find_without_old,
    make_coverage,
    require_readable,
    require_sample,
    warn_of_copies,
    warn_of_coverage,
)
from xbtmigrate.workflows.plan.encode_sample import EncodedSample, encode_sample
from xbtmigrate.workflows.plan.judging_template import write_template
from xbtmigrate.workflows.plan.model_match import match_old_model, require_match
from xbtmigrate.workflows.plan.same_vectors import (
    advise_by_vectors,
    compare_spaces,
    warn_of_compatibility,
)
from xbtmigrate.workflows.plan.sample import SampleResult, advice_of, judge_sample
from xbtmigrate.workflows.plan.window_match import match_windows
from xbtmigrate.workflows.points import Points, Survey, survey, take
from xbtmigrate.workflows.prerequisites import require_prerequisites
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.tally import count_by_reason
from xbtmigrate.workflows.workspace import Workspace


def make_plan(
    config: Config,
    *,
    out: Path | None,
    allow_model_mismatch: bool,
    page: Path | None = None,
    must_leave: str = "",
    report: Report,
) -> Plan:
    """Plan a migration and freeze the plan under the migration's folder.

    Args:
        config: The settings.
        out: Also write the plan here.
        allow_model_mismatch: Go on although the old model did not make the stored vectors.
        page: Also write the report here.
        must_leave: Why the old model cannot be kept; "" where it can.
        report: Called with progress.

    Raises:
        ConfigError: The page cannot be written.
        GateError: A migration is under way, too many points lack their source, or the declared
            old model did not make the stored vectors.
        XbtMigrateError: The server, the collection or a model cannot be used.
    """
    # Measuring takes minutes, so first check that the page can be written.
    if page is not None:
        check_page(page)
    with open_store(config) as store:
        models = Models(config)
        workspace = Workspace(config, models)
        # Checks in the order of their cost: requests, then reading every point, then encoding.
        layout, record = check_plannable(store, models)
        found = _measure(
            *(store, models, workspace, layout),
            allow_model_mismatch=allow_model_mismatch,
            must_leave=must_leave,
            report=report,
        )
        plan = _freeze(store, models, layout, found, report)
        _save(store, workspace.artefacts, plan, record, found.seen.sample)
        if plan.measurement.provisional:
            write_template(workspace.artefacts.template_file, found.points, models.stored)
        if page is not None:
            document = found.judged.document(found.recommendation, plan.warnings)
            following = find_next_step(Phase.PLANNED, plan)
            write_page(page, store.facts, document, plan.costs, following)
    if out is not None:
        write_atomically(out, lambda path: path.write_text(plan.model_dump_json(indent=2), "utf-8"))
    return plan


@dataclass(frozen=True, slots=True)
class _Measured:
    """Everything measured for a plan, in the order of its cost."""

    seen: Survey
    points: Points
    match: ModelMatch | None
    coverage: Coverage
    sampled: EncodedSample
    judged: SampleResult
    work: Workload
    compatibility: Compatibility
    recommendation: Recommendation


def _measure(
    store: Store,
    models: Models,
    workspace: Workspace,
    layout: Target,
    *,
    allow_model_mismatch: bool,
    must_leave: str,
    report: Report,
) -> _Measured:
    """Read every point, check the old model on a sample, and encode the sample with the new one."""
    settings = store.config.plan
    seen = survey(
        store.reader(),
        sample=settings.sample,
        seed=settings.seed,
        report=report,
        without_old=find_without_old(store),
    )
    coverage = make_coverage(store.facts, models, seen)
    points = take(store.reader(), seen.sample)
    require_sample(store.facts, seen, points)
    match = None
    if models.has_old:
        match = match_old_model(
            points, models.old, models.stored, settings.old_model_match, store.facts.distance
        )
        match = match_windows(match, models, points, required=not allow_model_mismatch)
    if match is not None and not allow_model_mismatch:
        require_match(match, models.stored, settings.old_model_match)
    # From here on the new model is paid for, and each of its vectors goes to the cache.
    sampled = encode_sample(models, workspace, points, report)
    judged = judge_sample(store, models, workspace, sampled.points, sampled.new, report=report)
    coverage = add_sample(coverage, models, sampled.points, sampled.new)
    work = _workload(store, models, workspace.artefacts, seen, sampled, layout=layout.layout)
    shared = compare_spaces(*sampled.pairs, judged.findings)
    advised = advise_by_vectors(
        shared, judged.advise(work, settings.target, must_leave), judged.findings
    )
    return _Measured(seen, points, match, coverage, sampled, judged, work, shared, advised)


def _freeze(store: Store, models: Models, layout: Target, found: _Measured, report: Report) -> Plan:
    """Check what the recommendation needs, and freeze the plan."""
    config, advice, coverage = store.config, advice_of(found.recommendation), found.coverage
    costs = estimate_costs(found.work, _partial_share(advice))
    strategy, fraction = _choose_strategy(config, advice), _fraction(config, advice)
    # Only now, because how much may fail depends on the share that is to be re-encoded.
    require_readable(coverage, fraction, config.plan.max_missing)
    without = count_without_vector(coverage, strategy, fraction, config.plan.max_missing)
    copies = warn_of_copies(store, layout, report) if STRATEGIES[strategy].writes else ()
    return Plan(
        tool_version=xbtmigrate.__version__,
        created_at=utc_now(),
        migration=config.migration,
        binding=store.binding(models.new.fingerprint),
        collection=_collection(store),
        target=layout,
        coverage=coverage,
        model_match=found.match,
        compatibility=found.compatibility,
        throughput=Throughput(scan=found.seen.rate, encode=found.sampled.rate),
        costs=costs,
        measurement=found.judged.measurement,
        recommendation=advice,
        strategy=strategy,
        fraction=fraction,
        ordering=_ordering(config, advice),
        seed=config.plan.seed,
        without_vector=count_by_reason(without),
        warnings=[
            *found.judged.warnings,
            *warn_of_compatibility(found.compatibility),
            *_warnings(store, models, coverage, found.match, layout),
            *copies,
        ],
        findings=require_prerequisites(store, layout, costs, strategy),
    ).freeze()


def _save(
    store: Store,
    artefacts: Artefacts,
    plan: Plan,
    record: MigrationRecord | None,
    sample: Sequence[PointId],
) -> None:
    """Replace the files of an earlier plan with those of this one."""
    # Before the new plan is saved, which would otherwise be deleted with the old files.
    _clear_finished(artefacts, record)
    # The plan is saved last, so a kill never leaves it beside another plan's order or baseline.
    artefacts.order_file.unlink(missing_ok=True)
    # The baseline that `verify` compares with: some points before the first write.
    artefacts.save_baseline(read_baseline_points(store.connection, plan, sample))
    artefacts.save_plan(plan)


def _clear_finished(artefacts: Artefacts, record: MigrationRecord | None) -> None:
    """Delete the files of an earlier migration: its projectors are between other models."""
    if record is None or record.phase is not Phase.FINALIZED or not artefacts.plan_file.exists():
        return
    if artefacts.load_plan().digest == record.plan_digest:
        artefacts.clear()


def _workload(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    seen: Survey,
    sampled: EncodedSample,
    *,
    layout: Layout,
) -> Workload:
    # A shadow stores them once more; counted as float32, the largest they can be.
    other = sum(size for size, _ in store.facts.dense.values()) * FLOAT * seen.points
    contents = [content for content in sampled.points.content(models.stored) if content]
    return Workload(
        points=seen.points,
        sources=round((seen.points - seen.missing) * sampled.new.valid.mean()),
        size=models.new.dimension,
        layout=layout,
        other_bytes=other + seen.content_bytes,
        rates=load_measured_rates(artefacts, layout)
        or guess_rates(seen.rate, sampled.rate, store.connection.mode),
        price=models.price_per_item(contents),
    )


def _collection(store: Store) -> Collection:
    facts, connection = store.facts, store.connection
    version = ".".join(map(str, connection.version))
    return Collection(
        server=f"{connection.mode} {version}",
        name=facts.collection,
        alias=facts.requested if facts.requested != facts.collection else None,
        points=facts.points,
        vector=facts.vector,
        size=facts.size,
        distance=facts.distance,
        identity=facts.identity,
        other_vectors=sorted({*facts.dense, *facts.sparse, *facts.multi}),
    )


def _partial_share(advice: Advice) -> float | None:
    """Return the recommended share to re-encode, if it is a part."""
    partial = advice.strategy is not None and STRATEGIES[advice.strategy].is_partial
    return advice.fraction if partial else None


def _choose_strategy(config: Config, advice: Advice) -> Strategy:
    """Return the configured strategy, else the recommended one, else what writes nothing."""
    if config.plan.strategy != "auto":
        return Strategy(config.plan.strategy)
    # Without the old model only a bridge can search the old vectors.
    return advice.strategy or (Strategy.BRIDGE if config.old_model.is_gone else Strategy.KEEP)


def _fraction(config: Config, advice: Advice) -> float:
    """Return the default share to re-encode: the recommended one if the strategy is recommended."""
    strategy = _choose_strategy(config, advice)
    return advice.fraction if strategy is advice.strategy else STRATEGIES[strategy].fraction


def _ordering(config: Config, advice: Advice) -> str:
    """Return the recommended order; re-encoding everything needs none, nor a projector."""
    unordered = STRATEGIES[_choose_strategy(config, advice)].only_encodes
    return "random" if unordered else advice.ordering or "uncertainty"


def _warn_of_old_model(match: ModelMatch | None) -> list[str]:
    if match is None:
        return [
            "the old model is gone (old_model.encoder): nothing checks what the stored vectors "
            "embed, so payload and old_model.stored must be right"
        ]
    found = []
    if match.remark is not None:
        found.append(f"old model check: {match.remark}")
    if not match.matches:
        found.append(
            "the declared old model did not make the stored vectors: the figures of keep are those "
            "of a model that does not fit its own gallery"
        )
    return found


def _warnings(
    store: Store, models: Models, coverage: Coverage, match: ModelMatch | None, layout: Target
) -> list[str]:
    found = _warn_of_old_model(match)
    found += warn_of_coverage(store.facts, models, coverage)
    facts = store.facts
    # With different lengths, the server refuses a query in the wrong space.
    if facts.unnamed and facts.size == models.new.dimension:
        found.append(
            "old and new vectors are unnamed and equally long: an application that still sends old "
            "query vectors after the switch gets wrong answers without any error"
        )
    effort = facts.index_efforts.get(layout.vector, EF_CONSTRUCT)
    # A vector that the tool creates gets this value; an existing one keeps its setting.
    given = layout.layout is Layout.IN_PLACE and not store.connection.embedded
    if given and effort < EF_CONSTRUCT:
        found.append(
            f"the vector '{layout.vector}' is indexed with ef_construct {effort}: while "
            f"projected and true vectors are mixed, the index misses fewer with {EF_CONSTRUCT}: "
            "set it by `update_collection`, best before the backfill"
        )
    return found
