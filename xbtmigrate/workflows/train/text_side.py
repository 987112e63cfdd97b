"""Make the tables of words that turn texts into side vectors, before anything is fitted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
from xbtmigrate.types import Direction, Modality, Vectors, content_hash
from xbtmigrate.workflows.encode_points import Report, encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.workspace import Workspace

MAX_TEXTS = 20_000
"""Texts from which the vocabulary is taken."""
MAX_LEXICAL = 6000
PROBED = 32
"""Words by which it is seen whether a model can embed single words."""
MAX_PROBED = 1000
"""Texts that these are taken from."""
MIN_WORDS = 200
"""A smaller vocabulary adds little to what the stored vector says of a text."""


@dataclass(frozen=True)
class _Source:
    """What embeds the words for the side vectors of one direction.

    Attributes:
        name: The model in words.
        encoder: The model.
        cache: Its vectors of an earlier run.
        lexical: Whether side vectors also tell which words a text has.
    """

    name: str
    encoder: Encoder
    cache: VectorCache
    lexical: bool


def add_text_sides(
    store: Store,
    models: Models,
    workspace: Workspace,
    points: Points,
    report: Report,
    *,
    directions: Collection[Direction] = tuple(Direction),
) -> tuple[Points, dict[Direction, TextSide]]:
    """Give points the side vectors of their texts for a forward projector.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        points: A sample of the collection.
        report: Called with progress.
        directions: Directions that are fitted.

    Returns:
        The points, and what makes side vectors of texts in each direction where that is possible.
        For a forward projector it is the words by the new model, unless a stored side vector is
        configured; for a bridge, which maps queries, the words by the old model: once embedded,
        they outlive it.
    """
    config, sources = store.config, {}
    stored = config.qdrant.side_vector is not None
    if Direction.FORWARD in directions and config.new_model.words and not stored:
        sources[Direction.FORWARD] = _Source("new model", models.new, workspace.cache, lexical=True)
    if Direction.BRIDGE in directions and config.old_model.words and models.has_old:
        # Which words a query has is no help: it has too few.
        sources[Direction.BRIDGE] = _Source(
            "old model", models.old, workspace.old_words, lexical=False
        )
    made = _make(store, sources, points.texts, report)
    if stored:
        return points, made
    # An earlier projector may have made side vectors with another table of words.
    forward = made.get(Direction.FORWARD)
    return replace(points, side=forward.embed(points.texts) if forward else None), made


def _make(
    store: Store,
    sources: Mapping[Direction, _Source],
    texts: Sequence[str | None],
    report: Report,
) -> dict[Direction, TextSide]:
    """Embed the words of the collection once with each model that can embed words.

    Args:
        store: What the migration has in Qdrant.
        sources: What embeds them for each direction.
        texts: Texts of a sample of the points.
        report: Called with progress.

    Returns:
        Nothing where there are no texts or too few words, or for a model that embeds too few.
    """
    able = {}
    for direction, source in sources.items() if store.config.payload.text else ():
        # A precomputed encoder may know no single words; the whole vocabulary takes seconds.
        if _embeds_words(source, texts):
            able[direction] = source
        else:
            _say_unable(source, report)
    vocabulary = collect_words(store) if able else None
    if vocabulary is None:
        return {}
    made = {}
    for direction, source in able.items():
        vectors, done = _embedded(source, vocabulary, report)
        rows = np.flatnonzero(done).tolist()
        if len(rows) < MIN_WORDS:
            _say_unable(source, report)
            continue
        # The table and its vectors must have the same rows.
        known = Vocabulary([vocabulary.words[row] for row in rows], vocabulary.rarity[rows])
        blocks = {WORDS: fit_words(vectors[rows])}
        if source.lexical:
            blocks[LEXICAL] = fit_lexical(known, texts[:MAX_LEXICAL])
        made[direction] = TextSide(known, blocks)
    return made


def _embeds_words(source: _Source, texts: Sequence[str | None]) -> bool:
    """Return whether the model embeds any of the commonest words of a sample of the texts."""
    found = collect_vocabulary(texts[:MAX_PROBED])
    # Too few to tell, and perhaps too few to embed any: the collection's vocabulary decides.
    if len(found) < MIN_WORDS:
        return True
    common = Vocabulary(found.words[:PROBED], found.rarity[:PROBED])
    return bool(_embedded(source, common, lambda *_: None)[1].any())


def _say_unable(source: _Source, report: Report) -> None:
    text = f"side information: the {source.name} cannot embed single words, so none is used"
    report(text, 0, 0)


def collect_words(store: Store) -> Vocabulary | None:
    """Return the words of the collection's texts; None where there are none or too few."""
    if not store.config.payload.text:
        return None
    vocabulary = collect_vocabulary(_texts_of(store.reader()))
    return vocabulary if len(vocabulary) >= MIN_WORDS else None


def _texts_of(reader: Gallery) -> Iterator[str | None]:
    seen = 0
    for batch in reader.read({"source"}):
        yield from batch["text"].to_pylist()
        seen += len(batch)
        if seen >= MAX_TEXTS:
            return


def _embedded(
    source: _Source, vocabulary: Vocabulary, report: Report
) -> tuple[Vectors, np.ndarray]:
    """Return the vectors of the words; those of an earlier run come from the cache."""
    # Not as a text that is this word alone: models may embed queries and texts differently.
    hashes = [content_hash(f"word: {word}") for word in vocabulary.words]
    vectors, done = source.cache.find(hashes)
    missing = np.flatnonzero(~done)
    if not missing.size:
        return vectors, done
    words = [vocabulary.words[row] for row in missing.tolist()]
    try:
        found, readable = encode_readable(
            source.encoder, words, Modality.TEXT, report=report, stage=f"words, {source.name}"
        )
    except EncoderError:
        return vectors, done
    vectors[missing], done[missing] = found, readable
    source.cache.add([hashes[row] for row in missing[readable]], found[readable])
    return vectors, done
