"""Points of which no new vector can be made end where all others do, and are counted on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.support.clipart import Clipart, write_config
from tests.support.collections import fresh_name
from tests.support.command import answer_inside
from tests.support.switching import MODES

COUNT = 300
REASONS = ("no_content", "refused", "no_old_vector")
EXPECTED = {
    "forward": (0, 0, 2),
    "fastfill": (1, 0, 0),
    "full": (2, 1, 0),
}
"""How many points get no new vector under each strategy, by the reason."""


class Place:
    """A collection with a point without content, one with a content that no encoder takes, one
    without an old vector and one with nothing at all; every point has a further vector `tag`."""

    def __init__(self, mode: str, url: str, folder: Path, strategy: str) -> None:
        kind, self.layout = mode.split("-")
        self.folder, self.strategy, self.name = folder, strategy, fresh_name()
        self.shadow = self.layout == "shadow"
        self.alias = f"live-{self.name}"
        self._url = url if kind == "server" else ""
        clipart = Clipart.load(COUNT)
        self.ids = clipart.ids
        self.empty, self.strange, self.bare, self.nothing = clipart.ids[:4]
        client = self.open()
        sizes = {"old": 128, "tag": 4} | ({} if self.shadow else {"new": 256})
        client.create_collection(
            self.name,
            vectors_config={
                name: models.VectorParams(size=size, distance=models.Distance.COSINE)
                for name, size in sizes.items()
            },
        )
        points = []
        for row, point in enumerate(clipart.ids):
            payload, vector = clipart.payloads[row] | {"row": row}, {"tag": [1, 2, 3, row]}
            if point in (self.empty, self.nothing):
                payload = {"caption": "only a caption", "row": row}
            if point == self.strange:
                payload["image"] = "an image that no model knows"
            if point not in (self.bare, self.nothing):
                vector["old"] = clipart.old[row].tolist()
            points.append(models.PointStruct(id=point, vector=vector, payload=payload))
        client.upsert(self.name, points, wait=True)
        alias = models.CreateAlias(collection_name=self.name, alias_name=self.alias)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
        client.close()
        self.before = self.points(self.name)
        settings = {"strategy": strategy, "layout": self.layout, "plan": "max_missing = 0.05"}
        write_config(folder, self._url or "path:qdrant", self.alias, **settings)

    @property
    def target(self) -> str:
        return f"{self.name}__xbtmigrate" if self.shadow else self.name

    def open(self) -> QdrantClient:
        if self._url:
            return QdrantClient(url=self._url, check_compatibility=False)
        return QdrantClient(path=str(self.folder / "qdrant"))

    def run(self, *arguments: str, expect: int = 0) -> dict:
        return answer_inside(*arguments, cwd=self.folder, expect=expect)

    def points(self, collection: str) -> dict[int, tuple[dict, dict]]:
        """Payload, without the tool's own key, and vectors of every point."""
        client = self.open()
        records, _ = client.scroll(collection, limit=10_000, with_vectors=True)
        client.close()
        return {
            record.id: (
                {key: value for key, value in record.payload.items() if key != "_xbtmigrate"},
                record.vector,
            )
            for record in records
        }

    def backfilled(self) -> dict:
        planned = self.run("plan")["without_vector"]
        no_content, _, no_old_vector = EXPECTED[self.strategy]
        assert planned == dict(zip(REASONS, (no_content, 0, no_old_vector), strict=True))
        self.run("train-projector", "--kind", "ridge", "--pairs", "200")
        fraction = {"forward": (), "fastfill": ("--fraction", "0.5"), "full": ()}
        return self.run("backfill", "--online", *fraction[self.strategy])

    def check_end(self, without: int) -> None:
        """Every point is there with its payload, its other vector, and a new one but for some."""
        now = self.points(self.target)
        assert now.keys() == self.before.keys() == set(self.ids)
        for point, (payload, vectors) in now.items():
            assert payload == self.before[point][0]
            tags = [np.array(each["tag"]) for each in (vectors, self.before[point][1])]
            # The embedded mode does not scale all that it stores.
            now_tag, before = (each / np.linalg.norm(each) for each in tags)
            np.testing.assert_allclose(now_tag, before, atol=1e-6)
        assert sum("new" not in vectors for _, vectors in now.values()) == without


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    mode, strategy = request.param
    url = request.getfixturevalue("qdrant_url") if mode.startswith("server") else ""
    return Place(mode, url, tmp_path, strategy)


