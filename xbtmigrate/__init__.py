"""Upgrade the embedding model behind a live Qdrant collection, measured first, done online."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbtmigrate.projectors import Projector as Projector

__all__ = ["Projector", "__version__"]
__version__ = "0.1.0"


# Importing the package takes 0.04 s this way; projectors would bring numpy and pyarrow.
def __getattr__(name: str) -> object:
    """Import `Projector` on first use, so that `import xbtmigrate` stays light."""
    if name == "Projector":
        from xbtmigrate.projectors import Projector

        return Projector
    raise AttributeError(f"module 'xbtmigrate' has no attribute {name!r}")
