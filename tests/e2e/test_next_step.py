"""Whoever types what `Next:` says, from `init` on, comes to the end; a blocked run comes on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import DATA, Clipart
from tests.support.collections import fresh_name
from tests.support.command import type_inside

COUNT, MOST = 150, 30


@dataclass
class Reader:
    """A person who knows the two models, some judged queries, and nothing of the tool.

    Attributes:
        folder: Where the commands are typed.
        url: Server, "" for an embedded database in the folder.
        name: The collection.
        unnamed: Whether its vector has no name, so that only a shadow can take the new ones.
        alias: What the application reads, "" for the collection itself.
        typed: Every command so far.
    """

    folder: Path
    url: str = ""
    name: str = field(default_factory=fresh_name)
    unnamed: bool = False
    both: bool = False
    alias: str = ""
    typed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clipart, client = Clipart.load(COUNT), self.open()
        size = models.VectorParams(size=self.clipart.old.shape[1], distance="Cosine")
        if self.unnamed:
            client.create_collection(self.name, vectors_config=size)
            client.upsert(
                self.name,
                models.Batch(
                    ids=self.clipart.ids,
                    vectors=self.clipart.old.tolist(),
                    payloads=self.clipart.payloads,
                ),
                wait=True,
            )
        else:
            self.clipart.fill(client, self.name, both=self.both)
        if self.alias:
            made = models.CreateAlias(collection_name=self.name, alias_name=self.alias)
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
        client.close()

    def open(self) -> QdrantClient:
        if self.url:
            return QdrantClient(url=self.url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def type(self, command: str) -> str | None:
        """Type a command; returns the one that it names next."""
        self.typed.append(command)
        return type_inside(command, cwd=self.folder)

    def begin(self) -> str:
        """Type `init` as the README does, and fill in the models and the queries."""
        where = self.url or "path:qdrant"
        vector = "" if self.unnamed else " --vector old"
        following = self.type(
            f"xbtmigrate init --collection {self.alias or self.name} --url {where}{vector}"
        )
        asked = {
            "text": self.clipart.captions,
            "relevant": [[str(each)] for each in self.clipart.ids],
        }
        pq.write_table(pa.table(asked), self.folder / "queries.parquet")
        config = self.folder / "xbtmigrate.toml"
        text = config.read_text("utf-8")
        text = text.replace('"old.parquet"', f'"{DATA / "old.parquet"}"')
        text = text.replace('"new.parquet"', f'"{DATA / "new.parquet"}"')
        text = text.replace('stored = "text"', 'stored = "image"')
        text = text.replace("# image = ", "image = ")
        config.write_text(f'{text}queries = "queries.parquet"\n', "utf-8")
        assert following is not None
        return following

    def follow(self, command: str | None) -> None:
        """Type only what is named, until nothing is."""
        while command is not None:
            assert len(self.typed) < MOST, self.typed
            command = self.type(command)


@pytest.fixture(autouse=True)
def _without_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No application has to notice anything, so nothing waits for one."""
    monkeypatch.setattr("xbtmigrate.workflows.cutover.finalize.give_notice", lambda *_: None)
    monkeypatch.setattr("xbtmigrate.workflows.cutover.abort.give_notice", lambda *_: None)


READERS = {
    "embedded in place": {},
    "embedded shadow": {"unnamed": True},
    "server shadow behind an alias": {"url": "server", "alias": "live"},
    "server shadow without an alias": {"url": "server"},
    "server in place": {"url": "server", "both": True},
}


@pytest.mark.server
@pytest.mark.parametrize("case", READERS)
def test_only_what_next_says_leads_to_the_end(case: str, qdrant_url: str, tmp_path: Path):
    given = dict(READERS[case])
    if "url" in given:
        given["url"] = qdrant_url
    if "alias" in given:
        given["alias"] = f"live-{fresh_name()}"
    reader = Reader(tmp_path, **given)
    reader.follow(reader.begin())
    verbs = [shlex.split(each)[1] for each in reader.typed]
    assert verbs[-1] == "finalize"
    client = reader.open()
    place = reader.name if "in place" in case else f"{reader.name}__xbtmigrate"
    records, _ = client.scroll(place, limit=COUNT + 1, with_vectors=True)
    client.close()
    assert len(records) == COUNT
