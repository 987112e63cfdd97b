"""Qdrant: one connection to a server or to an embedded database, with its version and limits."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, TypeVar

from qdrant_client import QdrantClient, models
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from xbtmigrate.errors import (
    ConnectionFailedError,
    LeaseError,
    UnsupportedError,
    XbtMigrateError,
)
from xbtmigrate.qdrant.failures import (
    EMBEDDED_ERRORS,
    SERVER_ERRORS,
    is_transient,
    said_by,
    seconds_to_wait,
    status_of,
    translated,
)

T = TypeVar("T")
Version = tuple[int, int, int]

OLDEST: Version = (1, 13, 0)
"""Oldest server: 1.13 brought the has_vector condition, which every exact count needs."""


class Feature(Enum):
    """What only newer servers can do, with the version that brought it."""

    METADATA = (1, 16, 0)
    CONDITIONAL_UPSERT = (1, 16, 0), "update_filter"
    ADD_VECTOR = (1, 18, 0)
