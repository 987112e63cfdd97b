"""Room `serving`: one query answered over a mixed gallery.

The searchers of an application live in the room `search`, which knows Qdrant; they are offered
from here, where an application looks for them, and imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbtmigrate.serving.client import wrap as wrap
    from xbtmigrate.serving.client import wrap_async as wrap_async
    from xbtmigrate.serving.searcher import AsyncMigrationSearcher as AsyncMigrationSearcher
    from xbtmigrate.serving.searcher import MigrationSearcher as MigrationSearcher
    from xbtmigrate.serving.traffic_log import DemandLog as DemandLog

_PLACES = {
    "AsyncMigrationSearcher": "xbtmigrate.serving.searcher",
    "DemandLog": "xbtmigrate.serving.traffic_log",
    "MigrationSearcher": "xbtmigrate.serving.searcher",
    "wrap": "xbtmigrate.serving.client",
    "wrap_async": "xbtmigrate.serving.client",
}

__all__ = ["AsyncMigrationSearcher", "DemandLog", "MigrationSearcher", "wrap", "wrap_async"]


def __getattr__(name: str) -> object:
    """Import what an application uses on first use, so that the domain stays free of Qdrant."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'xbtmigrate.serving' has no attribute {name!r}")
