"""Names of the systems that are measured side by side, and their order in tables."""

from __future__ import annotations

KEEP_CENTRED = "keep:centred"
"""The old model with centred queries: free, and no migration."""
LEXICAL = "lexical"
HYBRID = "keep+lexical"
"""The old model fused with a search by words."""
BY_WORDS = (LEXICAL, HYBRID)
"""Searches by words: what a sparse vector would bring, alone and beside the old model."""
_ORDER = ("keep", *BY_WORDS, "bridge", "forward", "fusion", "full")


def rank_system(name: str) -> int:
    """Return the place of a system in a table; `sorted` keeps those of one place in order."""
    return _ORDER.index(name.partition(":")[0])


def name_group(name: str) -> str:
    """Return the strategy of a system; another way to search the old vectors is its own group."""
    return name if name.startswith("keep") else name.partition(":")[0]
