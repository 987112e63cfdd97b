"""Queries that are made from points: what answers them, and what they may be compared with."""

import numpy as np

from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.types import Distance, normalized
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.train.known_queries import ask_with_points, know_questions

RNG = np.random.default_rng(0)


def points_of(names, old):
    return Points(names, ["text"] * len(names), [None] * len(names), [""] * len(names), old)


class Bridge:
    """Maps a query to the number of letters of its text."""

    def apply_to_queries(self, vectors, texts):
        return np.array([[len(text)] for text in texts], np.float32)


def test_a_question_is_answered_by_the_point_it_was_made_from():
    points = points_of(["a", "b", "c"], np.ones((3, 2), np.float32))
    questions = Questions(["long", "x"], [["c"], ["a"]], "made", provisional=True)
    old, new = np.zeros((2, 2), np.float32), np.ones((2, 4), np.float32)
    known = know_questions(points, questions, old, new, Bridge())
    assert (known.ids, known.rows.tolist()) == (["c", "a"], [2, 0])
    assert known.bridged.tolist() == [[4], [1]]
    assert known.rest(1).bank().ids == ["a"]


def test_points_are_answered_by_their_nearest_point_and_not_by_themselves():
    new = normalized(RNG.standard_normal((60, 8)).astype(np.float32))
    old = new[:, :4]
    asking = points_of([f"q{n}" for n in range(20)], old[:20])
    known = ask_with_points(asking, new[:20], old[:20] + 1, new[20:], Distance.COSINE)
    assert known.rows.tolist() == (new[:20] @ new[20:].T).argmax(axis=1).tolist()
    assert known.relevance.row.tolist() == known.rows.tolist()
    # Its own point is the query itself, which says nothing of how near that point is to others.
    bank = known.rest(0).bank()
    assert bank.ids == [f"q{n}" for n in range(0, 20, 2)]
    np.testing.assert_array_equal(bank.bridged, old[:20:2] + 1)
