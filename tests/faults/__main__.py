"""Run and replay schedules: python -m tests.faults --seeds 0-199, or --removals."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tests.faults.aimed import AIMS, hit
from tests.faults.answers import open_journey, play_each
from tests.faults.lanes import Lane, open_lane
from tests.faults.removals import REMOVALS
from tests.faults.schedule import Schedule, played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-199", help="one seed, or FIRST-LAST")
    parser.add_argument("--removals", nargs="*", choices=list(REMOVALS), metavar="PROTECTION")
    parser.add_argument("--most", type=int, default=12, help="seeds that may miss a removal")
    parser.add_argument("--json", type=Path, help="write what happened here")
    parser.add_argument("--answers", action="store_true", help="fail each request of a migration")
    parser.add_argument("--apart", type=int, default=0, help="requests between two that fail")
    asked = parser.parse_args()
    if asked.answers:
        sys.exit(check_answers(asked.apart))
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with open_lane() as lane:
        if asked.removals is not None:
            missed = check_removals(lane, asked.removals or list(REMOVALS), seeds, asked.most)
            sys.exit(bool(missed))
        wrong = play_all(lane, seeds, asked.json)
    sys.exit(bool(wrong))


def play_all(lane: Lane, seeds: range, report: Path | None) -> int:
    """Play every seed; returns how many went wrong."""
    total: Counter[str] = Counter()
    failed = []
    for seed in seeds:
        wrong, story, seconds = played(Schedule.draw(seed), lane)
        total += story
        total["schedules"] += 1
        print(f"{seed}: {wrong or 'right'}  {seconds:.1f} s  {dict(story)}", flush=True)
        if wrong:
            failed.append(seed)
            print(Schedule.draw(seed), flush=True)
    print(f"{len(seeds)} schedules, wrong: {failed or 'none'}\n{dict(total)}")
    if report is not None:
        report.write_text(json.dumps({"wrong": failed, "story": total}, indent=1))
    return len(failed)


def check_removals(lane: Lane, names: list[str], seeds: range, most: int) -> list[str]:
    """Play seeds without each protection until one sees it; returns the protections not missed."""
    missed = []
    print("| protection taken out | seed that saw it | seeds that did not | what it saw |")
    print("|---|---|---|---|", flush=True)
    for name in names:
        if name in AIMS:
            said = hit(name, lane, removed=True).partition("\n")[0][:90]
            missed += [] if said else [name]
            print(f"| {name} | {'aimed at' if said else 'none'} | none | {said} |", flush=True)
            continue
        unseen: list[int] = []
        for seed in list(seeds)[:most]:
            wrong, _, _ = played(Schedule.draw(seed), lane, name)
            if wrong:
                said = wrong.splitlines()[0][:90]
                print(f"| {name} | {seed} | {unseen or 'none'} | {said} |", flush=True)
                break
            unseen.append(seed)
        else:
            missed.append(name)
            print(f"| {name} | none | {unseen} | |", flush=True)
    return missed


def check_answers(apart: int) -> bool:
    """Fail each request of each command in turn; returns whether something went wrong."""
    with open_journey() as journey:
        failed, wrong = play_each(journey, apart)
    print(f"{failed} failed requests, wrong runs: {len(wrong)}")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    main()
