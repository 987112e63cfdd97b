"""Play the application: search the migrated collection with the new model.

After the backfill the application does two things in another way: it embeds the query with the new
model, and it names the new vector in `using`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qdrant_client import QdrantClient

from xbtmigrate.encoders.precomputed import PrecomputedEncoder
from xbtmigrate.types import Modality


def main() -> None:
    """Print the five pictures nearest to a caption."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("caption")
    caption = parser.parse_args().caption
    encoder = PrecomputedEncoder(path=Path("new.parquet"))
    query = encoder.encode([caption], Modality.TEXT)[0]
    client = QdrantClient(path="qdrant")
    found = client.query_points("pictures", query=query.tolist(), using="new", limit=5)
    for hit in found.points:
        kind = hit.payload["_xbtmigrate"]["kind"]
        print(f"{hit.score:.3f}  {kind:9}  {hit.payload['caption']}")
    client.close()


if __name__ == "__main__":
    main()
