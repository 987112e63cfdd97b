"""Room `serving`: one query answered over a mixed gallery.

The searchers of an application live in the room `search`, which knows Qdrant; they are offered
from here, where an application looks for them, and imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbtmigrate.search.client import wrap as wrap
    from xbtmigrate.search.client import wrap_async as wrap_async
    from xbtmigrate.search.demand import DemandLog as DemandLog
    from xbtmigrate.search.searcher import AsyncMigrationSearcher as AsyncMigrationSearcher
    from xbtmigrate.search.searcher import MigrationSearcher as MigrationSearcher

_PLACES = {
    "AsyncMigrationSearcher": "xbtmigrate.search.searcher",
    "DemandLog": "xbtmigrate.search.demand",
    "MigrationSearcher": "xbtmigrate.search.searcher",
    "wrap": "xbtmigrate.search.client",
    "wrap_async": "xbtmigrate.search.client",
}

__all__ = ["AsyncMigrationSearcher", "DemandLog", "MigrationSearcher", "wrap", "wrap_async"]


def __getattr__(name: str) -> object:
    """Import what an application uses on first use, so that the domain stays free of Qdrant."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'xbtmigrate.serving' has no attribute {name!r}")
