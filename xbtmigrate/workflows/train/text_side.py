"""Make the table of words that turns texts into side vectors, before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.errors import EncoderError
from xbtmigrate.protocols import Encoder, Gallery
from xbtmigrate.side_information import (
    LEXICAL,
    WORDS,
    TextSide,
    Vocabulary,
    collect_vocabulary,
    fit_lexical,
    fit_words,
)
from xbtmigrate.types import Modality, Vectors, content_hash
from xbtmigrate.workflows.encode_points import Report, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

MAX_TEXTS = 20_000
"""Texts from which the vocabulary is taken."""
MAX_LEXICAL = 6000
MIN_WORDS = 200
"""A smaller vocabulary adds little to what the stored vector says of a text."""


def add_text_side(
    store: Store, models: Models, workspace: Workspace, points: Points, report: Report
) -> tuple[Points, TextSide | None]:
    """Give points the side vectors of their texts.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        points: A sample of the collection.
        report: Called with progress.

    Returns:
        The points, and what makes such vectors; None where they keep the stored ones, if any.
    """
    # A configured side vector takes precedence; a projector takes only one.
    if store.config.qdrant.side_vector:
        return points, None
    text_side = _make(store, models, workspace, points.texts, report)
    # An earlier projector may have made side vectors with another table of words.
    side = None if text_side is None else text_side.embed(points.texts)
    return replace(points, side=side), text_side


def _make(
    store: Store,
    models: Models,
    workspace: Workspace,
    texts: Sequence[str | None],
    report: Report,
) -> TextSide | None:
    """Embed the words of the collection once with the new model, if it can embed words.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        texts: Texts of a sample of the points.
        report: Called with progress.

    Returns:
        None where there are no texts, too few words, or nothing that embeds them.
    """
    config = store.config
    if not (config.payload.text and config.new_model.words):
        return None
    vocabulary = collect_vocabulary(_texts_of(store.reader()))
    if len(vocabulary) < MIN_WORDS:
        return None
    # A precomputed encoder may know no single words; `done` then has few rows.
    vectors, done = _embedded(models.new, workspace.cache, vocabulary, report)
    rows = np.flatnonzero(done).tolist()
    if len(rows) < MIN_WORDS:
        report("side information: the new model cannot embed single words, so none is used", 0, 0)
        return None
    # The table and its vectors must have the same rows.
    vocabulary = Vocabulary([vocabulary.words[row] for row in rows], vocabulary.rarity[rows])
    lexical = fit_lexical(vocabulary, texts[:MAX_LEXICAL])
    return TextSide(vocabulary, {WORDS: fit_words(vectors[rows]), LEXICAL: lexical})


def _texts_of(reader: Gallery) -> Iterator[str | None]:
    seen = 0
    for batch in reader.read({"source"}):
        yield from batch["text"].to_pylist()
        seen += len(batch)
        if seen >= MAX_TEXTS:
            return


def _embedded(
    encoder: Encoder, known: VectorCache, vocabulary: Vocabulary, report: Report
) -> tuple[Vectors, np.ndarray]:
    """Return the vectors of the words; those of an earlier run come from the cache."""
    # Not as a text that is this word alone: models may embed queries and texts differently.
    hashes = [content_hash(f"word: {word}") for word in vocabulary.words]
    vectors, done = known.find(hashes)
    missing = np.flatnonzero(~done)
    if not missing.size:
        return vectors, done
    words = [vocabulary.words[row] for row in missing.tolist()]
    try:
        found, readable = encode_readable(
            encoder, words, Modality.TEXT, report=report, stage="words, new model"
        )
    except EncoderError:
        return vectors, done
    vectors[missing], done[missing] = found, readable
    known.add([hashes[row] for row in missing[readable]], found[readable])
    return vectors, done
