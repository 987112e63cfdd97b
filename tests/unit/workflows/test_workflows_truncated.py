"""Texts that the new model does not read to their end are counted and named by `plan`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.migration.plan import Coverage
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality
from xbtmigrate.workflows.plan.coverage import add_sample, warn_of_coverage
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.train.make_pairs import EmbeddedRows

TEXTS = ["short", "a text that is far too long", "brief", "another text that is too long"]
IDS = ["1", "2", "3", "4"]
FACTS = SimpleNamespace(points=4, with_vector=4, vector="old")


class Cutting(FakeEncoder):
    def find_truncated(self, texts):
        return [row for row, text in enumerate(texts) if len(text) > 10]


def counted(encoder, stored=Modality.TEXT):
    old = np.ones((4, 8), np.float32)
    models = SimpleNamespace(new=CheckedEncoder(encoder), stored=stored)
    points = Points(IDS, TEXTS, ["a.png"] * 4, [""] * 4, old)
    found = Coverage(points=4, with_text=4, with_image=4, with_old_vector=4, missing_source=0)
    found = add_sample(found, models, points, EmbeddedRows(old, np.ones(4, np.bool_)))
    return found, warn_of_coverage(FACTS, models, found)


def test_cut_texts_are_counted_and_named():
    found, warnings = counted(Cutting())
    assert found.sample_truncated == 2
    assert found.examples_truncated == ["2", "4"]
    assert "2 of 4 sampled points" in warnings[0]
    assert "2, 4" in warnings[0]


@pytest.mark.parametrize(("encoder", "stored"), [(FakeEncoder(), "text"), (Cutting(), "image")])
def test_nothing_is_said_where_nothing_is_known(encoder, stored):
    found, warnings = counted(encoder, Modality(stored))
    assert found.sample_truncated == 0
    assert warnings == []
