"""Quality of the answers from the first backfill to the end, under a constant load; run by hand.

python benchmarks/quality_over_time.py --folder run --figure docs/quality-over-time.svg

Starts a server with the Debian corpus, plans and trains, and then asks one searcher the held-out
queries, one after the other at a fixed rate, while the commands run: backfill, verify, cutover,
rollback, verify, cutover, finalize. Each answer is judged; the exact answers of the old model and
of the new model to the same queries stand beside it. Prints a table and draws a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from commands import Corpus, debian, prepare, run
from matplotlib.figure import Figure
from qdrant_client import QdrantClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.qdrant_server import running_server
from xbtmigrate.evaluation.retrieval import SearchSpace, rank_top_k
from xbtmigrate.serving import MigrationSearcher
from xbtmigrate.serving.formula import match_encoded
from xbtmigrate.types import Vectors

NAME, WINDOW, DEPTH = "debian", 10.0, 10
COLORS = {"keep": "#8a8a8a", "calibrated": "#1f6fb4", "single": "#c2571a"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and what became of it; `keep` and `full` tell whether these models find it."""

    at: float
    phase: str
    fraction: float
    serving: str
    found: bool
    keep: bool
    full: bool


class Judge:
    """The queries in both models, and whether each model alone finds the right point."""

    def __init__(self, corpus: Corpus) -> None:
        texts, relevant = corpus.queries
        contents = [payload["description"] for payload in corpus.payloads]
        self.right = [int(ids[0]) for ids in relevant]
        self.vectors: dict[str, Vectors] = {}
        self.finds: dict[str, np.ndarray] = {}
        for model, (keys, vectors) in corpus.models.items():
            row = {key: number for number, key in enumerate(keys)}
            self.vectors[model] = vectors[[row[text] for text in texts]]
            gallery = vectors[[row[text] for text in contents]]
            best = rank_top_k(SearchSpace(self.vectors[model], gallery).score(), DEPTH)
            ids = np.array(corpus.ids)[best]
            self.finds[model] = (ids == np.array(self.right)[:, None]).any(axis=1)

    def __len__(self) -> int:
        return len(self.right)


class Load:
    """Asks at a fixed rate until it is stopped; no failure is passed over."""

    def __init__(
        self, client: QdrantClient, searcher: MigrationSearcher, judge: Judge, rate: float
    ) -> None:
        self.asked: list[Asked] = []
        self.failed: list[str] = []
        self.fraction, self.started = 0.0, time.monotonic()
        self._client, self._searcher, self._judge, self._rate = client, searcher, judge, rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._count)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def _ask(self) -> None:
        judge = self._judge
        order = np.random.default_rng(0).permutation(len(judge))
        turn = 0
        while not self._stop.wait(max(0.0, turn / self._rate - self.now)):
            row, turn = int(order[turn % len(order)]), turn + 1
            vectors = {"vector": judge.vectors["new"][row], "old_vector": judge.vectors["old"][row]}
            try:
                answer = self._searcher.search(limit=DEPTH, with_payload=False, **vectors)
            except Exception as error:  # noqa: BLE001
                self.failed.append(f"{self.now:.1f} s: {error}")
                continue
            phase = self._searcher.situation.phase
            found = judge.right[row] in [point.id for point in answer]
            both = (bool(judge.finds[model][row]) for model in ("old", "new"))
            name = "not begun" if phase is None else phase.value
            self.asked.append(Asked(self.now, name, self.fraction, answer.serving, found, *both))

    def _count(self) -> None:
        """Follow the share of re-encoded points."""
        while not self._stop.wait(1.0):
            situation = self._searcher.situation
            if situation.phase is not None and situation.phase.value == "backfilling":
                done = self._client.count(
                    NAME, match_encoded(situation.plan.digest, situation.new.name), exact=True
                ).count
                self.fraction = done / situation.plan.collection.points


def migrate(folder: Path, load: Load, rate: int, hold: float) -> list[tuple[float, str]]:
    """Run the commands as a user does; returns when each began."""
    began = []

    def step(*command: str) -> None:
        time.sleep(hold)
        began.append((load.now, command[0]))
        run(folder, *command)

    online = ("backfill", "--online", "--max-slowdown", "off", "--max-rate", str(rate))
    step(*online, "--fraction", "0")
    step(*online, "--fraction", "1")
    load.fraction = 1.0
    step("verify", "--sample", "4000")
    step("cutover", "--yes")
    step("rollback", "--yes")
    step("verify", "--sample", "4000")
    step("cutover", "--yes")
    step("finalize", "--yes", "--no-snapshot")
    time.sleep(hold)
    return began


