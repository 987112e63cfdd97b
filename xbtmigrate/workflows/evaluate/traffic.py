"""Count how often queries find each point, from a traffic log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from xbtmigrate.errors import ConfigError
from xbtmigrate.types import Modality, PointId, canonical_id
from xbtmigrate.workflows.encode_points import encode_readable
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.store import Store

REACHED = 10
"""Points that a logged query counts for: the best by the old model."""

HINT = (
    "it needs the column id (string), or text (string) for a log of queries; hits (int64) is "
    "optional and says how often"
)


def read_demand(store: Store, models: Models, path: Path) -> Mapping[PointId, int]:
    """Read a log as Parquet, or as JSON lines if its name ends in .jsonl or .json.

    Rows name a point (`id`) or a query (`text`), and how often (`hits`, 1 where absent); rows of
    the same point add up. A query counts for the ten points that the old model finds.

    Args:
        store: What the migration has in Qdrant.
        models: Both models.
        path: The log.

    Returns:
        Point id -> hits, more than 0 each.

    Raises:
        ConfigError: The file is not such a log, has no hits, or has queries where the old model is
            gone.
        EncoderError: The old model cannot embed its queries.
    """
    try:
        table = pa.json.read_json(path) if "json" in path.suffix else pq.read_table(path)
        count = table["hits"].cast(pa.int64()) if "hits" in table.column_names else None
        hits = [1] * len(table) if count is None else count.to_pylist()
        by_point = "id" in table.column_names
        names = table["id" if by_point else "text"].cast(pa.string()).to_pylist()
    except FileNotFoundError as error:
        raise ConfigError(f"there is no log {path}", HINT) from error
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is not a traffic log: {error}", HINT) from error
    if None in names or None in hits or any(hit < 0 for hit in hits):
        raise ConfigError(f"{path} has rows without a name or with negative hits", HINT)
    found: Counter[PointId] = Counter()
    for name, hit in zip(names, hits, strict=True):
        # Rows of one point may spell its UUID differently.
        found[canonical_id(name) if by_point else name] += hit
    if not by_point:
        models.require_old(
            f"a log of queries ({path.name})", "give a log with the column id: the points found"
        )
        found = _reached(store, models, found)
    # Unary plus drops the points with no hits.
    found = +found
    if not found:
        raise ConfigError(f"{path} names no point with hits", HINT)
    return found


def _reached(store: Store, models: Models, asked: Mapping[str, int]) -> Counter[PointId]:
    """Search every query in the old space and count its hits for the points it finds."""
    # Distinct queries are embedded once, however often they were typed.
    texts = list(asked)
    vectors, valid = encode_readable(models.old, texts, Modality.TEXT)
    rows = np.flatnonzero(valid)
    found: Counter[PointId] = Counter()
    for row, points in zip(rows, store.nearest(vectors[rows], REACHED), strict=True):
        found.update(dict.fromkeys(points, asked[texts[row]]))
    return found
