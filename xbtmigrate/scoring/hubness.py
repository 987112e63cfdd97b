"""Store the hubness of each point as one number in its payload.

A calibration's correction for hubness depends on the point, not on the query. Stored in the
payload, it costs nothing at query time, and searchers need no bank of queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbtmigrate.scoring.calibration import Calibration, Scored, measure_hubness
from xbtmigrate.scoring.fusion import Weights
from xbtmigrate.types import Channel, Kind, PointId, digest_of

HUB = "hub_"
"""Prefix of the key of a number."""
# Short, because the payload of every point repeats the key.
KEY_LENGTH = 8


@dataclass(frozen=True, slots=True)
class StoredHubness:
    """The key of the numbers, and the means for points without one.

    Attributes:
        key: Name of the number within the tool's own payload key.
        encoded: Mean over re-encoded points.
        projected: Mean over projected points.
    """

    key: str
    encoded: float = 0.0
    projected: float = 0.0


def key_of(calibration: Calibration) -> str:
    """Return a key that names the calibration, so that numbers of an older one are ignored."""
    fusion, bank = calibration.fusion, calibration.bank
    parts: list[str | bytes] = [repr(sorted(fusion.waiting.items())), *map(str, bank.ids)]
    parts += [repr(sorted(fusion.encoded.items())), bank.old.tobytes(), bank.new.tobytes()]
    return HUB + digest_of(parts)[:KEY_LENGTH]


def compute_stored_hubness(
    calibration: Calibration,
    ids: Sequence[PointId],
    scored: Mapping[Channel, Scored],
    kinds: Sequence[Kind],
) -> npt.NDArray[np.float32]:
    """Compute the calibration's correction for hubness of each of n points.

    Args:
        calibration: Calibration and bank.
        ids: Ids of the points.
        scored: For `OLD` and `NEW` a function from a slice of points to their scores with the
            bank's queries; a projected vector lies in the new space like a true one.
        kinds: How the new vector of each point was made.

    Returns:
        Shape (n,).
    """
    hubs = measure_hubness(calibration.bank, ids, scored)
    encoded = np.array([kind is Kind.ENCODED for kind in kinds])
    fusion, none = calibration.fusion, Weights(0.0)
    total = np.zeros(len(ids), np.float32)
    # A point's state decides its weights; both states share the hubness in the new space.
    for weights, rows, new in (
        (fusion.encoded, encoded, Channel.NEW),
        (fusion.waiting, ~encoded, Channel.FORWARD),
    ):
        old_weight, new_weight = weights.get(Channel.OLD, none), weights.get(new, none)
        part = old_weight.hubness * hubs[Channel.OLD] + new_weight.hubness * hubs[Channel.NEW]
        total[rows] = part[rows]
    return total
