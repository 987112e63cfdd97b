"""Put the tenants of a collection in order, so that points are re-encoded tenant by tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xbtmigrate.artefacts import Artefacts
from xbtmigrate.backfill.order_file import LAST
from xbtmigrate.errors import ConfigError
from xbtmigrate.protocols import Gallery
from xbtmigrate.types import PointId, digest_of
from xbtmigrate.workflows.backfill.request import BackfillRequest
from xbtmigrate.workflows.store import Store
from xbtmigrate.workflows.tenants import list_tenants, read_tenants, require_tenant_field

TRAFFIC = "traffic"
"""The order by how often queries reach the points of a tenant."""
NAMED = 5
"""Unknown tenants that an error names."""


@dataclass(frozen=True, slots=True)
class TenantOrder:
    """An order of tenants, and where the tenant of a point is read.

    Attributes:
        gallery: The points, with the tenant in place of their text.
        asked: What was asked for, kept with the frozen order.
        listed: The tenants of the list; none for the order by traffic.
        sizes: All tenants and their points, the largest first.
    """

    gallery: Gallery
    asked: str
    listed: Sequence[str]
    sizes: Mapping[str, int]

    @classmethod
    def ask(cls, store: Store, wanted: str) -> TenantOrder:
        """Check what was asked for.

        Args:
            store: What the migration has in Qdrant.
            wanted: "traffic", or the path of a file with a tenant in each line.

        Raises:
            ConfigError: Tenants cannot be told apart, there is no such file, or it names a tenant
                that no point has.
        """
        field = require_tenant_field(store)
        listed = [] if wanted == TRAFFIC else _read_list(Path(wanted))
        sizes = list_tenants(store, field)
        if unknown := [name for name in listed if name not in sizes]:
            shown = ", ".join(unknown[:NAMED])
            raise ConfigError(
                f"{wanted} names {len(unknown)} tenants that no point has in '{field}': {shown}",
                "correct the file: one tenant in each line, as the payload spells it",
            )
        asked = TRAFFIC if wanted == TRAFFIC else digest_of(listed)
        return cls(store.reader(field), asked, listed, sizes)

    def place(
        self, hits: Mapping[PointId, int] | None
    ) -> Callable[[Sequence[PointId]], npt.NDArray[np.int64]]:
        """Return a function from points to the places of their tenants.

        Those listed, or with the most traffic, come first; then the others, the largest first; then
        points without a tenant.

        Args:
            hits: How often queries reach each point, for the order by traffic.

        Raises:
            ConfigError: The order by traffic has no log, or it names no point of a tenant.
        """
        first = self.listed or self._by_traffic(hits)
        places = {name: place for place, name in enumerate(dict.fromkeys([*first, *self.sizes]))}

        def place(ids: Sequence[PointId]) -> npt.NDArray[np.int64]:
            found = read_tenants(self.gallery, ids)
            return np.array([places.get(name or "", LAST) for name in found], np.int64)

        return place

    def _by_traffic(self, hits: Mapping[PointId, int] | None) -> Iterable[str]:
        if hits is None:
            raise ConfigError(
                "--tenant-order traffic needs a log of the points that queries find",
                "give it with --demand FILE, or a list of tenants as --tenant-order FILE",
            )
        found: Counter[str] = Counter()
        for name, count in zip(read_tenants(self.gallery, list(hits)), hits.values(), strict=True):
            found[name or ""] += count
        reached = sorted(found.keys() & self.sizes.keys(), key=lambda name: (-found[name], name))
        if not reached:
            raise ConfigError(
                "the log of --demand names no point that has a tenant",
                "give a log of this collection, or check payload.tenant",
            )
        return reached


def ask_tenants(
    store: Store, artefacts: Artefacts, request: BackfillRequest, wanted: str
) -> TenantOrder:
    """Check an order of tenants before anything is written.

    Raises:
        ConfigError: Nothing is embedded, the order is frozen as another one, or tenants cannot be
            put in this order.
    """
    if not request.fraction:
        raise ConfigError(
            "--tenant-order is for points that are embedded, and this run embeds none",
            "give a --fraction, or leave out --tenant-order",
        )
    found, frozen = TenantOrder.ask(store, wanted), artefacts.load_order()
    # A run follows the frozen file, so another order would be ignored silently.
    if frozen is not None and frozen[0].tenants != found.asked:
        raise ConfigError(
            "the order of this migration is frozen with another order of tenants, or none",
            f"run it without --tenant-order; to order anew delete {artefacts.order_file}: "
            "what is encoded stays encoded",
        )
    return found


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--tenant-order {path} is neither '{TRAFFIC}' nor a file that can be read: {error}",
            "name a text file with a tenant in each line",
        ) from error
    if found := list(dict.fromkeys(filter(None, map(str.strip, lines)))):
        return found
    raise ConfigError(f"{path} names no tenant", "write one in each line, the first one first")
