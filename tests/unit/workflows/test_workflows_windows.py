"""Long texts are averaged over windows where the stored vectors show that the writer did so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from xbtmigrate import registry
from xbtmigrate.config import check_config
from xbtmigrate.encoders.checked import CheckedEncoder
from xbtmigrate.encoders.mean_of_windows import MeanOfWindows, cut_windows
from xbtmigrate.errors import ConfigError, GateError, UnreadableSourceError
from xbtmigrate.testing.encoders import FakeEncoder
from xbtmigrate.types import Modality, Vectors
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.plan.window_match import compare_windows, require_mean
from xbtmigrate.workflows.points import Points

WINDOW = 4
SHORT, LONG = "one two three", "one two three four five six seven eight nine"
TEXTS = [" ".join(f"word{row}-{place}" for place in range(row % 12 + 1)) for row in range(60)]


class Reading(FakeEncoder):
    """A model that reads the first four words."""

    def encode(self, items, modality, *, ids=None):
        cut = [" ".join(item.split()[:WINDOW]) for item in items]
        return super().encode(cut, modality, ids=ids)

    def find_truncated(self, texts: Sequence[str]) -> list[int]:
        return [row for row, text in enumerate(texts) if len(text.split()) > WINDOW]

    def split_windows(self, text: str) -> list[tuple[str, int]]:
        words, end, places = text.split(), 0, []
        for word in words:
            start = text.index(word, end)
            end = start + len(word)
            places.append((start, end))
        return cut_windows(text, places, WINDOW)


def by_hand(text: str) -> Vectors:
    words = text.split()
    parts = [words[start : start + WINDOW] for start in range(0, len(words), WINDOW)]
    made = FakeEncoder().encode([" ".join(part) for part in parts], Modality.TEXT)
    mean = (made * np.array([[len(part)] for part in parts])).sum(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_long_document_gets_the_weighted_mean_of_its_windows_and_a_query_does_not():
    encoder = CheckedEncoder(MeanOfWindows(Reading()))
    ids = [str(row) for row in range(len(TEXTS))]
    made = encoder.encode(TEXTS, Modality.TEXT, ids=ids)
    np.testing.assert_allclose(made, [by_hand(text) for text in TEXTS], atol=1e-6)
    plain = Reading().encode(TEXTS, Modality.TEXT)
    np.testing.assert_array_equal(encoder.encode(TEXTS, Modality.TEXT), plain)
    short = [row for row, text in enumerate(TEXTS) if len(text.split()) <= WINDOW]
    np.testing.assert_array_equal(made[short], plain[short])
    assert encoder.find_truncated(TEXTS) == []
    assert encoder.fingerprint != Reading().fingerprint


def test_a_refused_window_refuses_its_text():
    encoder = MeanOfWindows(Reading(failing=["five six seven eight"]))
    with pytest.raises(UnreadableSourceError) as refused:
        encoder.encode([SHORT, LONG], Modality.TEXT, ids=["1", "2"])
    assert set(refused.value.failures) == {1}


def test_windows_cover_a_text_and_keep_what_is_read_whole():
    assert Reading().split_windows(f" {SHORT} ") == [(f" {SHORT} ", 3)]
    assert Reading().split_windows(LONG) == [
        ("one two three four", 4),
        ("five six seven eight", 4),
        ("nine", 1),
    ]
    assert cut_windows("", [], 4) == [("", 1)]


def points(old: Vectors, texts: Sequence[str] = TEXTS) -> Points:
    rows = range(len(texts))
    return Points([str(row) for row in rows], texts, [None] * len(texts), [""] * len(texts), old)


@pytest.mark.parametrize("wrap", [lambda each: each, MeanOfWindows])
def test_the_stored_vectors_tell_a_mean_from_a_cut(wrap):
    encoder = CheckedEncoder(wrap(Reading()))
    means = np.array([by_hand(text) for text in TEXTS], np.float32)
    found = compare_windows(points(means), encoder, Modality.TEXT)
    assert found is not None
    assert found.mean > 0.9999
    assert found.first < 0.99
    assert found.is_mean(0.99)
    require_mean(found, 0.99)
    cut = compare_windows(points(Reading().encode(TEXTS, Modality.TEXT)), encoder, Modality.TEXT)
    assert cut is not None
    assert cut.first > 0.9999
    assert not cut.is_mean(0.99)
    with pytest.raises(GateError, match=r"the first window by 1\.0000") as refused:
        require_mean(cut, 0.99)
    assert "remove the key" in refused.value.hint


def test_without_a_long_text_nothing_is_known():
    short = [text for text in TEXTS if len(text.split()) <= WINDOW]
    held = points(Reading().encode(short, Modality.TEXT), short)
    assert compare_windows(held, CheckedEncoder(Reading()), Modality.TEXT) is None
    assert compare_windows(held, CheckedEncoder(FakeEncoder()), Modality.TEXT) is None
    assert compare_windows(held, CheckedEncoder(Reading()), Modality.IMAGE) is None
    with pytest.raises(GateError, match="cannot be checked"):
        require_mean(None, 0.99)


def config(**old: str):
    tables = {
        "qdrant": {"url": "path:q", "collection": "c"},
        "payload": {"text": "text", "image": "image"},
        "old_model": {"encoder": "precomputed", "path": "a", "stored": "text"} | old,
        "new_model": {"encoder": "precomputed", "path": "a"},
    }
    tables["old_model"] = {key: each for key, each in tables["old_model"].items() if each}
    return check_config(tables, Path("x.toml"))


def test_both_models_average_where_the_writer_did(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "build", lambda *_: Reading())
    models = Models(config(chunk="mean"))
    for encoder in (models.old, models.new):
        assert isinstance(encoder, CheckedEncoder)
        assert isinstance(encoder.encoder, MeanOfWindows)
    monkeypatch.setattr(registry, "build", lambda *_: FakeEncoder())
    with pytest.raises(ConfigError, match="split texts into windows"):
        _ = Models(config(chunk="mean")).new
    assert not isinstance(Models(config()).new.encoder, MeanOfWindows)


@pytest.mark.parametrize(
    "old",
    [
        {"chunk": "median"},
        {"chunk": "mean", "stored": "image"},
        {"chunk": "mean", "encoder": "none", "path": ""},
    ],
)
def test_a_mean_that_cannot_be_is_refused_at_once(old: dict[str, str]):
    with pytest.raises(ConfigError, match=r"old_model\.chunk"):
        config(**old)
