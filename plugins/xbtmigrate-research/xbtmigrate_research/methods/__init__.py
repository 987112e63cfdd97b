"""The methods, one module each; most need torch when they are imported."""

from __future__ import annotations

from importlib import import_module

from xbtmigrate.errors import ConfigError
from xbtmigrate_research.method import Method

MODULES = (
    "kinds",
    "xbt",
    "drift_adapter",
    "mini_vec2vec",
    "slerp",
    "online_backfilling",
    "darwinian_gate",
    "shared_space",
    "fct",
    "fct_simclr",
    "fastfill",
    "embedding_converter",
    "asymmetric_fusion",
    "muscle",
    "bct",
    "oca",
    "bt2",
    "advbct",
    "prototype_perturbation",
    "l2r",
    "taca",
    "continual_compatible",
    "large_to_small",
)
"""In the order of the table."""


def load_methods() -> dict[str, Method]:
    """Import every method, by name.

    Raises:
        ConfigError: A library is missing.
    """
    try:
        modules = [import_module(f"{__name__}.{name}") for name in MODULES]
    except ImportError as error:
        raise ConfigError(
            f"the methods need a library: {error}",
            "pip install 'xbtmigrate[research,train,openclip]'",
        ) from error
    return {method.name: method for module in modules for method in module.METHODS}
