"""Runs against protections that no schedule can see missing: what they prevent is aimed at."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from qdrant_client import QdrantClient, models

from tests.faults.application import Application, Point
from tests.faults.judging import Judge, WrongError
from tests.faults.lanes import Lane
from tests.faults.tool import Tool
from tests.support.proxy import DroppedError, Request
from xbtmigrate import Projector

COMMAND = (
    "backfill",
    "--online",
    "--json",
    "--max-slowdown",
    "off",
    "--batch-size",
    "24",
    "--fraction",
    "0",
)
QUEUED = 60
"""Writes of the application that the server has still to apply when the tool's comes."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A collection in place whose points are all projected, in one run.

    Attributes:
        lane: Where.
        client: The application's client.
        application: What the points must be.
        folder: Where the tool runs.
        removed: Protection that it runs without.
    """

    lane: Lane
    client: QdrantClient
    application: Application
    folder: Path
    removed: str

    def run(self) -> dict[str, Any]:
        """Run the tool once; it has to come through, and every point has to be right.

        Raises:
            WrongError: It does not, or they are not.
        """
        code, out, err = Tool(COMMAND, self.folder, self.removed).start().end(90)
        if code != 0:
            raise WrongError(f"the tool ended with {code}\n{out}\n{err}")
        answer = json.loads(out)
        if answer["phase"] != "backfilled":
            raise WrongError(f"one run was not enough: {answer['status']}")
        forward = next((self.folder / ".xbtmigrate").glob("*/projector/forward"))
        judge = Judge(self.application, Projector.load(forward), shadow=False, all_encoded=False)
        judge.look(self.client, ())
        return dict(answer)

    def change(self, number: int) -> None:
        """Replace a point by its next version."""
        point = Point.make(number, 1, number)
        stored = models.PointStruct(id=number, vector=point.vectors, payload=dict(point.payload))
        self.client.upsert(self.application.name, [stored], wait=True)
        self.application.points[number] = point

    def delete(self, number: int) -> None:
        """Delete a point."""
        self.client.delete(self.application.name, models.PointIdsList(points=[number]), wait=True)
        del self.application.points[number]


@contextmanager
def aimed(lane: Lane, removed: str) -> Iterator[Aim]:
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as scratch,
        closing(QdrantClient(url=lane.server.server.url, check_compatibility=False)) as client,
    ):
        folder = Path(scratch) / "job"
        shutil.copytree(lane.template("in_place", "fastfill"), folder)
        application = Application(
            lane.server.server.url, lane.reset(client, "in_place", "fastfill")
        )
        application.fill(client)
        try:
            yield Aim(lane, client, application, folder, removed)
        finally:
            lane.proxy.before = lane.proxy.after = lambda _: None


def writes_vectors(request: Request) -> bool:
    return request.method == "PUT" and "/points/vectors" in request.path


def a_point_vanishes(aim: Aim) -> None:
    """It is deleted between the tool's read and its write; the others of its batch are written."""

    once = Lock()

    def before(request: Request) -> None:
        if writes_vectors(request) and once.acquire(blocking=False):
            aim.delete(json.loads(request.body)["points"][3]["id"])

    aim.lane.proxy.before = before
    if aim.run()["vanished"] != 1:
        raise WrongError("the deleted point was not counted as vanished")


def a_point_changes_behind_a_sweep(aim: Aim) -> None:
    """A sweep finds something to do, and behind it something changes: another one has to follow."""
    passes, pages = 0, 0

    def before(request: Request) -> None:
        nonlocal passes, pages
        if not request.path.endswith(f"/{aim.application.name}/points/scroll"):
            return
        begins = b'"offset"' not in request.body
        passes, pages = passes + begins, 0 if begins else pages + 1
        if (passes, pages) == (2, 0):
            aim.change(149)
        elif (passes, pages) == (2, 2):
            aim.change(0)

    aim.lane.proxy.before = before
    aim.run()


def a_page_of_a_sweep_is_lost(aim: Aim) -> None:
    """A point changes behind the first pass, and the connection breaks before the sweep sees it."""
    passes, lost = 0, False

    def before(request: Request) -> None:
        nonlocal passes, lost
        if not request.path.endswith(f"/{aim.application.name}/points/scroll"):
            return
        begins = b'"offset"' not in request.body
        passes += begins
        if (passes, begins) == (2, True):
            aim.change(149)
        elif passes == 2 and not lost:
            lost = True
            raise DroppedError

    aim.lane.proxy.before = before
    aim.run()


def the_server_is_behind(aim: Aim) -> None:
    """Its queue is long; what the tool has been told is written has been applied, marks too."""
    wrong: list[str] = []

    def before(request: Request) -> None:
        if not writes_vectors(request):
            return
        points = [
            models.PointVectors(id=number, vector={"extra": point.extra.tolist()})
            for number, point in aim.application.points.items()
        ]
        update = models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=points))
        aim.client.batch_update_points(aim.application.name, [update] * QUEUED, wait=False)

    def after(request: Request) -> None:
        if not writes_vectors(request):
            return
        ids = [each["id"] for each in json.loads(request.body)["points"]]
        records = aim.client.retrieve(aim.application.name, ids, with_vectors=["new"])
        if bare := [
            each.id for each in records if "_xbtmigrate" not in each.payload or not each.vector
        ]:
            wrong.append(f"{len(bare)} of {len(ids)} points were not there when they were said to")

    aim.lane.proxy.before, aim.lane.proxy.after = before, after
    aim.run()
    if wrong:
        raise WrongError(wrong[0])


AIMS: dict[str, Callable[[Aim], None]] = {
    "more than one sweep": a_point_changes_behind_a_sweep,
    "retry without the vanished": a_point_vanishes,
    "marks before vectors": the_server_is_behind,
    "wait until applied": the_server_is_behind,
    "an error is not the end": a_page_of_a_sweep_is_lost,
}
"""Protection -> what has to go right, and goes wrong without it."""


def hit(name: str, lane: Lane, *, removed: bool) -> str:
    """Run what is aimed at a protection, with or without it; returns what is wrong."""
    try:
        with aimed(lane, name if removed else "") as aim:
            AIMS[name](aim)
    except WrongError as error:
        return str(error)
    return ""
