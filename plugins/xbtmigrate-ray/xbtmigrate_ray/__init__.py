"""Engine plugin: the passes of a backfill on the workers of a Ray cluster."""

from __future__ import annotations

from xbtmigrate_ray.engine import RayEngine

__all__ = ["RayEngine"]
