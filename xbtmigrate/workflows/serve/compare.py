"""Answer queries by the old model, the projected gallery and re-encoded points. Reads only.

Each column is an exact list or says what it is not. The old model and what a cutover would serve
search the whole collection. Where it holds no new vectors yet, and for points re-encoded, only the
points that these searches found are ranked, as pooling does (TREC): nobody embeds a whole
collection for a look.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xbtmigrate.config import Config
from xbtmigrate.encoders.images import ImagePolicy
from xbtmigrate.encoders.thumbnails import make_thumbnails
from xbtmigrate.errors import ConfigError, GateError
from xbtmigrate.evaluation.retrieval import SearchSpace, rank_top_k
from xbtmigrate.files import write_atomically
from xbtmigrate.migration.strategies import STRATEGIES
from xbtmigrate.projectors import Projector
from xbtmigrate.scoring.mixture import BRIDGE, KEEP, SINGLE
from xbtmigrate.serving.http.compare_page import (
    Column,
    ComparedQuery,
    CompareRequest,
    RankedHit,
    ShownPoint,
    Vote,
    Votes,
)
from xbtmigrate.serving.searcher import MigrationSearcher
from xbtmigrate.types import Direction, Kind, Modality, Vectors
from xbtmigrate.workflows.encode_points import encode_gallery
from xbtmigrate.workflows.models import Models
from xbtmigrate.workflows.points import Points, take
from xbtmigrate.workflows.store import Store, open_store
from xbtmigrate.workflows.workspace import Workspace, read_judged_questions

POOL = 20
"""Points that each search contributes to those that are ranked again."""
SHOWN = 10
"""Hits of a column."""
JudgedQuery: TypeAlias = tuple[str, Modality, Sequence[str]]
"""A query, what it is, and the points known to answer it."""


@dataclass(frozen=True)
class SideBySide:
    """The backend of the page.

    Attributes:
        store: What the migration has in Qdrant.
        models: Both models.
        workspace: The migration's files.
        searchers: Name of a serving -> what answers by it.
        queries: The judged queries.
        votes_file: Where votes are kept, in the form of judged queries.
    """

    store: Store
    models: Models
    workspace: Workspace
    searchers: Mapping[str, MigrationSearcher]
    queries: Sequence[JudgedQuery]
    votes_file: Path

    @property
    def facts(self) -> Mapping[str, str]:
        """What is compared, for the head of the page."""
        phase = self.searchers[KEEP.name].situation.phase
        return {
            "collection": self.store.config.qdrant.collection,
            "points": f"{self.store.facts.points:,}",
            # The digest of a local model is long; its start tells it from others.
            "old model": self.models.old.fingerprint[:32],
            "new model": self.models.new.fingerprint[:32],
            "phase": phase.value if phase else "not backfilled yet",
        }

    @property
    def judged(self) -> Sequence[str]:
        """The judged queries to pick from."""
        return [query for query, _, _ in self.queries]

    def search(self, asked: CompareRequest) -> ComparedQuery:
        """Answer a query in every way.

        Raises:
            ConfigError: Not exactly one of a text and a judged query was given.
            GateError: The migration is cut over meanwhile.
            XbtMigrateError: A model or Qdrant failed.
        """
        query, modality, relevant = self._query(asked)
        old, new = (
            encoder.encode([query], modality) for encoder in (self.models.old, self.models.new)
        )
        vectors = {"old_vector": old[0], "vector": new[0]}
        with _quiet():
            found = {
                name: searcher.search(**vectors, limit=POOL)
                for name, searcher in self.searchers.items()
            }
        if self.searchers[KEEP.name].situation.switched:
            raise _switched(self.store.config)
        payloads = {str(hit.id): hit.payload or {} for answer in found.values() for hit in answer}
        plan = self.searchers[KEEP.name].situation.plan
        # A searcher falls back to the old vectors where there are no new ones to serve by.
        live = found[SINGLE.name].serving == SINGLE.name
        pool = take(self.store.gallery(plan) if live else self.store.reader(), list(payloads))
        kept = [str(hit.id) for hit in found[KEEP.name]]
        columns = [
            Column(
                name="keep",
                title="Old model",
                note="What the collection answers today.",
                hits=_hits(kept, kept),
            ),
            self._live(kept, [str(hit.id) for hit in found[SINGLE.name]])
            if live
            else self._projected(kept, pool, new),
            self._encoded(kept, pool, new),
        ]
        shown = {hit.id for column in columns for hit in column.hits}
        points = {point: payloads[point] for point in payloads if point in shown}
        return ComparedQuery(columns=columns, points=self._show(points), relevant=relevant)

    def votes(self) -> Votes:
        """Count the votes so far."""
        counts = Counter(row["vote"] for row in self._read_votes())
        return Votes(
            old=counts["old"],
            same=counts["same"],
            new=counts["new"],
            command=f"xbtmigrate evaluate --queries {self.votes_file}",
        )

    def keep(self, vote: Vote) -> Votes:
        """Store a vote; a later one on the same query takes the place of the earlier one."""
        query, modality, _ = self._query(vote)
        row = {str(modality): query, "relevant": vote.relevant, "vote": vote.vote}
        # Twice the same query would count twice in every figure.
        rows = [each for each in self._read_votes() if each.get(modality) != query]
        text = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in [*rows, row])
        write_atomically(self.votes_file, lambda path: path.write_text(text, "utf-8"))
        return self.votes()

    def _query(self, asked: CompareRequest) -> JudgedQuery:
        if asked.text is not None and asked.judged is None:
            return asked.text, Modality.TEXT, []
        if asked.text is None and asked.judged is not None and asked.judged < len(self.queries):
            return self.queries[asked.judged]
        raise ConfigError("give a text, or the number of a judged query", "reload the page")

    def _live(self, kept: Sequence[str], found: Sequence[str]) -> Column:
        """Show what a cutover would serve, and how each of its vectors was made."""
        plan = self.searchers[KEEP.name].situation.plan
        kinds: dict[str, str] = {}
        for batch in self.store.gallery(plan).read({"kind"}, ids=found[:SHOWN]):
            kinds |= zip(batch["id"].to_pylist(), batch["kind"].to_pylist(), strict=True)
        hits = _hits(kept, found, kinds)
        projected, encoded = (
            sum(hit.kind == kind for hit in hits) for kind in (Kind.PROJECTED, Kind.ENCODED)
        )
        return Column(
            name="projected",
            title="New model, as it would serve now",
            note="What the collection would answer after a cutover, from the new vectors in it: "
            f"of these hits {projected} are projected and {encoded} re-encoded.",
            hits=hits,
        )

    def _projected(self, kept: Sequence[str], pool: Points, new: Vectors) -> Column:
        """Project the pool: the collection has no new vectors to search yet, or not all."""
        plan, projector = self.searchers[KEEP.name].situation.plan, self._forward()
        title = "New model, projected"
        if projector is None:
            wanted = STRATEGIES[plan.strategy].only_encodes
            note = (
                "Nothing to show: this plan projects nothing, and its backfill is not complete."
                if wanted
                else "Nothing to show yet: `xbtmigrate train-projector` fits the projector."
            )
            return Column(name="projected", title=title, note=note, hits=[])
        made = projector.apply(pool.old, pool.side)
        return Column(
            name="projected",
            title=title,
            note="The collection cannot be searched by new vectors yet. These are the "
            f"{len(pool)} points that searches of the old vectors found, ranked by their "
            "projection: a point that those searches missed cannot be here.",
            hits=_hits(kept, self._rank(pool, new, made)),
        )

    def _encoded(self, kept: Sequence[str], pool: Points, new: Vectors) -> Column:
        """Embed the pool with the new model; every vector is kept, so none is paid for twice."""
        made, done = encode_gallery(self.models.new, self.workspace.cache, pool, self.models.stored)
        rows = np.flatnonzero(done)
        return Column(
            name="encoded",
            title="New model, re-encoded",
            note=f"The {len(rows)} points that the searches of this page found, ranked by the new "
            "model's own vectors: a point that those searches missed cannot be here.",
            hits=_hits(kept, self._rank(pool.rows(rows), new, made[rows])),
        )

    def _rank(self, pool: Points, query: Vectors, vectors: Vectors) -> list[str]:
        if not len(pool):
            return []
        scores = SearchSpace(query, vectors, self.store.new_distance).score()
        return [pool.ids[row] for row in rank_top_k(scores, SHOWN)[0]]

    def _forward(self) -> Projector | None:
        folder = self.workspace.artefacts.projector_folder(Direction.FORWARD)
        return Projector.load(folder) if folder.exists() else None

    def _show(self, payloads: Mapping[str, Mapping[str, Any]]) -> dict[str, ShownPoint]:
        fields, root = self.store.fields, _image_root(self.store.config)
        references = [fields.image_of(payload) or "" for payload in payloads.values()]
        images = [""] * len(references)
        if root is not None:
            images = make_thumbnails(references, ImagePolicy(root=root))
        return {
            point: ShownPoint(text=fields.text_of(payload) or "", image=image, payload=payload)
            for (point, payload), image in zip(payloads.items(), images, strict=True)
        }

    def _read_votes(self) -> list[dict[str, Any]]:
        if not self.votes_file.exists():
            return []
        try:
            rows = [json.loads(line) for line in self.votes_file.read_text("utf-8").splitlines()]
            return [row for row in rows if row["vote"] and row["relevant"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.votes_file} is not a file of votes: {error}", "name another with --votes"
            ) from error


@contextmanager
def open_side_by_side(config: Config, votes: Path | None) -> Iterator[SideBySide]:
    """Open everything that the page needs, and close it at the end.

    Args:
        config: The settings.
        votes: Where votes are kept; None for a file among the migration's artefacts.

    Raises:
        GateError: The migration is cut over: its old vectors answer no more.
        XbtMigrateError: There is no plan, or the collection or a model cannot be used.
    """
    with open_store(config) as store:
        models = Models(config)
        models.require_old("the page of `compare`", "ask the new model with `xbtmigrate serve`")
        workspace = Workspace(config, models)
        artefacts = workspace.artefacts
        # Applications may be without a plan, but not the page: before it nothing is known of new.
        artefacts.load_plan()
        with _quiet():
            searchers = {
                serving.name: MigrationSearcher.open(
                    store.connection.client,
                    store.facts.collection,
                    vector=config.qdrant.vector,
                    folder=artefacts.folder,
                    serving=serving.name,
                    centre_queries=config.serving.centre_queries,
                )
                for serving in (KEEP, BRIDGE, SINGLE)
            }
        if searchers[KEEP.name].situation.switched:
            raise _switched(config)
        found = SideBySide(
            store,
            models,
            workspace,
            searchers,
            _judged(config),
            votes or artefacts.votes_file,
        )
        found.votes()  # an unusable file is refused before the page opens
        yield found


def _hits(
    kept: Sequence[str], found: Sequence[str], kinds: Mapping[str, str] | None = None
) -> list[RankedHit]:
    """Return the first hits, with the places each rose compared with the old model's list."""
    before = {point: place for place, point in enumerate(kept)}
    return [
        RankedHit(
            id=point,
            kind=(kinds or {}).get(point) or "",
            moved=before[point] - place if point in before else None,
        )
        for place, point in enumerate(found[:SHOWN])
    ]


def _judged(config: Config) -> list[JudgedQuery]:
    return [
        (query, asked.modality, [str(point) for point in relevant])
        for asked in read_judged_questions(config)
        for query, relevant in zip(asked.texts, asked.relevant, strict=True)
    ]


def _image_root(config: Config) -> Path | None:
    """Return the folder that images may be shown from; None where no model names one."""
    for section in (config.new_model, config.old_model):
        root = (section.model_extra or {}).get("image_root")
        if root is not None:
            return config.base / str(root)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the searchers' warnings that a serving falls back: the page says so itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _switched(config: Config) -> GateError:
    return GateError(
        f"'{config.qdrant.collection}' is cut over: the old vectors answer no more",
        "compare before a cutover, or after `xbtmigrate rollback --yes`",
    )