def table(asked: Sequence[Asked]) -> list[str]:
    """Means by phase and, while re-encoding goes on, by tenths of the gallery."""
    rows: dict[tuple[str, str, str], list[Asked]] = {}
    for each in asked:
        share = f"{int(each.fraction * 10) * 10} %" if each.phase == "backfilling" else ""
        rows.setdefault((each.phase, share, each.serving), []).append(each)
    lines = [
        "| phase | re-encoded | serving | queries | recall@10 | keep | full |",
        "|" + "---|" * 7,
    ]
    for (phase, share, serving), some in rows.items():
        means = (np.mean([getattr(e, name) for e in some]) for name in ("found", "keep", "full"))
        figures = " | ".join(f"{mean:.3f}" for mean in means)
        lines.append(f"| {phase} | {share} | {serving} | {len(some)} | {figures} |")
    return lines


def draw(asked: Sequence[Asked], began: Sequence[tuple[float, str]], file: Path) -> None:
    """Recall in windows of ten seconds, the commands, and the share of re-encoded points."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    ax, share = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    windows: dict[int, list[Asked]] = {}
    for each in asked:
        windows.setdefault(int(each.at / WINDOW), []).append(each)
    at = np.array([(each + 0.5) * WINDOW for each in windows])
    for name, color, label in (("keep", "#bbbbbb", "old model"), ("full", "#777777", "new model")):
        means = [np.mean([getattr(one, name) for one in some]) for some in windows.values()]
        ax.plot(at, means, color=color, linestyle="--", linewidth=1, label=f"{label}, same queries")
    means = [np.mean([one.found for one in some]) for some in windows.values()]
    ax.plot(at, means, color="#444444", linewidth=0.8)
    served = [
        max({o.serving for o in some}, key=[o.serving for o in some].count)
        for some in windows.values()
    ]
    for serving in dict.fromkeys(served):
        rows = [row for row, each in enumerate(served) if each == serving]
        color = COLORS.get(serving, "#4a9a5a")
        ax.plot(at[rows], np.array(means)[rows], "o", color=color, label=f"searcher: {serving}")
    for when, command in began:
        for each in (ax, share):
            each.axvline(when, color="#dddddd", linewidth=1, zorder=0)
        ax.text(when, 1.0, f" {command}", rotation=90, va="top", ha="left", fontsize=7)
    ax.set(ylabel=f"recall@{DEPTH} in {WINDOW:.0f} s", ylim=(0, 1.02))
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    share.plot([each.at for each in asked], [each.fraction for each in asked], color="#1f6fb4")
    share.set(ylabel="re-encoded", xlabel="seconds", ylim=(0, 1.05), yticks=(0, 1))
    figure.savefig(file)


def main(given: Sequence[str] | None = None) -> None:
    """Parse, run, print, draw."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(description="Quality over the time of a migration")
    parser.add_argument("--folder", type=Path, required=True, help="new folder, figures too")
    parser.add_argument("--figure", type=Path, help="SVG or PNG file")
    parser.add_argument("--data", type=Path, default=default, help="folder of the corpora")
    parser.add_argument("--rate", type=float, default=40, help="queries a second")
    parser.add_argument("--max-rate", type=int, default=400, help="points a second")
    parser.add_argument("--hold", type=float, default=10, help="seconds between the commands")
    parser.add_argument("--pairs", default="6000")
    arguments = parser.parse_args(given)
    folder, corpus = arguments.folder, debian(arguments.data)
    with running_server() as server:
        prepare(corpus, NAME, folder, server.url, 0)
        run(folder, "plan")
        run(folder, "train-projector", "--kind", "ridge", "--pairs", arguments.pairs)
        client = QdrantClient(url=server.url, check_compatibility=False, timeout=60)
        artefacts = next(folder.glob(".xbtmigrate/*"))
        searcher = MigrationSearcher.open(client, NAME, folder=artefacts, serving="calibrated")
        with Load(client, searcher, Judge(corpus), arguments.rate) as load:
            began = migrate(folder, load, arguments.max_rate, arguments.hold)
    print(f"{len(load.asked)} queries answered, {len(load.failed)} failed {load.failed[:3]}")
    print("\n".join(table(load.asked)))
    figures = {"began": began, "failed": load.failed, "asked": [asdict(e) for e in load.asked]}
    (folder / "figures.json").write_text(json.dumps(figures) + "\n")
    if arguments.figure:
        draw(load.asked, began, arguments.figure)


if __name__ == "__main__":
    main()
