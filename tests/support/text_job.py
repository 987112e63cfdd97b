"""A migration of texts whose new model is a service that counts what it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qdrant_client import QdrantClient

from tests.support.checks import check_vectors
from tests.support.command import answer_inside
from tests.support.texts import Service, Texts, write_text_config


@dataclass(frozen=True, slots=True)
class TextJob:
    """A planned and trained migration, ready for its backfill."""

    client: QdrantClient
    name: str
    texts: Texts
    service: Service
    folder: Path
    layout: str

    def make(self, url: str) -> Self:
        self.texts.fill(self.client, self.name, both=self.layout == "in_place")
        write_text_config(self.folder, url, self.name, self.texts, self.service, layout=self.layout)
        answer_inside("plan", cwd=self.folder)
        answer_inside("train-projector", "--kind", "ridge", "--pairs", "100", cwd=self.folder)
        self.service.forget()
        return self

    def check_encoded(self, count: int) -> None:
        """Check all vectors, of which so many must be the new model's own."""
        target = self.name if self.layout == "in_place" else f"{self.name}__xbtmigrate"
        check_vectors(self.client, target, self.texts, self.folder, encoded=count)

    @property
    def repeated(self) -> int:
        """Texts that the service was asked for more than once."""
        return sum(count - 1 for count in self.service.charged.values())
