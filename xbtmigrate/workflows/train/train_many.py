"""Run `train-projector` for many collections: one fit on a pooled sample, kept for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from xbtmigrate.config import Config
from xbtmigrate.errors import ArtefactError, CollectionError, TrainingError, XbtMigrateError
from xbtmigrate.migration.plan import Plan
from xbtmigrate.training.fit import FitOptions, FitReport
from xbtmigrate.training.pairs import Pairs
from xbtmigrate.types import Direction, Distance, PointId
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.evaluate.collect import MIN_UNSEEN
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import open_store
from xbtmigrate.workflows.train.learn import learn_from_queries
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows, Material, fit_options, make_material
from xbtmigrate.workflows.train.train import (
    TrainResult,
    fit_directions,
    keep_fits,
    refuse_request,
)
from xbtmigrate.workflows.train.training_sample import (
    draw_points,
    embed_points,
    load_trainable_plan,
)
from xbtmigrate.workflows.workspace import Workspace, artefacts_of

MIN_SHARE = 20
"""Points of a collection in the pool, where it has as many."""
Results: TypeAlias = dict[str, TrainResult | XbtMigrateError]


class _Space(NamedTuple):
    """Everything that the collections of a pool have in common."""

    old_model: str
    old_size: int
    old_distance: Distance
    new_model: str
    new_distance: Distance


@dataclass(frozen=True, slots=True)
class _Member:
    """One collection and its part of the pool."""

    workspace: Workspace
    plan: Plan
    points: Points
    new: EmbeddedRows
    fold: Sequence[PointId]
    space: _Space

    @property
    def name(self) -> str:
        """The collection."""
        return self.workspace.config.qdrant.collection

    @property
    def prefix(self) -> str:
        """What tells its ids from those of other collections while they are pooled."""
        return f"{self.name}/"


def train_many(
    configs: Sequence[Config],
    *,
    pairs: int | None,
    direction: Literal["both", "bridge", "forward"],
    kinds: Sequence[str],
    threads: int,
    report: Report,
) -> Results:
    """Fit projectors once for many collections of the same two models.

    Each collection keeps the projectors, its own pairs, and a calibration and a centring of its
    own. Side vectors of words are not used: their table is that of one collection.

    Args:
        configs: The settings of each.
        pairs: Points to make pairs from, of all collections together; None for all.
        direction: Which way, or both.
        kinds: Names of kinds, or "auto".
        threads: Threads for training.
        report: Called with progress.

    Returns:
        What was fitted for each collection, or why it could not be.

    Raises:
        ConfigError: An unknown kind.
        TrainingError: The pool does not give enough pairs.
    """
    refuse_request(direction, kinds, 0)
    results: Results = {}
    members = _collect(configs, pairs, results, report)
    if not members:
        raise TrainingError(
            f"none of the {len(configs)} collections can be trained on; the first: "
            f"{next(iter(results.values()))}",
            "plan them, and correct what is said of each",
        )
    first = members[0]
    models, workspace = first.workspace.models, first.workspace
    with open_store(workspace.config) as store:
        options = fit_options(store, models, kinds, threads)
    material = make_material(models, workspace, *_pool(members), text_sides={}, report=report)
    directions = list(Direction) if direction == "both" else [Direction(direction)]
    reports = fit_directions(directions, material, options, report)
    for done, member in enumerate(members):
        report("calibrating each collection", done, len(members))
        try:
            results[member.name] = _keep_for(member, material, reports, options)
        except XbtMigrateError as error:
            results[member.name] = error
    return results


def _collect(
    configs: Sequence[Config], pairs: int | None, results: Results, report: Report
) -> list[_Member]:
    """Draw from each collection in proportion to its size; note those that cannot be used."""
    members: list[_Member] = []
    loaded: dict[str, Models] = {}
    sizes = {config.qdrant.collection: _count_points(config) for config in configs}
    for done, config in enumerate(configs):
        report("reading each collection", done, len(configs))
        name = config.qdrant.collection
        # The same models are loaded once, whatever the number of collections.
        key = config.old_model.model_dump_json() + config.new_model.model_dump_json()
        models = loaded.setdefault(key, Models(config))
        share = pairs and max(MIN_SHARE, round(pairs * sizes[name] / max(1, sum(sizes.values()))))
        try:
            member = _read(config, models, share)
            if members and member.space != members[0].space:
                raise CollectionError(
                    f"'{name}' has other models or vectors than '{members[0].name}': "
                    f"{member.space}, not {members[0].space}",
                    "give it a configuration of its own",
                )
            members.append(member)
        except XbtMigrateError as error:
            results[name] = error
    return members


def _count_points(config: Config) -> int:
    try:
        return artefacts_of(config).load_plan().coverage.points
    # Said by what needs the plan.
    except ArtefactError:
        return 0


def _read(config: Config, models: Models, share: int | None) -> _Member:
    with open_store(config) as store:
        workspace = Workspace(config, models)
        plan = load_trainable_plan(store, models, workspace.artefacts)
        points, fold = draw_points(store, workspace, plan, share, _silent)
        new = embed_points(models, workspace, points, _silent)
        space = _Space(
            *(models.old_fingerprint, points.old.shape[1], store.facts.distance),
            *(models.new.fingerprint, store.new_distance),
        )
    return _Member(workspace, plan, points, new, fold, space)


def _pool(members: Sequence[_Member]) -> tuple[Points, EmbeddedRows]:
    """Join the points of all collections, with ids that tell equal ones apart."""
    parts = [member.points for member in members]
    sides = [each.side for each in parts if each.side is not None]
    points = Points(
        ids=[member.prefix + point for member in members for point in member.points.ids],
        texts=[text for each in parts for text in each.texts],
        images=[image for each in parts for image in each.images],
        hashes=[found for each in parts for found in each.hashes],
        old=np.concatenate([each.old for each in parts]),
        side=np.concatenate(sides) if len(sides) == len(parts) else None,
    )
    vectors = np.concatenate([member.new.vectors for member in members])
    return points, EmbeddedRows(vectors, np.concatenate([member.new.valid for member in members]))


def _keep_for(
    member: _Member,
    material: Material,
    reports: Mapping[Direction, FitReport],
    options: FitOptions,
) -> TrainResult:
    """Keep the projectors for one collection, and learn from its own queries how to search."""
    workspace = member.workspace
    final = [_own_pairs(group, member) for group in material.task.pairs]
    unseen = member.plan.coverage.points - len(member.points)
    # As for a single collection: what is held out is left to `evaluate` if it has nothing else.
    if not workspace.judged_queries and unseen < MIN_UNSEEN:
        final = []
    own = Material(
        [_own_pairs(group, member) for group in material.pairs],
        replace(material.task, pairs=final),
    )
    fits = {direction: _own_fit(found, member) for direction, found in reports.items()}
    with open_store(workspace.config) as store:
        # Fitting took a while: a run may have begun meanwhile.
        load_trainable_plan(store, workspace.models, workspace.artefacts)
        keep_fits(workspace.artefacts, member.points, member.new, own, fits, fold=member.fold)
        learned, centring = learn_from_queries(
            *(store, workspace.models, workspace, (member.points, member.new)),
            reports=fits,
            options=options,
            report=_silent,
        )
    return TrainResult(member.plan, workspace.artefacts, own, fits, None, learned, centring)


def _own_pairs(group: Pairs, member: _Member) -> Pairs:
    rows, ids = _own_rows(group.ids, member)
    return replace(
        group,
        ids=ids,
        content_hashes=[group.content_hashes[row] for row in rows],
        old=group.old[rows],
        new=group.new[rows],
        side=None if group.side is None else group.side[rows],
    )


def _own_fit(found: FitReport, member: _Member) -> FitReport:
    if found.unseen is None:
        return found
    rows, ids = _own_rows(found.unseen.ids, member)
    return replace(
        found, unseen=replace(found.unseen, ids=ids, projected=found.unseen.projected[rows])
    )


def _own_rows(pooled: Sequence[PointId], member: _Member) -> tuple[list[int], list[PointId]]:
    """Return the rows of a collection's points in the pool, and their ids there."""
    rows = [row for row, point in enumerate(pooled) if point.startswith(member.prefix)]
    return rows, [pooled[row].removeprefix(member.prefix) for row in rows]


def _silent(stage: str, done: int, total: int, note: str = "", /) -> None:
    """Report nothing: what is shown is how many collections are done."""
