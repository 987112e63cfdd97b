"""Find the files of a migration: artefacts, cached vectors, and what is built from them."""

from __future__ import annotations

import inspect as introspection
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from xbtmigrate import registry
from xbtmigrate.artefacts import FOLDER, Artefacts
from xbtmigrate.backfill.vector_cache import VectorCache
from xbtmigrate.config import Config
from xbtmigrate.evaluation.queries import Questions
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.ordering import BenefitOrdering, UncertaintyOrdering
from xbtmigrate.ordering.benefit import BenefitModel
from xbtmigrate.projectors import Projector
from xbtmigrate.protocols import Encoder, Ordering
from xbtmigrate.types import PointId
from xbtmigrate.workflows.models import Models, load_encoder


@dataclass(frozen=True)
class Workspace:
    """The folder of one migration.

    Attributes:
        config: The settings that name it.
        models: Its models; the cache of vectors belongs to the new one.
    """

    config: Config
    models: Models

    @cached_property
    def artefacts(self) -> Artefacts:
        """The migration's files."""
        return artefacts_of(self.config)

    @cached_property
    def cache(self) -> VectorCache:
        """Cached vectors of the new model."""
        encoder = self.models.new
        return self.artefacts.open_vector_cache(encoder.fingerprint, encoder.dimension)

    @cached_property
    def old_words(self) -> VectorCache:
        """Cached vectors of words by the old model."""
        encoder = self.models.old
        return self.artefacts.open_vector_cache(encoder.fingerprint, encoder.dimension)

    @cached_property
    def tuned_encoder(self) -> Encoder | None:
        """The new model with the LoRA weights trained for the bridge, if there are any."""
        folder = self.artefacts.lora_folder
        # Only `train-projector --lora` writes this folder.
        if not folder.exists():
            return None
        return load_encoder(self.config, self.config.new_model, lora=str(folder.resolve()))

    @cached_property
    def judged_queries(self) -> list[Questions]:
        """The configured judged queries, read once."""
        return read_judged_questions(self.config)

    def ordering(
        self,
        name: str,
        projector: Projector | None,
        demand: Mapping[PointId, int] | None = None,
    ) -> Ordering:
        """Make an ordering from those of the parts below that its factory has as parameters.

        Args:
            name: Name of the ordering.
            projector: The forward projector, where there is one.
            demand: How often queries reached points, where a log was given.

        Raises:
            PluginError: There is no such ordering, or it needs what there is not.
        """
        factory = registry.load(registry.ORDERINGS, name)
        # Orderings are plugins: a new part for one of them must not break the signatures of others.
        wanted = introspection.signature(factory).parameters
        offered: dict[str, object] = {
            "seed": self.config.plan.seed,
            "projector": projector,
            "demand": demand,
        }
        # Built on demand: both read files, which other orders do not need.
        if "benefit" in wanted:
            offered["benefit"] = self._benefit(projector)
        if "otherwise" in wanted:
            offered["otherwise"] = self._otherwise(projector)
        options = {key: value for key, value in offered.items() if key in wanted}
        ordering: Ordering = registry.build(registry.ORDERINGS, name, options, self.config.base)
        return ordering

    def _benefit(self, projector: Projector | None) -> BenefitModel | None:
        """Load the benefit that train-projector learned for this projector."""
        calibration = self.artefacts.load_calibration()
        if calibration is None or projector is None:
            return None
        # Learned from the errors of one map, so it does not apply to another.
        found = self.artefacts.load_benefit(calibration)
        return found if found is not None and found.forward == projector.digest else None

    def _otherwise(self, projector: Projector | None) -> Ordering | None:
        """Return the best order for breaking ties of another one."""
        if projector is None or not projector.has_uncertainty:
            return None
        learned = self._benefit(projector)
        if learned is None or learned.trees is None:
            return UncertaintyOrdering(projector=projector)
        return BenefitOrdering(projector=projector, benefit=learned)


def read_judged_questions(config: Config) -> list[Questions]:
    """Read the configured judged queries; empty if no file is configured."""
    path = config.plan.queries
    return [] if path is None else read_questions(config.base / path)


def artefacts_of(config: Config) -> Artefacts:
    """Return the artefacts of a migration."""
    return Artefacts(config.base / FOLDER / config.migration)
