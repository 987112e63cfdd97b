"""What is chosen learns from every pair; errors are estimated without the pair itself."""

import dataclasses

import numpy as np
import pytest

from tests.unit.training.test_training_fit import HELD, options, world
from tests.unit.training.test_training_gaussian_process import SETTINGS, problem
from xbtmigrate.training import Pairs, fit
from xbtmigrate.training.kinds import gaussian_process as module
from xbtmigrate.training.kinds.gaussian_process import PROCESS
from xbtmigrate.training.pairs import joined_pairs
from xbtmigrate.types import Direction


def with_held(task, pairs):
    """The task with the pairs of its own points."""
    ids = [f"held {row}" for row in range(HELD)]
    held = Pairs(ids, [""] * HELD, task.gallery_old[:HELD], task.gallery_new[:HELD], pairs.source)
    return dataclasses.replace(task, pairs=[held])


@pytest.mark.parametrize(("kind", "better"), [("ridge", 0.9), ("gaussian_process", 0.5)])
def test_the_chosen_map_learns_from_the_pairs_that_chose_it(kind, better):
    pairs, task = world(curve=0.6)
    few = slice(0, 60)
    pairs = dataclasses.replace(
        pairs,
        ids=pairs.ids[few],
        content_hashes=pairs.content_hashes[few],
        old=pairs.old[few],
        new=pairs.new[few],
    )
    without = fit(Direction.FORWARD, [pairs], task, options(kind))
    report = fit(Direction.FORWARD, [pairs], with_held(task, pairs), options(kind))
    old, new = task.gallery_old[:HELD], task.gallery_new[:HELD]
    far, near = (np.mean((r.projector.apply(old) - new) ** 2) for r in (without, report))
    assert near < better * far
    # The figures stay those of the comparison, which did not know these pairs.
    assert report.candidates[0].scores == without.candidates[0].scores
    assert report.projector.manifest.data_digest != without.projector.manifest.data_digest
    unseen = report.unseen
    assert list(unseen.ids) == [*pairs.ids, *(f"held {row}" for row in range(HELD))]
    assert np.mean((unseen.projected[60:] - new) ** 2) > near


def test_a_pair_left_out_is_projected_as_by_a_process_without_it():
    given, settings = problem(curve=0.6), {**SETTINGS, "share": 0.5}
    fitted, projected = PROCESS.fit_leaving_out(given, settings)
    alike = PROCESS.fit(given, settings).architecture
    np.testing.assert_array_equal(fitted.architecture(given.x), alike(given.x))
    for row in (3, 77, 200):
        rest = given.take_subset(np.delete(np.arange(len(given.x)), row))
        expected = given.project(PROCESS.fit(rest, settings).architecture, given.x[[row]])[0]
        own = given.project(fitted.architecture, given.x[[row]])[0]
        # The scale of distances and the mean depend on the pair, too, but only a little.
        assert np.linalg.norm(projected[row] - expected) < 0.3 * np.linalg.norm(own - expected)


def test_errors_without_the_pair_are_those_on_unknown_points(monkeypatch):
    given = problem(curve=0.6)
    for most in (len(given.x), 200):
        monkeypatch.setattr(module, "EXACT", most)
        monkeypatch.setattr(module, "LANDMARKS", most)
        fitted, projected = PROCESS.fit_leaving_out(given, SETTINGS)
        of = fitted.architecture
        known, unknown = (
            np.mean((projected - given.y) ** 2),
            given.squared_errors(of, given.x_held, given.y_held).mean(),
        )
        assert given.squared_errors(of, given.x, given.y).mean() < 0.7 * unknown
        assert known == pytest.approx(unknown, rel=0.3)


def test_pairs_of_one_source_are_joined():
    pairs, task = world()
    (both,) = joined_pairs([pairs, *with_held(task, pairs).pairs])
    assert len(both) == len(pairs) + HELD
    np.testing.assert_array_equal(both.new[-HELD:], task.gallery_new[:HELD])
    assert both.side is None


@pytest.mark.parametrize("kind", ["ridge", "gaussian_process"])
def test_a_bridge_in_closed_form_projects_its_pairs_as_if_unseen(kind):
    pairs, task = world(noise=0.5)
    report = fit(Direction.BRIDGE, [pairs], task, options(kind))
    seen, unseen = report.projector.apply(pairs.new), report.unseen.projected
    assert list(report.unseen.ids) == list(pairs.ids)
    assert np.mean((unseen - pairs.old) ** 2) > np.mean((seen - pairs.old) ** 2)
