"""Lead specimens by seed: python -m tests.zoo --seeds 0-999 [--seconds 600] [--reduce]."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.zoo.keeper import Keeper, open_keeper
from tests.zoo.specimen import Specimen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-99", help="one seed, or FIRST-LAST")
    parser.add_argument("--seconds", type=float, default=3600, help="start no other one after this")
    parser.add_argument("--reduce", action="store_true", help="show the shortest one that fails")
    parser.add_argument("--log", action="store_true", help="show every command and refusal")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with open_keeper() as keeper:
        broken = lead_all(keeper, seeds, asked)
    sys.exit(bool(broken))


def lead_all(keeper: Keeper, seeds: range, asked: argparse.Namespace) -> list[int]:
    """Lead the specimen of every seed and say how it ended; returns the seeds that broke a law."""
    started, broken, ends = time.monotonic(), [], Counter[str]()
    for seed in seeds:
        if time.monotonic() - started > asked.seconds:
            print(f"time is up before seed {seed}")
            break
        specimen = Specimen.draw(seed)
        led = keeper.lead(specimen)
        ends["broken" if led.broken else led.ended.partition(":")[0]] += 1
        if led.broken:
            broken.append(seed)
        if led.broken and asked.reduce:
            specimen, reason = keeper.reduce(specimen, led.broken)
            print(f"{seed}: {reason}\n    {specimen}", flush=True)
        else:
            print(f"{seed}: {led.broken or led.ended}  {led.seconds:.1f} s", flush=True)
            if led.broken or asked.log:
                print(f"    {specimen}", flush=True)
        if asked.log:
            print("", *led.log, *led.refusals, sep="\n    ", flush=True)
    print(f"{sum(ends.values())} specimens in {time.monotonic() - started:.0f} s: {dict(ends)}")
    print(f"broken: {broken or 'none'}")
    return broken


if __name__ == "__main__":
    main()
