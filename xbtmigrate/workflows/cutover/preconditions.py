"""Check every condition of a cutover; each has a name and says what to do if it fails."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import numpy as np

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.config import Config
from xbtmigrate.errors import ConfigError, XbtMigrateError
from xbtmigrate.evaluation.quality_gate import Gate
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.evaluation.retrieval import DEPTH, Relevance, judge
from xbtmigrate.migration.phases import MigrationRecord, Phase, seconds_since
from xbtmigrate.migration.plan import Plan
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.health import find_health_problems
from xbtmigrate.qdrant.collection.index_recall import search
from xbtmigrate.qdrant.wire.connection import Connection
from xbtmigrate.types import PointId, Strategy
from xbtmigrate.workflows.backfill.request import BackfillRequest
from xbtmigrate.workflows.cutover.options import Accepted, Check, CutoverOptions, Quality
from xbtmigrate.workflows.cutover.route import Route, is_silent
from xbtmigrate.workflows.encode_points import encode_questions, encode_readable
from xbtmigrate.workflows.evaluate.last_judgement import load_last_judgement
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.tally import Tally, count_by_reason, describe_without_vector
from xbtmigrate.workflows.workspace import read_judged_questions

QUERIES = 1000
TRIED = 16
"""Points that the old model is tested on."""
SKEW = 60.0
"""Seconds that another machine's clock may be ahead."""


def check_cutover(
    store: Store,
    models: Models,
    artefacts: Artefacts,
    request: BackfillRequest,
    *,
    route: Route,
    options: CutoverOptions,
) -> list[Check]:
    """Check every condition of a cutover. Reads only.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        artefacts: The migration's files.
        request: Its plan and record.
        route: How applications come to the new vectors.
        options: The options of the cutover.
    """
    plan, accepted = request.plan, options.accepted
    # In place both names are the same: health is read once.
    collections = dict.fromkeys((plan.collection.name, plan.target.collection))
    troubled = [
        each for name in collections for each in find_health_problems(store.connection, name)
    ]
    return [
        _verified(request.record, options.max_age),
        _caught_up(request, options.max_behind),
        check_without_vector(request.tally, accepted.without_vector),
        Check(
            "settled",
            not troubled,
            "; ".join(troubled) or "green, no optimizer backlog",
            "wait until the server has settled, then `xbtmigrate cutover`",
        ),
        _way_back(store, models),
        _readers(plan, route, accepted),
        _evaluation(models, artefacts, plan, accepted),
        *_crossover(models, artefacts, request),
        *_quality(store, models, request, options.quality),
    ]


def _verified(record: MigrationRecord | None, max_age: float) -> Check:
    way_out = "run `xbtmigrate verify`"
    if record is None or record.phase is not Phase.VERIFIED:
        phase = "not begun" if record is None else str(record.phase)
        return Check("verified", passed=False, detail=f"the migration is {phase}", way_out=way_out)
    # Wall-clock times of two machines: small skew is normal, but a verification from the future
    # would stay valid too long.
    age = seconds_since(record.verified_at)
    if age < -SKEW:
        detail = f"verified at {record.verified_at}, which is in the future by this machine's clock"
        return Check("verified", passed=False, detail=detail, way_out=way_out)
    detail = f"verified {age / 3600:.1f} h ago, at most {max_age / 3600:g} h are allowed"
    return Check("verified", age <= max_age, detail, way_out)


def _caught_up(request: BackfillRequest, max_behind: int) -> Check:
    """Check that the catch-up before the switch can complete every point that is still due."""
    name, pending = "caught_up", request.tally.pending
    way_out = "run `xbtmigrate backfill --online`, then `xbtmigrate verify`"
    detail = f"{pending:,} of {request.tally.points:,} points are still due"
    # Without a projector, points beyond the fraction have no new vector at all, and the
    # catch-up does not encode them either.
    if not request.projects and request.fraction < 1:
        way_out = way_out.replace("--online", "--online --fraction 1")
        return Check(name, not pending, f"{detail}: run the backfill to fraction 1", way_out)
    return Check(name, pending <= max_behind, f"{detail}, at most {max_behind:,} may be", way_out)