@pytest.mark.server
@pytest.mark.parametrize("place", [("server-shadow", "forward")], indirect=True)
def test_too_many_points_without_an_old_vector_are_refused_before_anything_is_written(place: Place):
    path = place.folder / "xbtmigrate.toml"
    path.write_text(path.read_text("utf-8").replace("max_missing = 0.05", "max_missing = 0.007"))
    client = place.open()
    client.delete_vectors(place.name, ["old"], [place.ids[9]], wait=True)
    client.close()
    refused = place.run("plan", expect=3)["error"]
    assert refused["message"].startswith("3 of 300 points have no usable old vector")
    assert "fastfill" in refused["hint"]


@pytest.mark.server
@pytest.mark.parametrize("place", [("server-shadow", "full")], indirect=True)
def test_what_comes_late_and_cannot_be_embedded_is_carried_and_not_dropped(place: Place):
    place.backfilled()
    place.run("verify")
    place.run("cutover", "--yes", "--accept-without-vector", "3")
    client = place.open()
    late = models.PointStruct(id=900_001, vector={"tag": [1, 0, 0, 0]}, payload={"late": True})
    client.upsert(place.name, [late], wait=True)
    emptied = place.ids[7]
    client.overwrite_payload(place.name, {"caption": "gone"}, [emptied], wait=True)
    client.close()
    end = ("finalize", "--confirm", place.name, "--no-snapshot", "--notice", "0")
    refused = place.run(*end, expect=3)["error"]
    assert refused["message"].startswith("2 point(s) of the old side differ")
    assert all(each in refused["message"] for each in ("900001", str(emptied)))
    carried = place.run("cutover", "--yes")
    assert carried["without_vector"] == [str(emptied), "900001"]
    refused = place.run(*end, expect=3)["error"]
    assert refused["message"].startswith("5 point(s) have no new vector")
    place.run("cutover", "--yes", "--accept-without-vector", "5")
    place.run(*end)
    now = place.points(place.target)
    assert now[900_001][0] == {"late": True}
    assert now.keys() == {*place.ids, 900_001}
    assert now[emptied] == ({"caption": "gone"}, {"tag": now[emptied][1]["tag"]})


@pytest.mark.server
@pytest.mark.parametrize(
    "place", [(mode, strategy) for mode in MODES for strategy in EXPECTED], indirect=True
)
def test_every_point_is_there_at_the_end(place: Place):
    expected = dict(zip(REASONS, EXPECTED[place.strategy], strict=True))
    without = sum(expected.values())
    done = place.backfilled()
    assert (done["status"], done["gallery"]["without_vector"]) == ("complete", expected)
    assert place.run("status")["without_vector"] == expected
    assert done["gallery"]["without_new"] == without
    verified = place.run("verify")
    assert (verified["clean"], verified["without_vector"]) == (True, expected)

    refused = place.run("cutover", "--yes", expect=3)
    [gate] = [each for each in refused["gates"] if not each["passed"]]
    assert gate["name"] == "without_vector"
    assert f"--accept-without-vector {without}`" in gate["way_out"]
    if without > 1:
        place.run("cutover", "--yes", "--accept-without-vector", str(without - 1), expect=3)
    place.run("cutover", "--yes", "--accept-without-vector", str(without))
    place.run("finalize", "--confirm", place.name, "--no-snapshot", "--notice", "0")
    place.check_end(without)
