"""FastFill's classes: clusters of the new vectors, or labels of the points from a file."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from xbtmigrate_research.fastfill_classes import (
    BY_LABEL,
    CLUSTERS,
    FASTFILL_CLASSES,
    LABELS,
    FastFillClasses,
)

from tests.unit.training.test_training_fit import options, world
from tests.unit.training.test_training_kinds import problem
from xbtmigrate.errors import TrainingError
from xbtmigrate.training import find_trainer, fit
from xbtmigrate.training.fit_uncertainty import rank_correlation
from xbtmigrate.types import Direction, normalized


def unsure(trainer, given, classes):
    settings = trainer.settings(given, [])[0] | {"classes": classes}
    return rank_correlation(trainer.fit(given, settings).error(given.x_held), given.x_held[:, 0])


@pytest.mark.long
def test_clusters_leave_the_uncertainty_right():
    pairs, _ = world()
    rng = np.random.default_rng(0)
    blurred = pairs.new + rng.standard_normal(pairs.new.shape) * 0.4 * (pairs.old[:, :1] > 0)
    given = problem(pairs=dataclasses.replace(pairs, new=normalized(blurred.astype(np.float32))))
    assert unsure(FASTFILL_CLASSES, given, 8) > 0.5


@pytest.mark.long
def test_it_is_unsure_where_the_label_cannot_be_told():
    pairs, _ = world()
    rng = np.random.default_rng(0)
    labels = np.where(pairs.new[:, 1] < 0, "left", "right")
    mixed = pairs.old[:, 0] > 0
    labels[mixed] = rng.permutation(labels[mixed])
    # One point has no label: it counts in the other terms of the loss.
    known = dict(zip(pairs.ids[1:], labels[1:].tolist(), strict=True))
    given, labelled = problem(), FastFillClasses(known)
    tried = [each["classes"] for each in labelled.settings(given, [])]
    assert tried == [CLUSTERS, BY_LABEL]
    plain = find_trainer("fastfill")
    without = rank_correlation(
        plain.fit(given, plain.settings(given, [])[0]).error(given.x_held), given.x_held[:, 0]
    )
    assert unsure(labelled, given, BY_LABEL) > max(0.3, without)


@pytest.mark.long
def test_the_kind_is_found_by_name_and_reads_the_file_of_labels(tmp_path, monkeypatch):
    pairs, task = world()
    file = tmp_path / "labels.parquet"
    labels = [str(number % 2) for number in range(len(pairs))]
    pq.write_table(pa.table({"id": list(pairs.ids), "label": labels}), file)
    monkeypatch.setenv(LABELS, str(file))
    report = fit(Direction.FORWARD, [pairs], task, options("ridge", "fastfill_classes"))
    tried = {each.settings.get("classes") for each in report.candidates}
    assert tried == {None, CLUSTERS, BY_LABEL}


def test_without_a_file_classes_are_clusters(monkeypatch):
    monkeypatch.delenv(LABELS, raising=False)
    assert [e["classes"] for e in FASTFILL_CLASSES.settings(problem(), [])] == [CLUSTERS]


@pytest.mark.parametrize("columns", [{"id": ["x"], "label": ["a"]}, {"id": ["x"]}, None])
def test_labels_of_other_points_and_broken_files_are_refused(columns, tmp_path, monkeypatch):
    file = tmp_path / "labels.parquet"
    monkeypatch.setenv(LABELS, str(file))
    if columns is not None:
        pq.write_table(pa.table(columns), file)
    with pytest.raises(TrainingError, match=r"has a label|cannot be read"):
        FASTFILL_CLASSES.settings(problem(), [])
