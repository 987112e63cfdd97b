"""FastFill with classes: its uncertainty also learns whether a vector falls into its class."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from xbtmigrate.errors import TrainingError
from xbtmigrate.training.kinds.neural import FASTFILL
from xbtmigrate.training.problem import Candidate, FittedMap, Problem, Settings
from xbtmigrate.types import Direction, PointId

if TYPE_CHECKING:
    from torch import Tensor

LABELS: Final = "XBTMIGRATE_LABELS"
"""Environment variable with the path of a Parquet file with the columns `id` and `label`."""
BY_LABEL: Final = "label"
"""Value of the setting `classes` that means the labels."""
CLUSTERS = 64
TEMPERATURE = 0.04
SMOOTHING = 0.1
LLOYD_STEPS = 10


@dataclass(frozen=True, slots=True)
class FastFillClasses:
    """FastFill's network with the discriminative term of its loss (ICLR 2023, arXiv 2303.04766).

    The new model's own classifier is the nearest mean of a class. Classes are clusters of the new
    vectors, or labels of the points.

    Attributes:
        labels: Label of each point; None to read the file that LABELS names.
    """

    labels: Mapping[PointId, str | None] | None = None
    kind: str = "fastfill_classes"
    directions: Collection[Direction] = (Direction.FORWARD,)
    closed_form: bool = False

    def settings(self, problem: Problem, earlier: Sequence[Candidate]) -> Sequence[Settings]:
        """Cross FastFill's settings with clusters and, where there are any, labels.

        Raises:
            TrainingError: The file of labels cannot be read, or labels no pair.
        """
        classes: list[int | str] = [CLUSTERS]
        classes += [] if self._labels(problem) is None else [BY_LABEL]
        tried = FASTFILL.settings(problem, earlier)
        return [{**each, "classes": number} for each in tried for number in classes]

    def fit(self, problem: Problem, settings: Settings) -> FittedMap:
        """Train from the problem's seed.

        Raises:
            TrainingError: The file of labels cannot be read, or labels no pair.
        """
        # On use: the registry loads this module even where torch is not installed.
        from xbtmigrate.training.kinds.losses import distance_of, likelihood_of
        from xbtmigrate.training.kinds.networks import train

        by_label = settings["classes"] == BY_LABEL
        labels = self._labels(problem) if by_label else None
        clusters = CLUSTERS if by_label else int(settings["classes"])
        near, discriminate = distance_of(problem), _cross_entropy(problem, labels, clusters)

        def objective(outputs: Tensor, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG001
            mapped = outputs[:, :-1]
            return likelihood_of(near(mapped, y) + discriminate(mapped, rows), outputs[:, -1])

        return train(problem, FASTFILL.network, settings, objective)

    def _labels(self, problem: Problem) -> npt.NDArray[np.int64] | None:
        """Return the number of each pair's label, (n,), -1 for none; None without labels."""
        found = self.labels
        if found is None:
            file = os.environ.get(LABELS)
            if not file:
                return None
            found = read_labels(Path(file))
        # A point without a label keeps the class -1, which the loss ignores.
        labels = [found.get(point) for point in problem.ids]
        names = sorted({each for each in labels if each is not None})
        if not names:
            raise TrainingError(
                f"none of the {len(labels)} pairs has a label",
                f"give labels by the points' ids, as strings, or unset {LABELS}",
            )
        place = {name: number for number, name in enumerate(names)}
        return np.array([-1 if each is None else place[each] for each in labels], np.int64)


FASTFILL_CLASSES = FastFillClasses()


def read_labels(path: Path) -> dict[PointId, str | None]:
    """Read the labels of points from the columns `id` and `label` of a Parquet file.

    Raises:
        TrainingError: It cannot be read, or lacks a column.
    """
    try:
        table = pq.read_table(path, columns=["id", "label"])
        columns = (table[name].cast(pa.string()).to_pylist() for name in ("id", "label"))
        return dict(zip(*columns, strict=True))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise TrainingError(
            f"the labels in {path} cannot be read: {error}",
            f"let {LABELS} name a Parquet file with the columns id and label",
        ) from error


def _cross_entropy(
    problem: Problem, labels: npt.NDArray[np.int64] | None, clusters: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the cross-entropy of mapped vectors against their classes, 0 for pairs without one."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    y = normalize(torch.from_numpy(problem.y))
    if labels is None:
        centres = _centres(y, clusters, problem.seed)
        classes = (y @ centres.T).argmax(dim=1)
    else:
        classes = torch.from_numpy(labels)
        known = classes >= 0
        sums = torch.zeros(int(classes.max()) + 1, y.shape[1])
        # The length of a sum does not matter after `normalize`, so no class has to be counted.
        centres = normalize(sums.index_add_(0, classes[known], y[known]))

    def loss(mapped: Tensor, rows: Tensor) -> Tensor:
        logits = normalize(mapped) @ centres.T / TEMPERATURE
        return cross_entropy(
            logits, classes[rows], reduction="none", label_smoothing=SMOOTHING, ignore_index=-1
        )

    return loss


def _centres(y: Tensor, clusters: int, seed: int) -> Tensor:
    """Cluster unit vectors by their cosine (spherical k-means, Dhillon & Modha 2001)."""
    import torch
    from torch.nn.functional import normalize

    generator = torch.Generator().manual_seed(seed)
    centres = y[torch.randperm(len(y), generator=generator)[:clusters]]
    for _ in range(LLOYD_STEPS):
        nearest = (y @ centres.T).argmax(dim=1)
        # The last summand leaves the centre of an empty cluster where it is.
        centres = normalize(torch.zeros_like(centres).index_add_(0, nearest, y) + 1e-6 * centres)
    return centres
