"""Notice whether clients besides the probes query a server, by its own count of queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from xbtmigrate.qdrant.wire.transport import Rest

QUIET = 60.0
"""Seconds without others' queries after which a server counts as having no other clients."""
# A query may be counted a moment before or after its answer is noted here.
_SLACK = 5
_COUNT = re.compile(
    r'^\w*(?:rest|grpc)_responses_total\{.*endpoint="[^"]*'
    r'(?:query|search|recommend|discover)[^"]*".*\} (\d+)$',
    re.IGNORECASE | re.MULTILINE,
)
_PEERS = re.compile(r"^\w*cluster_peers_total (\d+)$", re.MULTILINE)


@dataclass(slots=True)
class OtherClients:
    """Whether others query a server.

    They are assumed to be there where the server does not tell, where other nodes of a cluster
    answer queries too, and where the count lacks the probes' own (behind a load balancer).

    Attributes:
        rest: The server.
        probed: Returns how many queries of this run the server has answered so far.
    """

    rest: Rest
    probed: Callable[[], int]
    _counted: int | None = None
    _seen: float = float("-inf")

    def look(self, now: float) -> bool:
        """Return whether others have sent queries within the last minute."""
        total = count_queries(self.rest.metrics())
        # The probes are counted last, so that one answered in between does not look like another's.
        counted = None if total is None else total - self.probed()
        if counted is None:
            self._seen = now
        elif self._counted is None:
            self._counted = counted
        elif abs(counted - self._counted) > _SLACK:
            # Fewer than before: the server was started again, or others' probes are counted.
            self._counted, self._seen = counted, now
        return now - self._seen < QUIET

    def restart(self) -> None:
        """Count anew from the next look on: one of the probes was broken off."""
        self._counted = None


def count_queries(metrics: str) -> int | None:
    """Return how many queries a server has answered; None where its metrics do not tell.

    Args:
        metrics: Its metrics in the text format of Prometheus.
    """
    peers = _PEERS.search(metrics)
    if "_responses_total{" not in metrics or (peers is not None and int(peers[1]) > 1):
        return None
    # Of answers over REST those that failed are left out: a probe that fails is not counted either.
    return sum(
        int(found[1])
        for found in _COUNT.finditer(metrics)
        if 'status="' not in found[0] or 'status="200"' in found[0]
    )
