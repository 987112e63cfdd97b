"""Whether others query a server, read from its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from xbtmigrate.qdrant.collection.other_clients import QUIET, OtherClients, count_queries
from xbtmigrate.qdrant.wire.transport import Rest

# As Qdrant 1.16.3 prints them; the other lines are left out.
METRICS = """\
# TYPE rest_responses_total counter
rest_responses_total{method="POST",endpoint="/collections/{name}/points/scroll",status="200"} 900
rest_responses_total{method="POST",endpoint="/collections/{name}/points/query",status="200"} 3
rest_responses_total{method="POST",endpoint="/collections/{name}/points/query",status="400"} 50
rest_responses_total{method="POST",endpoint="/collections/{name}/points/query/batch",status="200"} 4
rest_responses_avg_duration_seconds{endpoint="/collections/{name}/points/query",status="200"} 70
# TYPE grpc_responses_total counter
grpc_responses_total{endpoint="/qdrant.Points/Query"} 10
grpc_responses_total{endpoint="/qdrant.Points/SearchBatch"} 20
grpc_responses_total{endpoint="/qdrant.Points/Scroll"} 900
"""


def test_queries_are_counted_over_both_interfaces():
    assert count_queries(METRICS) == 3 + 4 + 10 + 20


@pytest.mark.parametrize(
    ("metrics", "counted"),
    [
        ("", None),
        ('app_info{name="qdrant"} 1\n', None),
        (METRICS + "cluster_peers_total 3\n", None),
        (METRICS + "cluster_peers_total 1\n", 37),
        (METRICS.replace("rest_resp", "own_rest_resp").replace("\ngrpc", "\nown_grpc"), 37),
    ],
)
def test_a_server_that_does_not_tell_has_no_count(metrics: str, counted: int | None):
    assert count_queries(metrics) == counted


@dataclass
class Counting:
    """A server that has answered so many queries."""

    answered: int | None = 0

    def metrics(self) -> str:
        if self.answered is None:
            return ""
        return f'grpc_responses_total{{endpoint="/qdrant.Points/Query"}} {self.answered}\n'


@dataclass
class Case:
    server: Counting
    probed: int = 0

    def __post_init__(self) -> None:
        self.others = OtherClients(cast("Rest", cast("Any", self.server)), lambda: self.probed)


def test_probes_alone_are_nobody():
    case = Case(Counting(1000))
    for now in range(600):
        assert not case.others.look(now)
        # One may be counted by the server and not here yet, or the other way round.
        case.server.answered = 1000 + 20 * now + now % 3
        case.probed = 20 * now + (now + 1) % 3


def test_a_trickle_of_queries_is_somebody_until_it_ends():
    case = Case(Counting())
    found = []
    for now in range(600):
        case.probed = 20 * now
        case.server.answered = case.probed + min(now, 300) // 5
        found.append(case.others.look(now))
    assert not found[0]
    assert all(found[60:300])
    assert not found[300 + int(QUIET)]
    assert not any(found[300 + int(QUIET) :])


def test_others_are_assumed_where_the_count_is_not_of_this_server():
    case = Case(Counting())
    case.others.look(0)
    # Behind a load balancer another server counts the probes.
    case.probed = 70
    assert case.others.look(1)
    case.server.answered = None
    assert case.others.look(100)


def test_counting_starts_anew_where_a_probe_was_broken_off():
    case = Case(Counting())
    case.others.look(0)
    case.server.answered = 50
    case.others.restart()
    assert not case.others.look(1)
    case.server.answered = 56
    assert case.others.look(2)
