"""Command line: how many threads matrix products get, set before numpy is imported."""

from __future__ import annotations

import os


def leave_cores_to_the_loop() -> None:
    """Let two threads read and write beside the projector; spinning BLAS threads starve them."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 2)))
