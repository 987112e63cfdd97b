"""Send probe queries in a separate process, and report how long each took.

The process is separate because the threads of a run wait for each other: a query timed among them
would look slow when only the run is busy. It is started as a file, imports little, and ends when
its input ends, so it never outlives the run.

Input: one line of JSON (see `Probes`). Output: a line for each query, its milliseconds and how many
queries the server has answered so far; or "refused REASON", after which it ends.
"""

from __future__ import annotations

import itertools
import json
import os
import ssl
import sys
import threading
import time
from typing import Any

import urllib3

# Queries that are not timed, and queries of the baseline, which are sent faster (docs/load.md).
WARM_UP = 10
QUICK = 60
REST_OF_QUICK, REST = 1.0, 2.0
"""Pause between queries, as a multiple of a query's time: before the run, and during it."""
MIN_REST = 0.02
PATIENCE = 10.0


def main() -> None:
    """Send the queries in turn until the input ends."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    pool, answered = _pool(asked), 0
    for number, body in enumerate(itertools.cycle(asked["bodies"])):
        begun = time.perf_counter()
        status, pause = _ask(pool, asked, body)
        spent = time.perf_counter() - begun
        answered += status == 200
        if pause is None:
            if number >= WARM_UP:
                sys.stdout.write(f"{1000 * spent:.3f} {answered}\n")
                sys.stdout.flush()
            quick = number < WARM_UP + QUICK
            # During the run, probes are busy at most a third of the time, to add little load.
            pause = spent * REST_OF_QUICK if quick else max(MIN_REST, spent * REST)
        time.sleep(max(pause, asked["spacing"]))


def _ask(pool: urllib3.PoolManager, asked: dict[str, Any], body: str) -> tuple[int, float | None]:
    """Send one query.

    Returns:
        The status of the answer, 0 for none, and the seconds to pause if the time it took is not to
        be used, else None.
    """
    try:
        answer = pool.request(
            "POST", asked["url"], body=body, headers=asked["headers"], retries=False
        )
    # A query that timed out counts as a slow one; a broken connection does not count.
    except urllib3.exceptions.TimeoutError:
        return 0, None
    except urllib3.exceptions.HTTPError:
        return 0, 1.0
    if answer.status == 200:
        return 200, None
    # A refusal is fast and would look like a fast query.
    if answer.status == 429 or answer.status >= 500:
        patience = answer.headers.get("retry-after", "")
        return answer.status, float(patience) if patience.isdecimal() else 1.0
    sys.stdout.write(f"refused {answer.data[:300].decode(errors='replace')}\n")
    sys.exit(0)


def _pool(asked: dict[str, Any]) -> urllib3.PoolManager:
    trusted = None
    if asked["url"].startswith("https:"):
        trusted = ssl.create_default_context(cafile=asked["certificates"])
    if asked["proxy"]:
        return urllib3.ProxyManager(asked["proxy"], timeout=PATIENCE, ssl_context=trusted)
    return urllib3.PoolManager(timeout=PATIENCE, ssl_context=trusted)


def _end_with_input() -> None:
    # The pipe closes however the run ends, even by `kill -9`.
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
