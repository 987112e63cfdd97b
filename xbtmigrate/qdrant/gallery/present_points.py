"""Write to points by id while others may delete some of them.

A filter over ids would skip points that are gone. But while its optimizer works, a server copies
the list of all points that have changed for each filter, so that a million points would take hours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xbtmigrate.errors import CollectionError
from xbtmigrate.qdrant.wire.reader import Reader
from xbtmigrate.types import PointId


def write_to_present(
    reader: Reader, ids: Sequence[PointId], write: Callable[[Sequence[PointId]], None]
) -> Sequence[PointId]:
    """Write to those of some points that exist, and return their ids.

    Args:
        reader: Reads at least as many points as there are ids in one page.
        ids: The points.
        write: Sends one request that names points by id; repeating it must be harmless.

    Raises:
        CollectionError: The server refuses the request though all points are there.
    """
    while ids:
        try:
            write(ids)
            break
        except CollectionError:
            # A missing point fails the request after some of the others were written.
            present = reader.retrieve(ids).ids
            if len(present) == len(ids):
                raise
            ids = present
    return ids
