"""Words as side information: what a collection or an encoder lacks breaks nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.errors import EncoderError, UnreadableSourceError
from xbtmigrate.side_information import collect_vocabulary, vocabulary
from xbtmigrate.types import Direction, make_batch
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.train.text_side import add_text_sides

RNG = np.random.default_rng(0)
ENGLISH = [" ".join(f"word{n:03}" for n in RNG.choice(300, 6, replace=False)) for _ in range(400)]
HAN = ["".join(chr(0x4E00 + n) for n in RNG.choice(40, 12)) for _ in range(400)]


class Reader:
    """Reads texts in batches, and counts the reads."""

    def __init__(self, texts):
        self.texts, self.reads = texts, 0

    def read(self, columns):
        self.reads += 1
        for start in range(0, len(self.texts), 100):
            part = self.texts[start : start + 100]
            yield make_batch([str(start + n) for n in range(len(part))], text=part)


class Words:
    """Embeds words, or raises; counts what it is given."""

    fingerprint, dimension = "words", 8

    def __init__(self, error=None):
        self.error, self.items = error, 0

    def encode(self, items, modality, ids=None):
        self.items += len(items)
        if self.error is not None:
            raise self.error(items)
        seeds = [sum(map(ord, item)) for item in items]
        return np.stack([np.random.default_rng(s).standard_normal(8) for s in seeds]).astype("f4")


def add(tmp_path, texts, *, field="text", words=True, encoder=None, old=None, side_vector=None):
    """Make side vectors of all texts; returns them, what made them, reader, encoder, messages.

    What made them is None for nothing, and by direction where there is an old model.
    """
    reader, encoder, messages = Reader(texts), encoder or Words(), []
    config = SimpleNamespace(
        qdrant=SimpleNamespace(side_vector=side_vector),
        payload=SimpleNamespace(text=field),
        new_model=SimpleNamespace(words=words),
        old_model=SimpleNamespace(words=old is not None),
    )
    count = len(texts)
    points = Points([""] * count, texts, [None] * count, [""] * count, np.ones((count, 4), "f4"))
    caches = {
        name: VectorCache(tmp_path / name, each.fingerprint, each.dimension)
        for name, each in (("cache", encoder), ("old_words", old or encoder))
    }
    found, made = add_text_sides(
        SimpleNamespace(config=config, reader=lambda: reader),
        SimpleNamespace(new=encoder, old=old, has_old=old is not None),
        SimpleNamespace(**caches),
        points,
        lambda stage, *_: messages.append(stage),
    )
    shown = made if old is not None else made.get(Direction.FORWARD)
    return found.side, shown, reader, encoder, messages


@pytest.mark.parametrize("texts", [ENGLISH, HAN], ids=["words", "no spaces"])
def test_texts_of_any_script_get_side_vectors(texts, tmp_path):
    side, made, _, encoder, _ = add(tmp_path, [*texts, None, ""])
    assert side.shape == (402, made.size)
    assert np.linalg.norm(side[:400, :8], axis=1) == pytest.approx(1, abs=1e-5)
    # A point without a text is no reason to fail: its words say nothing.
    assert not side[400:].any()
    assert encoder.items == len(made.vocabulary)


@pytest.mark.parametrize(
    ("texts", "how"),
    [
        ([None] * 50, {}),
        (["alone"] * 50, {}),
        (["only once " + str(n) for n in range(50)], {}),
        (ENGLISH, {"field": None}),
        (ENGLISH, {"words": False}),
    ],
    ids=["no text", "one word", "few words", "images", "switched off"],
)
def test_without_enough_words_nothing_is_embedded(texts, how, tmp_path):
    side, made, reader, encoder, _ = add(tmp_path, texts, **how)
    assert (side, made, encoder.items) == (None, None, 0)
    assert reader.reads == (0 if how else 1)


@pytest.mark.parametrize(
    "error",
    [
        lambda items: EncoderError("the service is down", "start it"),
        lambda items: UnreadableSourceError(dict.fromkeys(range(len(items)), "no such key")),
    ],
    ids=["as a whole", "each word"],
)
def test_an_encoder_that_refuses_single_words_is_reported(error, tmp_path):
    side, made, _, _, messages = add(tmp_path, ENGLISH, encoder=Words(error))
    assert (side, made) == (None, None)
    assert any("cannot embed single words" in message for message in messages)


def test_words_are_embedded_once(tmp_path):
    first = add(tmp_path, ENGLISH)
    second = add(tmp_path, ENGLISH)
    assert (first[3].items > 0, second[3].items) == (True, 0)
    np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.parametrize("side_vector", [None, "stored"])
def test_a_bridge_gets_the_words_by_the_old_model(side_vector, tmp_path):
    old = Words()
    side, made, reader, _, _ = add(tmp_path, ENGLISH, old=old, side_vector=side_vector)
    # Queries have no stored side vector, so one that is configured is for the forward map alone.
    assert set(made) == {Direction.BRIDGE} | (set() if side_vector else {Direction.FORWARD})
    assert made[Direction.BRIDGE].sizes == {"words": 8}
    assert (reader.reads, side is None) == (1, side_vector is not None)
    add(tmp_path, ENGLISH, old=old)
    assert old.items == len(made[Direction.BRIDGE].vocabulary)


def test_an_old_model_that_refuses_single_words_leaves_the_new_ones(tmp_path):
    gone = Words(lambda items: EncoderError("the service was shut down", "none"))
    side, made, _, _, messages = add(tmp_path, ENGLISH, old=gone)
    assert set(made) == {Direction.FORWARD}
    assert len(side) == len(ENGLISH)
    assert any("the old model cannot embed single words" in message for message in messages)


def test_countless_words_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(vocabulary, "MAX_COUNTED", 1000)
    unique = (f"common frequent unique{n:06}x{n:06}" for n in range(20_000))
    found = collect_vocabulary(unique)
    assert set(found.words) == {"common", "frequent"}
    monkeypatch.undo()
    many = collect_vocabulary(f"a{n % 40_000:05}" for n in range(80_000))
    assert len(many) == vocabulary.MAX_WORDS
