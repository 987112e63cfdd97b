"""Side information: texts of any language become vectors, the same everywhere."""

import dataclasses

import numpy as np
import pytest

from xbtmigrate import Projector
from xbtmigrate.errors import ArtefactError
from xbtmigrate.projectors import Affine, Manifest, open_side
from xbtmigrate.side_information import (
    TextSide,
    Vocabulary,
    collect_vocabulary,
    fit_lexical,
    fit_words,
    split_words,
)
from xbtmigrate.side_information.tokens import MAX_TOKENS
from xbtmigrate.types import Direction, Distance

TEXTS = ["a red fox runs", "the red fox sleeps", "blue whales sing", "the whales are blue", None]


def side(texts=TEXTS):
    vocabulary = collect_vocabulary(texts)
    vectors = np.random.default_rng(0).standard_normal((len(vocabulary), 6)).astype(np.float32)
    tables = {"words": fit_words(vectors), "lexical": fit_lexical(vocabulary, texts, 3)}
    return TextSide(vocabulary, tables)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The FOX, the fox's den!", ["the", "fox", "the", "fox", "den"]),
        ("Größe der Straße", ["grösse", "der", "strasse"]),
        ("東京都に行く", ["東京", "京都", "都に", "に行", "行く"]),
        ("GPU で学習", ["gpu", "で学", "学習"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("", []),
        ("x" * 50, []),
    ],
)
def test_words_of_any_script_are_told_apart(text, words):
    assert split_words(text) == words


def test_a_long_text_costs_no_more_than_its_beginning():
    assert len(split_words("word " * 100_000)) == MAX_TOKENS


def test_the_vocabulary_keeps_the_commonest_words_that_occur_twice():
    found = collect_vocabulary(TEXTS)
    assert set(found.words) == {"red", "fox", "the", "blue", "whales"}
    assert collect_vocabulary(TEXTS, most=2).words == ["blue", "fox"]
    assert len(collect_vocabulary([])) == len(collect_vocabulary(["alone", None])) == 0


def test_rare_and_early_words_count_more():
    vocabulary = Vocabulary(["early", "late", "rare"], np.float32([1, 1, 3]))
    padding = " ".join(["filler"] * 30)
    row = vocabulary.weigh([f"early {padding} late", "early rare", None]).toarray()
    assert row[0, 0] > 2 * row[0, 1] > 0
    assert row[1, 2] > row[1, 0]
    np.testing.assert_allclose(np.linalg.norm(row, axis=1), [1, 1, 0], atol=1e-6)


def test_texts_with_the_same_words_lie_near_each_other():
    made = side()
    vectors = made.embed(["red fox", "a red, red fox", "blue whales", "nothing known", None])
    assert vectors.shape == (5, made.size)
    assert made.size == sum(made.sizes.values()) == 6 + 3
    assert vectors[0, :6] @ vectors[1, :6] > 0.9 > vectors[0, :6] @ vectors[2, :6]
    assert not vectors[3:].any()


def test_one_word_is_a_vocabulary():
    vocabulary = Vocabulary(["only"], np.float32([1]))
    made = TextSide(vocabulary, {"words": np.ones((1, 2), np.float32)})
    np.testing.assert_allclose(made.embed(["only", "other"]), [[0.5**0.5] * 2, [0, 0]], atol=1e-6)


def projector_with(made, d_side):
    """A projector from 4 to 5 dimensions that takes side vectors of this length."""
    facts = Manifest(
        Direction.FORWARD, "test", 4, 5, Distance.COSINE, Distance.COSINE, d_side=d_side
    )
    weight = np.random.default_rng(1).standard_normal((4 + d_side, 5)).astype(np.float32)
    return Projector(facts, Affine(weight, np.zeros(5, np.float32)), text_side=made)


def test_side_vectors_are_made_without_reading_the_map(tmp_path, monkeypatch):
    made = side()
    projector_with(made, made.size).save(tmp_path)
    monkeypatch.setattr(Affine, "from_tensors", lambda _: pytest.fail("read the map"))
    size, embed = open_side(tmp_path)
    assert size == made.size
    np.testing.assert_array_equal(embed(TEXTS), made.embed(TEXTS))


def test_a_damaged_table_of_words_is_refused_where_it_is_first_used(tmp_path):
    made = side()
    projector_with(made, made.size).save(tmp_path)
    tensors = tmp_path / "projector.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    _, embed = open_side(tmp_path)
    with pytest.raises(ArtefactError, match="damaged"):
        embed(TEXTS)
    tensors.write_bytes(b"!")
    with pytest.raises(ArtefactError, match="damaged"):
        open_side(tmp_path)
    tensors.unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        open_side(tmp_path)


@pytest.mark.parametrize("size", [0, 3])
def test_nothing_is_made_of_texts_where_the_map_takes_none_or_a_stored_vector(size, tmp_path):
    projector_with(None, size).save(tmp_path)
    assert open_side(tmp_path) == (size, None)


def test_a_projector_keeps_what_its_side_vectors_are_made_with(tmp_path):
    made = side()
    projector = projector_with(made, made.size)
    projector.save(tmp_path / "projector")
    loaded = Projector.load(tmp_path / "projector")
    assert loaded.digest == projector.digest
    np.testing.assert_array_equal(loaded.text_side.embed(TEXTS), made.embed(TEXTS))
    old = np.ones((len(TEXTS), 4), np.float32)
    mapped = loaded.apply(old, loaded.text_side.embed(TEXTS))
    np.testing.assert_array_equal(mapped, projector.apply(old, made.embed(TEXTS)))
    assert mapped.shape == (len(TEXTS), 5)
    with pytest.raises(ArtefactError, match="table of words"):
        projector_with(TextSide(made.vocabulary, {}), made.size)


def bridge_with(made):
    """A bridge from 4 to 5 dimensions, with another map for queries without a known word."""
    whole, rng = projector_with(made, made.size), np.random.default_rng(2)
    plain = Affine(rng.standard_normal((4, 5)).astype(np.float32), np.ones(5, np.float32))
    manifest = dataclasses.replace(whole.manifest, direction=Direction.BRIDGE)
    return dataclasses.replace(whole, manifest=manifest, plain=plain)


def test_queries_without_a_known_word_take_the_map_without_side_vectors(tmp_path):
    made = side()
    bridge_with(made).save(tmp_path / "bridge")
    bridge = Projector.load(tmp_path / "bridge")
    assert bridge.digest == bridge_with(made).digest
    assert bridge.digest != dataclasses.replace(bridge, plain=None).digest
    texts = [TEXTS[0], "unheardof", None, TEXTS[1]]
    queries = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    mapped, plain = bridge.apply_to_queries(queries, texts), bridge.without_side()
    np.testing.assert_array_equal(mapped[1:3], plain.apply(queries[1:3]))
    known = projector_with(made, made.size).apply(queries[[0, 3]], made.embed([texts[0], texts[3]]))
    np.testing.assert_allclose(mapped[[0, 3]], known, atol=1e-6)
    np.testing.assert_array_equal(bridge.apply(queries), plain.apply(queries))
    assert plain.d_side == 0
    assert plain.without_side() is plain


def test_a_map_that_needs_side_vectors_is_none_without_them():
    made = side()
    with pytest.raises(ArtefactError, match="needs side vectors"):
        projector_with(made, made.size).without_side()
    narrow = Affine(np.ones((3, 5), np.float32), np.zeros(5, np.float32))
    with pytest.raises(ArtefactError, match="without side vectors 3 -> 5"):
        dataclasses.replace(bridge_with(made), plain=narrow)
