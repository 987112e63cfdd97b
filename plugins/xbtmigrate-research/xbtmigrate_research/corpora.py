"""The corpora that methods are measured on, read from a folder of Parquet files.

`debian`: descriptions of packages, asked for by their synopses, from TF-IDF/SVD to MiniLM.
`neural`: 6,000 of these from MiniLM to multilingual-e5-small. `clipart`: pictures, asked for by
their captions, from a small CLIP to a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.types import Vectors, normalized, vectors_of

CORPORA = ("clipart", "debian", "neural")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Gallery and queries in both models, all of unit length.

    Attributes:
        texts: Text of each point, m; captions where points are pictures.
        asked: Text of each query, q.
        old: Gallery in the old model, (m, d_old).
        new: Gallery in the new model, (m, d_new).
        asked_old: Queries in the old model, (q, d_old).
        asked_new: Queries in the new model, (q, d_new).
        rel: Row of the gallery that answers each query, (q,).
        questions: A question for each point in the old and in the new model, (m, d_old) and
            (m, d_new): to train with. Where there are none, the points ask for themselves.
        pictures: Whether points are pictures.
        words: Words embedded by the new model, where they were.
        old_words: The same by the old model.
        folder: The folder that holds pictures and models, for methods that embed anew.
    """

    texts: Sequence[str]
    asked: Sequence[str]
    old: Vectors
    new: Vectors
    asked_old: Vectors
    asked_new: Vectors
    rel: npt.NDArray[np.intp]
    questions: tuple[Vectors, Vectors]
    pictures: bool = False
    words: Mapping[str, Vectors] | None = None
    old_words: Mapping[str, Vectors] | None = None
    folder: Path | None = None


def read_corpus(name: str, data: Path) -> Corpus:
    """Read a corpus by its name from the folder that holds all of them."""
    if name == "clipart":
        return _pictures(data)
    folder = data / "text"
    if name == "neural":
        kept = set(pq.read_table(folder / "e5-documents.parquet")["id"].to_pylist())
        models = "new-minilm384-by-text", "e5-small384-by-text"
        words = "words-e5-small384", "words-minilm384"
        return _texts(folder, models, "e5-queries", words, kept)
    models = "old-svd128-by-text", "new-minilm384-by-text"
    return _texts(folder, models, "queries", ("words-minilm384", ""), None)


def _texts(
    folder: Path,
    models: tuple[str, str],
    queries: str,
    words: tuple[str, str],
    kept: set[int] | None,
) -> Corpus:
    """Read descriptions, asked for by synopses."""
    rows = pq.read_table(folder / "debian-packages.parquet").to_pylist()
    rows = [row for row in rows if kept is None or row["id"] in kept]
    place = {str(row["id"]): number for number, row in enumerate(rows)}
    asked = [
        each
        for each in pq.read_table(folder / f"{queries}.parquet").to_pylist()
        if each["relevant"][0] in place
    ]
    test = [each for each in asked if each.get("split", "test") == "test"]
    texts, queried = [row["description"] for row in rows], [each["text"] for each in test]
    of_point = {place[each["relevant"][0]]: each["text"] for each in asked}
    # The neural pair has synopses of a part of its documents only, and these are the queries.
    questions = [of_point[row] for row in range(len(rows))] if len(of_point) == len(rows) else texts
    first, second = (_by_key(folder, name) for name in models)
    old, new, asked_old, asked_new, *questioned = (
        normalized(np.stack([model[text] for text in each]))
        for each in (texts, queried, questions)
        for model in (first, second)
    )
    rel = np.array([place[each["relevant"][0]] for each in test])
    embedded = [_by_key(folder, name) if name else None for name in words]
    return Corpus(
        texts, queried, old, new, asked_old, asked_new, rel, (questioned[0], questioned[1]),
        words=embedded[0], old_words=embedded[1],
    )  # fmt: skip


def _pictures(data: Path) -> Corpus:
    """Read pictures of all splits, asked for by the captions of val."""
    folder = data / "clipart"
    pairs = pq.read_table(folder / "pairs.parquet", columns=["id", "caption", "split"])
    table = pq.read_table(folder / "embeddings.parquet")
    assert table["id"].equals(pairs["id"])
    names = ("old_img", "new_img", "old_txt", "new_txt")
    old, new, old_text, new_text = (normalized(_vectors(table, n)) for n in names)
    rel = np.flatnonzero(np.array(pairs["split"].to_pylist()) == "val")
    texts: list[Any] = pairs["caption"].to_pylist()
    asked = [texts[row] for row in rel]
    questions = old_text, new_text
    return Corpus(
        texts, asked, old, new, old_text[rel], new_text[rel], rel, questions, pictures=True,
        folder=data,
    )  # fmt: skip


def _by_key(folder: Path, name: str) -> dict[str, Vectors]:
    table = pq.read_table(folder / f"{name}.parquet")
    return dict(zip(table["key"].to_pylist(), _vectors(table, "vector"), strict=True))


def _vectors(table: pa.Table, column: str) -> Vectors:
    # The files hold half precision.
    return np.asarray(vectors_of(table, column), np.float32)