def check_without_vector(tally: Tally, accepted: int) -> Check:
    """Check that the user accepts the points that no search by new vector will find.

    Args:
        tally: Exact counts.
        accepted: Points that may stay without one.
    """
    count, reasons = tally.without_vector, describe_without_vector(count_by_reason(tally.of))
    detail = f"{count:,} points get no new vector ({reasons})"
    if count > accepted:
        detail += ", so no vector search will find them after the switch"
    return Check(
        "without_vector",
        count <= accepted,
        detail,
        f"accept this with `xbtmigrate cutover --accept-without-vector {count}`, or complete "
        "them and run `xbtmigrate backfill --online`",
    )


def _way_back(store: Store, models: Models) -> Check:
    """Check that a rollback is possible: old vectors exist and the old model can embed."""
    name, facts = "rollback_possible", store.facts
    way_out = (
        "run `xbtmigrate cutover` again when the old model answers, or repair [old_model] in the "
        "configuration first"
    )
    if not models.has_old and facts.with_vector:
        detail = (
            f"{facts.with_vector:,} points have old vectors; the old model is gone, so points that "
            "are written after the cutover can get none, and a rollback leaves them behind"
        )
        return Check(name, passed=True, detail=detail, way_out=way_out)
    # A rollback encodes later writes with the old model, and searches the old vectors.
    if facts.with_vector == 0:
        return Check(name, passed=False, detail="there are no old vectors", way_out=way_out)
    sample = next(store.reader().read({"source"})).slice(0, TRIED)
    try:
        items = sample[models.stored.value].to_pylist()
        _, valid = encode_readable(models.old, items, models.stored, ids=sample["id"].to_pylist())
    except XbtMigrateError as error:
        detail = f"the old model cannot be used: {error.message}"
        return Check(name, passed=False, detail=detail, way_out=way_out)
    # Several points, since one of them may be unreadable for any model.
    works = bool(valid.any()) or not any(items)
    found = (
        "the old model can embed" if works else f"the old model embeds none of {len(items)} points"
    )
    return Check(
        name, works, f"{facts.with_vector:,} points have old vectors, and {found}", way_out
    )


def _readers(plan: Plan, route: Route, accepted: Accepted) -> Check:
    """Check that no unchanged reader can search the new space with old vectors unnoticed."""
    # Other dimensions or another vector name make the server refuse an unchanged query.
    if not is_silent(plan, route.alias):
        return Check("readers", passed=True, detail="no unchanged request can search the new space")
    detail = (
        f"old and new vectors have {plan.target.size:,} numbers and no name: an unchanged reader "
        "gets wrong points without an error"
    )
    return Check(
        "readers",
        accepted.readers_send_new,
        detail,
        "change every reader, then `xbtmigrate cutover --readers-send-new-vectors`",
    )


def _evaluation(models: Models, artefacts: Artefacts, plan: Plan, accepted: Accepted) -> Check:
    """Check that the last evaluation on judged queries did not recommend `keep`."""
    found = load_last_judgement(models, artefacts, plan)
    # Judged queries are optional, so their absence does not block a cutover.
    if found is None:
        return Check("evaluation", passed=True, detail="nothing was evaluated on judged queries")
    detail = f"judged queries ({found.at[:10]}) recommend {found.strategy}: {found.reason}"
    keeps = found.strategy is Strategy.KEEP
    return Check(
        "evaluation",
        not keeps or accepted.despite_evaluation,
        detail,
        "keep the old model: `xbtmigrate abort` undoes the migration; or give --despite-evaluation",
    )


def _crossover(models: Models, artefacts: Artefacts, request: BackfillRequest) -> Iterator[Check]:
    """Warn where less is re-encoded than the new space needs to be as good as the old one."""
    found = load_last_judgement(models, artefacts, request.plan)
    share = request.record.fraction if request.record else 0.0
    if found is None or found.crossover is None or share >= found.crossover:
        return
    # It passes: only the user knows what else the new model brings.
    yield Check(
        "crossover",
        passed=True,
        detail=f"warning: {share:.0%} is re-encoded; judged queries ({found.at[:10]}) reach the "
        f"old model's quality at {found.crossover:.0%}: until then answers are worse than before "
        "the switch. `xbtmigrate backfill --online --until keep` continues to that share",
    )


