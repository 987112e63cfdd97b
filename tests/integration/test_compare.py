"""The page of `compare`: what each column holds, votes that evaluations read, and who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from qdrant_client import QdrantClient

from tests.support.clipart import Clipart, make_judged_folder
from tests.support.command import answer_inside, inside
from tests.support.migrating import new_model, old_model
from tests.support.tiny_clip import png
from xbtmigrate.config import load_config
from xbtmigrate.encoders.images import ImagePolicy
from xbtmigrate.encoders.thumbnails import make_thumbnails
from xbtmigrate.errors import GateError
from xbtmigrate.evaluation.query_files import read_questions
from xbtmigrate.evaluation.retrieval import SearchSpace, rank_top_k
from xbtmigrate.projectors import Projector
from xbtmigrate.serving.http.compare_page import create_compare_page
from xbtmigrate.types import Direction
from xbtmigrate.workflows.serve.compare import POOL, SHOWN, SideBySide, open_side_by_side

COUNT = 300
TOKEN = "a-token-that-nobody-guesses"
TEXT = 7
"""Row whose caption is the query."""


class Page:
    """The page as a browser meets it."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def post(self, route: str, body: dict, expect: int = 200) -> dict:
        answer = self.http.post(f"/{TOKEN}/{route}", json=body)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def columns(self, **query: object) -> dict[str, dict]:
        return {each["name"]: each for each in self.post("search", query)["columns"]}


@pytest.fixture(scope="module")
def clipart() -> Clipart:
    return Clipart.load(COUNT)


