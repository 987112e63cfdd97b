"""Answer an application's queries and accept its writes while its collection is being migrated.

Start with `MigrationSearcher`, or with `wrap` to keep using a Qdrant client.
"""

from xbtmigrate.serving.client import wrap, wrap_async
from xbtmigrate.serving.searcher import AsyncMigrationSearcher, MigrationSearcher
from xbtmigrate.serving.traffic_log import DemandLog

__all__ = ["AsyncMigrationSearcher", "DemandLog", "MigrationSearcher", "wrap", "wrap_async"]