def _quality(
    store: Store, models: Models, request: BackfillRequest, quality: Quality
) -> Iterator[Check]:
    """Compare the quality gates with indexed searches as the application makes them."""
    if not quality.gates:
        return
    if any(gate.anchor == "keep" for gate in quality.gates):
        models.require_old("a gate on keep", "hold the new model against a number, or full")
    for questions in _questions(store.config, quality):
        # A query whose relevant points are all deleted measures nothing in either space.
        relevant = sorted({point for points in questions.relevant for point in points})
        found = store.reader().read(set(), ids=relevant)
        present = {point for batch in found for point in batch["id"].to_pylist()}
        yield from _judged(store, models, request, quality, questions.keep_answerable(present))


def _judged(
    store: Store, models: Models, request: BackfillRequest, quality: Quality, asked: Questions
) -> Iterator[Check]:
    facts, target = store.facts, request.plan.target
    asked, old, new = encode_questions(models, asked)
    if not len(asked):
        name = f"quality ({asked.modality} queries)"
        detail = "no judged query can be asked in both spaces"
        way_out = "judge other queries, or leave out --gate"
        yield Check(name, passed=False, detail=detail, way_out=way_out)
        return
    # Through the index, not by exact search: that is what readers get after the switch.
    cells = {}
    if old is not None:
        cells["keep"] = _means(store.connection, asked, (facts.collection, facts.vector), old)
    single = _means(store.connection, asked, (target.collection, target.vector), new)
    # The figure of `full` is known only if no vector is projected: then it is the measured one.
    if request.tally.projected == 0:
        cells["full"] = single
    for gate in quality.gates:
        verdict = gate.judge(single, cells)
        what = f"{verdict} on {len(asked):,} {asked.modality} queries"
        yield Check(f"quality {gate.text}", verdict.met, what, _more(request, quality, gate))


def _more(request: BackfillRequest, quality: Quality, gate: Gate) -> str:
    """Return the way out where a gate is not met."""
    if request.fraction >= 1 or not STRATEGIES[request.plan.strategy].encodes:
        return "lower the gate, or keep the old model: `xbtmigrate abort` undoes the migration"
    command = f"xbtmigrate backfill --online --until {shlex.quote(gate.text)}"
    if quality.queries is not None:
        command += f" --queries {shlex.quote(str(quality.queries))}"
    return f"embed more with `{command}`, or lower the gate"


def _questions(config: Config, quality: Quality) -> list[Questions]:
    if quality.queries is not None:
        found = read_questions(quality.queries, quality.split)
    else:
        found = read_judged_questions(config)
    if all(each.provisional for each in found):
        raise ConfigError(
            "a quality gate needs judged queries", "give --queries FILE, or set plan.queries"
        )
    return [each.sample(QUERIES, config.plan.seed) for each in found]


def _means(
    connection: Connection, asked: Questions, place: tuple[str, str], vectors: np.ndarray
) -> dict[str, float]:
    """Search one space through its index and return the mean of each metric."""
    found: list[list[PointId]] = []
    for start in range(0, len(vectors), 20):
        found += search(connection, *place, vectors[start : start + 20], depth=DEPTH)
    # `judge` works on row numbers; only points that are relevant or were found need one.
    row_of: dict[PointId, int] = {}
    for points in (*asked.relevant, *found):
        for point in points:
            row_of.setdefault(point, len(row_of))
    # Shorter lists are padded with rows that answer nothing.
    ranked = np.full((len(found), max(map(len, found))), len(row_of), np.intp)
    for row, points in enumerate(found):
        ranked[row, : len(points)] = [row_of[point] for point in points]
    relevance = Relevance.from_rows([[row_of[each] for each in ids] for ids in asked.relevant])
    return judge(ranked, relevance).means
