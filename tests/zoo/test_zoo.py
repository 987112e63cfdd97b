"""The zoo itself: it draws the same from a seed, and its judges see what they are there for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.qdrant_server import Server
from tests.zoo.application import Application, database
from tests.zoo.driver import Journey
from tests.zoo.keeper import Keeper, Led, open_keeper
from tests.zoo.oracle import Seen, complete, look, untouched
from tests.zoo.refusals import BrokenError, Outcome, ways_out
from tests.zoo.specimen import Specimen

ODD = Specimen(vector="", texts=("nul", "rtl"), writer=True, seed=7)
SETTINGS = {"vectors": {"old": {}}, "datatypes": {"old": "float32"}}


def test_a_seed_stands_for_one_specimen():
    drawn = [Specimen.draw(seed) for seed in range(200)]
    assert drawn == [Specimen.draw(seed) for seed in range(200)]
    assert len({str(each) for each in drawn}) > 190


def test_a_specimen_is_described_by_what_is_odd():
    assert str(ODD) == "Specimen(vector='', texts=('nul', 'rtl'), writer=True, seed=7)"
    plainer = list(ODD.plainer())
    assert replace(ODD, texts=("rtl",)) in plainer
    assert replace(ODD, vector="old") in plainer
    assert len(plainer) == 5


def test_a_failing_one_is_reduced(monkeypatch: pytest.MonkeyPatch):
    def lead(self: Keeper, specimen: Specimen) -> Led:
        return Led("", "3 points are lost" if "rtl" in specimen.texts else "", [], [], 0.0)

    monkeypatch.setattr(Keeper, "lead", lead)
    with open_keeper(Server("", 0)) as keeper:
        reduced, _ = keeper.reduce(ODD, "41 points are lost")
    assert reduced == Specimen(texts=("rtl",), seed=7)


def seen(**changes: object) -> Seen:
    point = ({"text": "bali"}, {"old": np.ones(3, np.float32)}, None)
    return Seen({1: point, 2: point}, **{"settings": SETTINGS, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (replace(seen(), points={1: seen().points[1]}), "1 points are lost, such as 2"),
        (
            replace(
                seen(), points={**seen().points, 1: ({"text": 1.0}, seen().points[1][1], None)}
            ),
            "the payload of 1 changed",
        ),
        (
            replace(seen(), points={**seen().points, 1: ({"text": "bali"}, {}, None)}),
            "the vector 'old' of 1 changed",
        ),
        (seen(collections=frozenset({"left"})), "a collection was left: left"),
        (seen(settings={**SETTINGS, "vectors": {}}), "vectors changed"),
    ],
)
def test_the_oracle_sees_what_a_refusal_wrote(after: Seen, says: str):
    assert says in untouched(seen(), after)[0]
    assert untouched(seen(), seen()) == []


def test_the_oracle_sees_a_lost_vector_and_one_of_another_text(tmp_path: Path):
    database(tmp_path)().close()
    application = Application(Specimen(count=2), database(tmp_path))
    application.create()
    with application.client() as client:
        before = look(client, application.name)
    model = application.new_model
    points = {
        each: (payload, {"new": model.vectors([payload["text"]])[0]}, None)
        for each, (payload, _, _) in before.points.items()
    }

    def faults() -> list[str]:
        after = replace(before, points=points)
        return complete(before, after, application, "new", strategy="full", accepted=1)

    assert faults() == []
    assert complete(
        *(before, replace(before, points=points), application, "new"),
        strategy="full",
        accepted=1,
        beside=True,
    ) == ["the vector 'old' of 1 changed", "the vector 'old' of 2 changed"]
    points[1] = (points[1][0], points[2][1], None)
    points[2] = (points[2][0], {}, None)
    assert faults() == ["the new vector of 1 is not that of its content", "2 has no new vector"]


@pytest.mark.parametrize(
    ("code", "document"),
    [
        (4, {"error": {"message": "it failed", "hint": "do this", "exit_code": 4}}),
        (1, {"error": {"message": "it failed", "hint": "do this", "exit_code": 3}}),
        (1, {"error": {"message": "it failed", "hint": "", "exit_code": 1}}),
        (1, {"error": {"message": "KeyError: 'plan'", "hint": "do this", "exit_code": 1}}),
        (3, {"status": "not clean", "reasons": [], "next": ""}),
    ],
)
def test_a_poor_refusal_is_not_let_pass(code: int, document: dict):
    with pytest.raises(BrokenError):
        Outcome(["plan"], code, document).check()


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        ("give --accept-without-vector 3", ["--accept-without-vector 3"]),
        (
            "run `xbtmigrate backfill --online --fraction 1` first",
            ["backfill --online --fraction 1"],
        ),
        ("raise plan.max_missing", ["set plan.max_missing 1.0"]),
        ("name it with --alias, or give --by-switch", ["--alias live"]),
        ("run the same command again", ["again"]),
        ("write more points, or give queries with relevance in plan.queries", ["judge"]),
        (
            'raise it: PATCH /collections/a b {"strict_mode_config": {"read_rate_limit": 4}}',
            ['PATCH {"strict_mode_config": {"read_rate_limit": 4}}'],
        ),
        ("the collection holds nothing of it", []),
    ],
)
def test_a_way_out_is_followed_as_printed(hint: str, typed: list[str], tmp_path: Path):
    application = Application(Specimen(alias="beside"), database(tmp_path))
    application.alias = "live"
    document = {"error": {"message": "it failed", "hint": hint, "exit_code": 1}}
    assert list(ways_out(Outcome(["cutover"], 1, document), application)) == typed


def test_a_traceback_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*command: str, cwd: Path) -> None:
        raise KeyError("plan")

    monkeypatch.setattr("tests.zoo.driver.inside", fails)
    journey = Journey(ODD, "path:qdrant", 0, tmp_path, Application(ODD, database(tmp_path)))
    with pytest.raises(BrokenError, match="traceback: KeyError"):
        journey._run("plan")