@pytest.fixture(scope="module")
def folder(clipart: Clipart, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned migration of an embedded collection, with judged queries."""
    folder = tmp_path_factory.mktemp("compare")
    make_judged_folder(folder, clipart, 40)
    answer_inside("plan", cwd=folder)
    return folder


@pytest.fixture
def opened(folder: Path) -> Iterator[SideBySide]:
    with open_side_by_side(load_config(folder / "xbtmigrate.toml"), None) as comparison:
        yield comparison


@pytest.fixture
def page(opened: SideBySide) -> Page:
    http = TestClient(create_compare_page(opened, TOKEN), base_url="http://127.0.0.1:8766")
    return Page(http)


def ids(column: dict) -> list[int]:
    return [int(hit["id"]) for hit in column["hits"]]


def held(client: QdrantClient) -> tuple[dict[str, list], np.ndarray]:
    """Collections with ids and payloads, and all old vectors."""
    found = {
        each.name: client.scroll(each.name, limit=10 * COUNT, with_vectors=True)[0]
        for each in client.get_collections().collections
    }
    vectors = np.array([point.vector["old"] for point in found["clipart"]])
    return {
        name: [(point.id, point.payload, {*point.vector}) for point in points]
        for name, points in found.items()
    }, vectors


def nearest(clipart: Clipart, query: np.ndarray, gallery: np.ndarray, pool: list[int]) -> list[int]:
    rows = [clipart.ids.index(point) for point in pool]
    [ranked] = rank_top_k(SearchSpace(query, gallery[rows]).score(), SHOWN)
    return [pool[row] for row in ranked]


def test_before_training_the_pool_is_what_the_old_vectors_find(page: Page, clipart: Clipart):
    found = page.columns(text=clipart.captions[TEXT])
    query = old_model([clipart.captions[TEXT]])
    [rows] = rank_top_k(SearchSpace(query, clipart.old).score(), POOL)
    pool = [clipart.ids[row] for row in rows]
    assert ids(found["keep"]) == pool[:SHOWN]
    assert found["projected"]["hits"] == []
    assert "train-projector" in found["projected"]["note"]
    new = new_model([clipart.captions[TEXT]])
    assert ids(found["encoded"]) == nearest(clipart, new, clipart.new, pool)
    assert f"{POOL} points" in found["encoded"]["note"]
    for place, hit in enumerate(found["encoded"]["hits"]):
        assert hit["moved"] == pool.index(int(hit["id"])) - place


def test_a_judged_query_comes_with_its_answers_and_payloads(page: Page, clipart: Clipart):
    found = page.post("search", {"judged": TEXT})
    assert found["relevant"] == [str(clipart.ids[TEXT])]
    shown = {hit["id"] for column in found["columns"] for hit in column["hits"]}
    assert shown == set(found["points"])
    for point, each in found["points"].items():
        assert each["text"] == clipart.captions[clipart.ids.index(int(point))]
        assert each["image"] == "", "no model names a folder of images"
        assert set(each["payload"]) == {"image", "caption"}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("search", {}),
        ("search", {"text": "a", "judged": 0}),
        ("search", {"judged": 40}),
        ("search", {"judged": -1}),
        ("search", {"text": ""}),
        ("search", {"text": "no model has embedded this"}),
        ("search", {"text": "a", "file": "x"}),
        ("vote", {"text": "a", "vote": "new", "relevant": []}),
        ("vote", {"text": "a", "vote": "left", "relevant": ["1"]}),
    ],
)
def test_what_is_wrong_is_refused_with_a_hint(page: Page, route: str, body: dict):
    assert set(page.post(route, body, expect=422)) == {"error", "hint"}


def test_votes_are_judged_queries_and_the_last_one_counts(page: Page, opened: SideBySide, folder):
    one, other = map(str, opened.queries[0][2] + opened.queries[1][2])
    page.post("vote", {"judged": 0, "vote": "old", "relevant": [one]})
    page.post("vote", {"judged": 1, "vote": "same", "relevant": [other]})
    counted = page.post("vote", {"judged": 0, "vote": "new", "relevant": [one, other]})
    assert (counted["old"], counted["same"], counted["new"]) == (0, 1, 1)
    [questions] = read_questions(opened.votes_file)
    asked = dict(zip(questions.texts, questions.relevant, strict=True))
    assert asked == {opened.queries[0][0]: [one, other], opened.queries[1][0]: [other]}
    assert str(opened.votes_file) in counted["command"]


def test_an_evaluation_reads_the_votes(folder: Path):
    found = answer_inside(
        "evaluate", "--queries", folder / ".xbtmigrate/clipart-old/compared.jsonl", cwd=folder
    )
    assert found["query_count"] == 2
    assert not found["provisional"]


def test_only_this_machine_with_the_token_is_let_in(page: Page):
    assert page.http.get(f"/{TOKEN}/").status_code == 200
    for path in ("/", "/another-token/", "/docs", "/openapi.json", f"/{TOKEN}x/"):
        assert page.http.get(path).status_code == 404, path
    assert page.http.post("/another-token/search", json={"text": "a"}).status_code == 404
    foreign = page.http.get(f"/{TOKEN}/", headers={"host": "evil.example"})
    assert foreign.status_code == 403


def test_the_page_loads_nothing_and_escapes_what_it_shows(page: Page, clipart: Clipart):
    answer = page.http.get(f"/{TOKEN}/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "http:" not in answer.text.replace("http-equiv", "")
    assert "https:" not in answer.text
    assert page.http.get(f"/{TOKEN}/").headers["content-security-policy"] != policy


def test_after_training_candidates_are_projected_and_nothing_is_written(
    folder: Path, clipart: Clipart
):
    answer_inside("train-projector", "--kind", "procrustes,ridge", cwd=folder)
    config = load_config(folder / "xbtmigrate.toml")
    text = clipart.captions[TEXT]
    with open_side_by_side(config, None) as comparison:
        client = comparison.store.connection.client
        before = held(client)
        http = TestClient(create_compare_page(comparison, TOKEN), base_url="http://127.0.0.1")
        found = Page(http).columns(text=text)
        after = held(client)
    assert after[0] == before[0]
    # The embedded mode scales vectors to length 1 again when it searches them.
    assert after[1] == pytest.approx(before[1], abs=1e-6)
    artefacts = comparison.workspace.artefacts
    maps = {each: Projector.load(artefacts.projector_folder(each)) for each in Direction}
    new = new_model([text])
    pool = [clipart.ids[row] for row in rank_top_k(SearchSpace(
        old_model([text]), clipart.old).score(), POOL)[0]]  # fmt: skip
    bridged = SearchSpace(maps[Direction.BRIDGE].apply(new), clipart.old)
    pool += [clipart.ids[row] for row in rank_top_k(bridged.score(), POOL)[0]]
    pool = list(dict.fromkeys(pool))
    projected = maps[Direction.FORWARD].apply(clipart.old)
    assert "cannot be searched by new vectors yet" in found["projected"]["note"]
    assert ids(found["projected"]) == nearest(clipart, new, projected, pool)
    assert ids(found["encoded"]) == nearest(clipart, new, clipart.new, pool)


def test_a_backfilled_collection_answers_as_it_would_serve(folder: Path, clipart: Clipart):
    answer_inside("backfill", "--online", "--fraction", "0.5", cwd=folder)
    config = load_config(folder / "xbtmigrate.toml")
    with open_side_by_side(config, None) as comparison:
        client = comparison.store.connection.client
        http = TestClient(create_compare_page(comparison, TOKEN), base_url="http://127.0.0.1")
        found = Page(http).post("search", {"text": clipart.captions[TEXT]})
        query = new_model([clipart.captions[TEXT]])[0].tolist()
        wanted = client.query_points("clipart", query, using="new", limit=SHOWN).points
        marks = {
            point.id: point.payload["_xbtmigrate"]["kind"]
            for point in client.retrieve("clipart", [hit.id for hit in wanted])
        }
    live = {each["name"]: each for each in found["columns"]}["projected"]
    assert "after a cutover" in live["note"]
    assert {int(hit["id"]): hit["kind"] for hit in live["hits"]} == marks
    assert len(set(marks.values())) == 2, "the query should meet both kinds"
    assert all("_xbtmigrate" not in each["payload"] for each in found["points"].values())


def test_a_migration_that_is_cut_over_is_refused(folder: Path):
    answer_inside("verify", cwd=folder)
    answer_inside(
        "cutover", "--yes", "--readers-send-new-vectors", "--despite-evaluation", cwd=folder
    )
    with (
        pytest.raises(GateError, match="cut over"),
        open_side_by_side(load_config(folder / "xbtmigrate.toml"), None),
    ):
        pass
    code, _, said = inside("compare", "--no-browser", "--port", "0", cwd=folder)
    assert (code, "rollback" in said) == (3, True)


def test_images_come_from_below_the_root_alone(tmp_path: Path):
    root = tmp_path / "images"
    root.mkdir()
    (root / "red.png").write_bytes(png("red"))
    (tmp_path / "secret.png").write_bytes(png("red"))
    (root / "text.png").write_text("no image")
    asked = ["red.png", "", "../secret.png", "text.png", "http://127.0.0.1/x.png", "absent.png"]
    found = make_thumbnails(asked, ImagePolicy(root=root))
    assert found[0].startswith("data:image/png;base64,")
    assert found[1:] == [""] * 5
