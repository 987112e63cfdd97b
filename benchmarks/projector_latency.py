"""How long a projector takes beside the bare matrix products it is made of; run by hand (40 s).

    python benchmarks/projector_latency.py

Projectors of every form that is served, 768 -> 512, cosine on both sides, one core: one query, then
batches of 32, 1,024 and 10,000. The bare products are the same matrices by numpy, with no bias, no
GELU, no scaling and no check. `read` is the time to go through the same parameters once by a dot
product, the least that any program needs for one query. All in turns within one run; least of
several rounds.
"""

from __future__ import annotations

import os
import sys
import timeit
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xbtmigrate.projectors import Affine, Architecture, Manifest, Mlp, Projector
from xbtmigrate.types import Direction, Distance, Vectors

D_IN, D_OUT = 768, 512
BATCHES = (1, 32, 1024, 10_000)
ROUNDS = 5
GOALS = {"linear": 15, "MLP, 1,024 hidden": 60}
RNG = np.random.default_rng(0)


def draw(*shape: int) -> Vectors:
    """Draw parameters of about the size that trained ones have."""
    return (RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def mlp(*hidden: int) -> Mlp:
    """A network with hidden layers of these widths beside its linear skip."""
    widths = (D_IN, *hidden, D_OUT)
    weights = tuple(draw(a, b) for a, b in pairwise(widths))
    return Mlp(draw(D_IN, D_OUT), weights, tuple(draw(width) for width in widths[1:]))


FORMS: dict[str, Architecture] = {
    "linear": Affine(draw(D_IN, D_OUT), draw(D_OUT)),
    "MLP, 1,024 hidden": mlp(1024),
    "MLP as trained, 2 x 512": mlp(512, 512),
    "FCT, FastFill": mlp(4 * D_IN, 4 * D_OUT, 512, 512),
}


def matrices(form: Architecture) -> list[Vectors]:
    """The matrices of a form."""
    return [tensor for tensor in form.tensors().values() if tensor.ndim == 2]


def bare(form: Architecture, x: Vectors) -> None:
    """Multiply by every matrix, and nothing else."""
    if isinstance(form, Mlp):
        _ = x @ form.skip
        for weight in form.weights:
            x = x @ weight
    elif isinstance(form, Affine):
        _ = x @ form.weight


def microseconds(calls: list[Callable[[], object]], count: int) -> list[float]:
    """Least time of one call of each, measured in turns."""
    times = [[timeit.timeit(call, number=count) / count for call in calls] for _ in range(ROUNDS)]
    return [1e6 * min(each) for each in zip(*times, strict=True)]


def line(name: str, projector: Projector, rows: int) -> str:
    """Measure one line of the table."""
    form, x, count = projector.architecture, draw(rows, D_IN), max(1, 200 // rows)
    calls: list[Callable[[], object]] = [partial(projector.apply, x), partial(bare, form, x)]
    if rows > 1:
        ours, products = microseconds(calls, count)
        read = goal = ""
    else:
        flat = np.concatenate([matrix.reshape(-1) for matrix in matrices(form)])
        ours, products, least = microseconds([*calls, partial(flat.dot, flat)], count)
        read, goal = f"{least:,.0f}", f"{GOALS[name]}" if name in GOALS else ""
    cells = [name, f"{rows:,}", f"{ours:,.0f}", f"{products:,.0f}", f"{ours / products:.2f}"]
    return f"| {' | '.join([*cells, read, goal])} |"


def main() -> None:
    """Measure on one core and print."""
    print(f"load {os.getloadavg()[0]:.1f}, numpy {np.__version__}\n")
    print("| form | rows | apply, us | bare products, us | ratio | read, us | goal, us |")
    print("|---|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for name, form in FORMS.items():
            facts = Manifest(Direction.BRIDGE, name, D_IN, D_OUT, Distance.COSINE, Distance.COSINE)
            for rows in BATCHES:
                print(line(name, Projector(facts, form), rows), flush=True)


if __name__ == "__main__":
    main()
