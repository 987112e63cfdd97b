"""Count which points can get a new vector, and refuse where too many cannot."""

from __future__ import annotations

from itertools import chain

import numpy as np

from xbtmigrate.backfill.id_set import IdSet
from xbtmigrate.errors import CollectionError, GateError
from xbtmigrate.migration.plan import Coverage, Target
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.qdrant.collection.facts import CollectionFacts
from xbtmigrate.qdrant.gallery.open_gallery import copied_vectors, open_reader
from xbtmigrate.qdrant.gallery.replicate import scroll_without
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import Kind, Layout, Modality, PointId, Strategy
from xbtmigrate.workflows.encode_points import Report
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import SHOWN, Points, Survey
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows


def make_coverage(facts: CollectionFacts, models: Models, seen: Survey) -> Coverage:
    """Turn the survey into coverage.

    Raises:
        CollectionError: No point has the embedded field.
        GateError: More points than allowed lack it.
    """
    field = getattr(models.config.payload, models.stored)
    name = facts.collection
    # No point has it: the setting is wrong, not the data.
    if seen.missing == seen.points:
        raise CollectionError(
            f"no point of '{name}' has the payload field '{field}'",
            f"set payload.{models.stored} to the field that was embedded",
        )
    allowed = models.config.plan.max_missing
    if seen.missing > allowed * seen.points:
        raise GateError(
            f"{seen.missing} of {seen.points} points of '{name}' have no '{field}' "
            f"(for example {', '.join(seen.examples_missing)}); at most {allowed:.2%} may lack it",
            "complete the payload, or raise plan.max_missing: these points stay as they are",
        )
    return Coverage(
        points=seen.points,
        with_text=seen.with_text,
        with_image=seen.with_image,
        with_old_vector=facts.with_vector - seen.unusable,
        unusable_old=seen.unusable,
        examples_unusable=seen.examples_unusable,
        missing_source=seen.missing,
        with_neither=seen.neither,
        examples_missing=seen.examples_missing,
    )


def find_without_old(store: Store) -> IdSet:
    """Find the points that have no old vector at all."""
    facts = store.facts
    reader = open_reader(store.connection, facts, facts.collection)
    return _find_without(reader, facts.vector, facts.points)


def _find_without(reader: Reader, vector: str, points: int) -> IdSet:
    """Find the points that lack a vector, with a filter on the server."""
    # The common case is known from two counts, without reading any id.
    if reader.count_with_vector(vector) == points:
        return IdSet()
    return IdSet(chain.from_iterable(scroll_without(reader, vector)))


def require_sample(facts: CollectionFacts, seen: Survey, points: Points) -> None:
    """Raise if no sample point has a usable old vector, since nothing could be measured.

    Raises:
        CollectionError: None has one.
    """
    if len(points):
        return
    name, usable = facts.collection, facts.with_vector - seen.unusable
    if usable > 0 and len(seen.sample) < seen.points - seen.missing:
        raise CollectionError(
            f"none of {len(seen.sample):,} sample points of '{name}' has a usable vector "
            f"'{facts.vector}', {usable:,} others have one",
            "raise plan.sample",
        )
    raise CollectionError(
        f"no point of '{name}' with content has a usable vector '{facts.vector}': "
        f"{facts.points:,} points, {seen.unusable:,} vectors not finite, zero or of absurd "
        "length",
        "name the vector that applications search in qdrant.vector, or write the points again "
        "with vectors of the old model",
    )


def count_without_vector(
    coverage: Coverage, strategy: Strategy, fraction: float, allowed: float
) -> dict[Kind, int]:
    """Count the points for which the chosen strategy cannot make a new vector.

    Raises:
        GateError: They are more than allowed.
    """
    spec = STRATEGIES[strategy]
    if not spec.writes:
        return {}
    if not spec.projects:
        return {Kind.NO_CONTENT: coverage.missing_source}
    # A point without an old vector can be encoded, one without its source projected: only those
    # with neither are left.
    if fraction > 0:
        return {Kind.NO_CONTENT: coverage.with_neither}
    # An unusable vector counts as missing: it cannot be projected either.
    lacking = coverage.points - coverage.with_old_vector
    if lacking > allowed * coverage.points:
        raise GateError(
            f"{lacking:,} of {coverage.points:,} points have no usable old vector, and a plan that "
            f"encodes nothing gives them no new one; at most {allowed:.2%} may lack it",
            'set plan.strategy = "fastfill", which encodes them, or raise plan.max_missing',
        )
    return {Kind.NO_OLD_VECTOR: lacking}


