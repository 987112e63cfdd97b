"""The table of servings: a new serving is a row here.

A row holds what a serving searches and needs, how a searcher runs it and how an evaluation measures
it. Searchers serve only rows with a mixture, which the server's formula and the client's fusion run
alike. Packages add rows that are measured through the entry-point group `xbtmigrate.servings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xbtmigrate import registry
from xbtmigrate.errors import ConfigError, PluginError
from xbtmigrate.evaluation.mixed_gallery import Merge, Serving, Single
from xbtmigrate.scoring.calibration import Calibration
from xbtmigrate.scoring.fusion import CalibratedServing, PerPoint
from xbtmigrate.scoring.mixture import (
    BRIDGE,
    CALIBRATED,
    CALIBRATED_BRIDGE,
    KEEP,
    MERGE,
    SINGLE,
    SLERP,
    Mixture,
    make_calibrated_mixture,
)
from xbtmigrate.scoring.slerp import SlerpServing
from xbtmigrate.types import Channel, Vectors

UNCENTRED = "uncentred"
"""The single space without centring, as plain clients search it."""


@dataclass(frozen=True, slots=True)
class GalleryCalibration:
    """Fitted parameters for a mixed gallery of n points.

    Attributes:
        calibration: Calibrated weights and what was tuned beside them.
        hubness: Hubness of the points in each channel, shape (n,).
        uncertainty: Predicted error of each point's projection, shape (n,); None where the
            projector predicts none.
    """

    calibration: Calibration
    hubness: Mapping[Channel, PerPoint]
    uncertainty: PerPoint | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """Queries with known answers, to tune the parameter of a serving.

    Attributes:
        uncertainty: Predicted error of each point's projection, shape (n,); None where the
            projector predicts none.
        quality: Measures a serving on these queries while no point is re-encoded; higher is better.
    """

    uncertainty: PerPoint | None
    quality: Callable[[Serving], float]


Measure: TypeAlias = Callable[[GalleryCalibration | None], Serving | None]
Mix: TypeAlias = Callable[[Calibration | None], Mixture | None]
Remap: TypeAlias = Callable[[Vectors, Vectors], Callable[[Vectors], Vectors] | None]


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """One way to answer a query.

    Attributes:
        name: Its name in options, tables and answers.
        mixture: Makes what a searcher runs: which query meets the old vectors, and the weights of
            both spaces by a point's state. None as a whole for a serving that is only measured,
            returned for one that cannot be had without a calibration.
        measure: Makes what an evaluation scores with, or None where the calibration is missing;
            None as a whole where the answer does not depend on what is re-encoded.
        remap: Fits a map of the new space through which the serving scores queries, projected and
            encoded vectors, to the old and the new vectors of the same points, (m, d_old) and
            (m, d_new); returns None where these are too few. None as a whole for no map.
        tune: Chooses the number that is kept for it in `Calibration.tuned`, or None for none.
        maps_query: Whether a bridge maps the query, so that it needs a bridge and no new vectors.
        needs_calibration: Whether it needs what was calibrated.
        needs_cover: Whether every point has to have a new vector, projected or encoded.
        is_usual: Whether evaluations draw its curve unless others are named.
        fuses: Whether it is worth a row of its own before anything is re-encoded.
        only_measured: Why no searcher serves it.
    """

    name: str
    mixture: Mix | None = None
    measure: Measure | None = None
    remap: Remap | None = None
    tune: Callable[[Tuning], float | None] | None = None
    maps_query: bool = False
    needs_calibration: bool = False
    needs_cover: bool = False
    is_usual: bool = False
    fuses: bool = False
    only_measured: str = ""


def _measure_calibrated(known: GalleryCalibration | None) -> Serving | None:
    return None if known is None else CalibratedServing(known.calibration.fusion, known.hubness)


def _measure_bridged(known: GalleryCalibration | None) -> Serving | None:
    if known is None:
        return None
    return CalibratedServing(known.calibration.bridged, {}, CALIBRATED_BRIDGE)


def _mix_calibrated(calibration: Calibration | None) -> Mixture | None:
    return None if calibration is None else make_calibrated_mixture(calibration.fusion)


def _mix_bridged(calibration: Calibration | None) -> Mixture | None:
    if calibration is None:
        return None
    return make_calibrated_mixture(calibration.bridged, CALIBRATED_BRIDGE, Channel.BRIDGE)


# Their order is that of options and tables.
_ROWS = (
    ServingSpec(KEEP.name, mixture=lambda _: KEEP),
    ServingSpec(BRIDGE.name, mixture=lambda _: BRIDGE, maps_query=True),
    ServingSpec(
        SINGLE.name,
        mixture=lambda _: SINGLE,
        measure=lambda _: Single(),
        needs_cover=True,
        is_usual=True,
    ),
    ServingSpec(
        UNCENTRED,
        measure=lambda _: Single(UNCENTRED),
        is_usual=True,
        only_measured="it is `single` without a searcher's centring: open a searcher with "
        "centre_queries=False",
    ),
    ServingSpec(MERGE.name, mixture=lambda _: MERGE, measure=lambda _: Merge(), is_usual=True),
    ServingSpec(
        SLERP.name,
        mixture=lambda _: SLERP,
        measure=lambda _: SlerpServing(),
        maps_query=True,
        needs_calibration=True,
        is_usual=True,
        fuses=True,
    ),
    ServingSpec(
        CALIBRATED,
        mixture=_mix_calibrated,
        measure=_measure_calibrated,
        needs_calibration=True,
        needs_cover=True,
        is_usual=True,
        fuses=True,
    ),
    ServingSpec(
        CALIBRATED_BRIDGE,
        mixture=_mix_bridged,
        measure=_measure_bridged,
        maps_query=True,
        needs_calibration=True,
        needs_cover=True,
        is_usual=True,
        fuses=True,
    ),
)
SERVINGS: Mapping[str, ServingSpec] = {spec.name: spec for spec in _ROWS}
"""The servings of the core, by name."""

SERVED = tuple(name for name, spec in SERVINGS.items() if spec.mixture is not None)
"""Names of the servings that a searcher offers."""


def find_serving(name: str) -> ServingSpec:
    """Return the row of a serving, of the core or of an installed package.

    Raises:
        ConfigError: There is no such serving.
        PluginError: The package that brings it cannot be imported.
    """
    # The core first: a package cannot replace a serving that searchers run.
    if name in SERVINGS:
        return SERVINGS[name]
    if name in registry.list_names(registry.SERVINGS):
        found: object = registry.load(registry.SERVINGS, name)
        if isinstance(found, ServingSpec):
            return found
        raise PluginError(
            f"'{name}' in {registry.SERVINGS} is no ServingSpec: {found!r}",
            "upgrade the package that provides it",
        )
    raise ConfigError(
        f"there is no serving '{name}'",
        f"choose from {', '.join(list_measured())}; pip install 'xbtmigrate[research]' adds more",
    )


def list_measured() -> list[str]:
    """List every serving that an evaluation can draw a curve of, those of the core first."""
    core = [name for name, spec in SERVINGS.items() if spec.measure is not None]
    return core + [name for name in registry.list_names(registry.SERVINGS) if name not in SERVINGS]


def find_measured(names: Sequence[str]) -> list[ServingSpec]:
    """Return the rows of servings to draw curves of, each with a `measure`.

    Raises:
        ConfigError: There is no such serving, or its answers depend on no re-encoding.
        PluginError: A package cannot be imported.
    """
    order = list_measured()
    # A name given twice draws one curve.
    found = [find_serving(name) for name in dict.fromkeys(names)]
    for spec in found:
        if spec.measure is None:
            raise ConfigError(
                f"there is no curve of the serving '{spec.name}'",
                f"choose from {', '.join(order)}",
            )
    return sorted(found, key=lambda spec: order.index(spec.name))
