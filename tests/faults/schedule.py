"""One schedule: what is drawn from a seed, how it is played, and what must be true at its end."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from qdrant_client import QdrantClient

from tests.faults.application import Application
from tests.faults.judging import Judge, WrongError
from tests.faults.lanes import Lane
from tests.faults.network import Event, Network
from tests.faults.tool import Tool
from xbtmigrate import Projector

RUNS, SECONDS = 12, 90.0
_EVENTS = {
    Event.DELAY: 4,
    Event.LOSE_REQUEST: 4,
    Event.LOSE_ANSWER: 4,
    Event.ARRIVE_LATE: 6,
    Event.KILL_BEFORE: 3,
    Event.KILL_AFTER: 3,
    Event.RIVAL: 1,
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """What one seed stands for.

    Attributes:
        seed: The seed.
        layout: in_place or shadow.
        strategy: fastfill or full.
        fraction: Share that is re-encoded.
        batch: Points in a batch.
        writers: Writers of the application.
        roughness: Chance of a reset of the gRPC connection; None where gRPC is not used.
        runs: For each of the first runs, request number -> event.
    """

    seed: int
    layout: str
    strategy: str
    fraction: float
    batch: int
    writers: int
    roughness: float | None
    runs: tuple[Mapping[int, Event], ...]

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        rng = random.Random(seed)
        strategy = rng.choice(["fastfill", "fastfill", "fastfill", "full"])
        runs = [_draw_events(rng) for _ in range(rng.randint(1, 4))]
        if rng.random() < 0.15:
            runs[0][rng.randint(5, 60)] = Event.KILL_SERVER
        # The writers go on into the last of these runs, sometimes to its end.
        runs[-1][rng.randint(5, 160)] = Event.QUIET
        return cls(
            seed=seed,
            layout=["in_place", "shadow"][seed % 2],
            strategy=strategy,
            fraction=rng.choice([0.0, 0.4, 1.0]) if strategy == "fastfill" else 1.0,
            batch=rng.choice([5, 12, 24]),
            writers=rng.randint(2, 4),
            roughness=rng.choice([None, 0.0, 0.01]),
            runs=tuple(runs),
        )


def _draw_events(rng: random.Random) -> dict[int, Event]:
    drawn = rng.choices(list(_EVENTS), list(_EVENTS.values()), k=rng.randint(1, 6))
    return {rng.randint(3, 110): event for event in drawn}


@dataclass(slots=True)
class Play:
    """One schedule on one lane, with a fresh collection.

    Attributes:
        schedule: What is played.
        lane: Where.
        removed: Protection that the tool runs without.
        story: What happened, for whoever reads the log.
    """

    schedule: Schedule
    lane: Lane
    removed: str = ""
    story: Counter[str] = field(default_factory=Counter)
    _tool: Tool | None = None
    _rivals: list[threading.Thread] = field(default_factory=list)
    _wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Play it to its end.

        Raises:
            WrongError: Something is lost, stale, brought back or changed, or does not end.
        """
        lane, schedule = self.lane, self.schedule
        client = QdrantClient(url=lane.server.server.url, check_compatibility=False, timeout=60)
        with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
            folder = Path(scratch) / "job"
            template = lane.template(schedule.layout, schedule.strategy)
            shutil.copytree(template, folder)
            name = lane.reset(client, schedule.layout, schedule.strategy)
            lane.configure(folder, grpc=schedule.roughness is not None)
            application = Application(lane.server.server.url, name, lane.keys)
            application.fill(client)
            lane.channel.roughness = schedule.roughness or 0.0
            try:
                self._play(client, application, folder)
            finally:
                lane.channel.roughness = 0.0
                client.close()

    def _play(self, client: QdrantClient, application: Application, folder: Path) -> None:
        schedule = self.schedule
        acts = {
            Event.KILL_BEFORE: self._kill,
            Event.KILL_AFTER: self._kill,
            Event.KILL_SERVER: self._restart_server,
            Event.RIVAL: lambda: self._challenge(folder),
            Event.QUIET: application.quieten,
            Event.PEER_DIES: self.lane.lose_peer,
            Event.PEER_RETURNS: self.lane.regain_peer,
        }
        network = Network(self.lane.proxy, application.name, acts)
        application.start(schedule.seed, schedule.writers)
        try:
            for number in range(RUNS):
                network.begin(schedule.runs[number] if number < len(schedule.runs) else {})
                complete = self._run_tool(folder)
                if number < len(schedule.runs) - 1:
                    continue
                application.end()
                network.settle()
                if complete and self._check(client, application, network, folder):
                    return
        finally:
            application.quieten()
            for each in self._rivals:
                each.join()
            self.story.update({str(event): times for event, times in network.happened.items()})
            self.story.update(application.done)
            self.story["points looked at"] += len(application.changed)
        raise WrongError(f"not complete after {RUNS} runs")

    def _run_tool(self, folder: Path) -> bool:
        """Run the backfill to whatever end; says whether it is through."""
        self.story["runs"] += 1
        self._tool = Tool(self._command(), folder, self.removed).start()
        code, out, err = self._tool.end(SECONDS)
        for each in self._rivals:
            each.join()
        if self._wrong:
            raise WrongError(self._wrong[0])
        # A second run may have been the first to take the lease.
        allowed = (0, 1, -9, 3) if self._rivals and '"LeaseError"' in out else (0, 1, -9)
        if code is None or "Traceback" in err or code not in allowed:
            raise WrongError(f"the tool ended with {code}\n{out}\n{err}")
        self.story[f"exit {code}"] += 1
        if code != 0:
            return False
        answer = json.loads(out)
        self.story["left changing"] += answer["still_changing"] > 0
        return answer["phase"] == "backfilled"

    def _command(self) -> list[str]:
        schedule = self.schedule
        options = ["--batch-size", str(schedule.batch), "--fraction", str(schedule.fraction)]
        return ["backfill", "--online", "--json", "--max-slowdown", "off", *options]

    def _kill(self) -> None:
        if self._tool is not None:
            self._tool.kill()

    def _restart_server(self) -> None:
        self.lane.server.kill()
        self.lane.server.start()

    def _challenge(self, folder: Path) -> None:
        first = self._tool

        def rival() -> None:
            second = Tool(self._command(), folder, self.removed).start()
            code, out, err = second.end(SECONDS)
            if first is not None and first.alive and code != 3:
                self._wrong.append(f"a second run was let in: {code}\n{out}\n{err}")

        thread = threading.Thread(target=rival, daemon=True)
        self._rivals.append(thread)
        thread.start()

    def _check(
        self, client: QdrantClient, application: Application, network: Network, folder: Path
    ) -> bool:
        """Judge what the last pass has surely seen; says whether that was everything.

        Raises:
            WrongError: A point is not what it must be.
        """
        # What arrives late may hit any point behind the pass, and makes one more run due.
        if network.settled >= network.last_pass:
            return False
        behind = {
            number for number, when in application.changed.items() if when >= network.last_pass
        }
        judge = Judge(
            application,
            Projector.load(next((folder / ".xbtmigrate").glob("*/projector/forward"))),
            shadow=self.schedule.layout == "shadow",
            all_encoded=self.schedule.fraction == 1,
        )
        self.lane.settle(client)
        for each in self.lane.servers:
            with closing(QdrantClient(url=each.server.url, check_compatibility=False)) as peer:
                judge.look(peer, behind)
        if behind:
            return False
        self._verify(folder)
        return True

    def _verify(self, folder: Path) -> None:
        """The tool's own look at everything must find it right, too."""
        code, out, err = Tool(["verify", "--json"], folder, self.removed).start().end(SECONDS)
        answer = json.loads(out) if code in (0, 3) else {"reasons": [f"exit {code}: {out}{err}"]}
        # The application does change old vectors alone.
        wrong = [each for each in answer["reasons"] if "while their payload did not" not in each]
        if wrong:
            raise WrongError(f"verify says: {wrong} {answer.get('examples', '')}")


def played(schedule: Schedule, lane: Lane, removed: str = "") -> tuple[str, Counter[str], float]:
    """Play a schedule; returns what is wrong ("" if nothing), what happened, and the seconds."""
    started, play = time.monotonic(), Play(schedule, lane, removed)
    wrong = ""
    try:
        play.run()
    except WrongError as error:
        wrong = str(error)
    return wrong, play.story, time.monotonic() - started