def add_sample(coverage: Coverage, models: Models, points: Points, new: EmbeddedRows) -> Coverage:
    """Add how much of a sample, which has content, the new model cannot embed, or not whole."""
    cut = _find_truncated(models, points)
    lost = [points.ids[row] for row in np.flatnonzero(~new.valid).tolist()]
    return coverage.model_copy(
        update={
            "sampled": len(points),
            "sample_unreadable": len(lost),
            "examples_unreadable": lost[:SHOWN],
            "sample_truncated": len(cut),
            "examples_truncated": cut[:SHOWN],
        }
    )


def _find_truncated(models: Models, points: Points) -> list[PointId]:
    """Return the points whose text the new model does not read to its end."""
    # Optional beyond the protocol: services do not say how they cut a text.
    find = getattr(models.new, "find_truncated", None)
    if find is None or models.stored is not Modality.TEXT:
        return []
    return [points.ids[row] for row in find([str(text) for text in points.content(Modality.TEXT)])]


def require_readable(coverage: Coverage, fraction: float, allowed: float) -> None:
    """Raise if the run would stop half-way because too many points cannot be embedded.

    Args:
        coverage: With its sample.
        fraction: Share of the points that is to be encoded.
        allowed: Largest share of points that may fail.

    Raises:
        GateError: The sample leaves no doubt that more will fail.
    """
    lost, sampled = coverage.sample_unreadable, coverage.sampled
    # Two standard deviations below what was found; that of a count n is about sqrt(n) (Poisson).
    if (lost - 2 * lost**0.5) * fraction > allowed * sampled:
        raise GateError(
            f"the new model cannot embed {lost} of {sampled} sampled points "
            f"(for example {', '.join(coverage.examples_unreadable)}); at most {allowed:.2%} of "
            "all points may fail",
            "correct their content or the options of [new_model], raise plan.max_missing, or set "
            'plan.strategy = "forward", which encodes nothing',
        )


def warn_of_coverage(facts: CollectionFacts, models: Models, coverage: Coverage) -> list[str]:
    """Return warnings about points that cannot be encoded or projected."""
    found, stored = [], models.stored
    if coverage.missing_source:
        found.append(f"{coverage.missing_source} points have no {stored}; they cannot be encoded")
    if coverage.sample_unreadable:
        found.append(
            f"the new model cannot embed {coverage.sample_unreadable} of {coverage.sampled} "
            f"sampled points (for example {', '.join(coverage.examples_unreadable)}); costs leave "
            "out the same share of all points, and quality is measured on the others"
        )
    if coverage.sample_truncated:
        found.append(
            f"the texts of {coverage.sample_truncated} of {coverage.sampled} sampled points are "
            f"longer than the new model reads (for example "
            f"{', '.join(coverage.examples_truncated)}); their ends do not count, neither in the "
            "new vectors nor in what is measured here"
        )
    missing = facts.points - facts.with_vector
    if missing:
        found.append(f"{missing} points have no vector '{facts.vector}'; they cannot be projected")
    if coverage.unusable_old:
        found.append(
            f"{coverage.unusable_old} points have a vector '{facts.vector}' that is not finite, "
            f"zero or of absurd length (for example {', '.join(coverage.examples_unusable)}); they "
            "cannot be projected"
        )
    return found


def warn_of_copies(store: Store, layout: Target, report: Report) -> list[str]:
    """Return warnings about other vectors that a shadow will lack because they are not finite."""
    if layout.layout is Layout.IN_PLACE:
        return []
    facts = store.facts
    reader = open_reader(store.connection, facts, facts.collection)
    lost: dict[str, list[PointId]] = {name: [] for name in copied_vectors(facts, layout)}
    if not lost:
        return []
    # Pages leave out vectors that are not finite, but the server counts them.
    absent = {name: _find_without(reader, name, facts.points) for name in lost}
    seen = 0
    for page in reader.scroll(payload=False, vectors=list(lost)):
        for name, ids in lost.items():
            bare = [
                each for each, has in zip(page.ids, page.vectors, strict=True) if name not in has
            ]
            known = absent[name].contains(bare)
            ids += [each for each, missing in zip(bare, known, strict=True) if not missing]
        seen += len(page)
        report("checking other vectors", seen, max(seen, facts.points))
    return [
        f"{len(ids)} points have a vector '{name}' that is not finite (for example "
        f"{', '.join(ids[:SHOWN])}); their copies in the shadow are made without it"
        for name, ids in lost.items()
        if ids
    ]
