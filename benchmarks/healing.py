"""Whether an echo that stalls again and again comes back to the delay that it began with.

Ten stalls of 0.3 to 3 s, 8 s apart; and five minutes with fifty stalls of 20 to 500 ms. The probe,
the echo in a process of its own, and the way of measuring are those of latency.py.

    python benchmarks/healing.py [--minutes 5]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys

import latency
from latency import PERIOD, RATE, Trip
from support.livekit_server import Server, serve

SECONDS = PERIOD / RATE  # from one burst to the next
WITHIN = 40.0  # ms: as near to the delay before as it has to come back
APART = round(8 / SECONDS)  # bursts
START = latency.BEFORE


def median(trips: list[Trip], start: float, stop: float) -> float:
    return statistics.median(trip.took for trip in trips if start <= trip.at < stop)


def long_stalls(server: Server, name: str, chance: random.Random) -> bool:
    lengths = [0.3, 3.0, *(round(chance.uniform(0.3, 3.0), 1) for _ in range(8))]
    stalls = {START + number * APART: length for number, length in enumerate(lengths)}
    trips, _ = latency.run(server, name, START + len(stalls) * APART, stalls)
    healed = 0
    before = median(trips, 0, START * SECONDS)
    print(f"{name}: {before:.0f} ms; then")
    for burst, length in stalls.items():
        over = burst * SECONDS + length
        after = median(trips, over + latency.HEALED, (burst + APART) * SECONDS)
        healed += after - before <= WITHIN
        print(f"  {length:.1f} s of stall; {latency.HEALED:g} s later {after:.0f} ms")
    print(f"  {healed} of {len(stalls)} back within {WITHIN:g} ms")
    return healed == len(stalls)


def many_stalls(server: Server, name: str, chance: random.Random, minutes: float) -> bool:
    bursts = round(minutes * 60 / SECONDS)
    places = sorted(chance.sample(range(START, bursts - APART), round(10 * minutes)))
    stalls = {place: chance.uniform(0.02, 0.5) for place in places}
    trips, used = latency.run(server, name, bursts, stalls)
    before = median(trips, 0, START * SECONDS)
    after = median(trips, (bursts - APART // 2) * SECONDS, bursts * SECONDS)
    print(
        f"{name}: {minutes:g} min with {len(stalls)} stalls, {sum(stalls.values()):.1f} s in all: "
        f"{before:.0f} ms at the start, {after:.0f} ms at the end, {used.cpu:.1f} % CPU, "
        f"{used.memory:+.1f} MB, {bursts - len(trips)} of {bursts} bursts not found"
    )
    return after - before <= WITHIN


def main() -> None:
    parser = argparse.ArgumentParser(description="Delay after many stalls.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=6)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    ours, *_ = latency.SUBJECTS
    with serve() as server:
        healed = long_stalls(server, ours, chance)
        healed &= many_stalls(server, ours, chance, given.minutes)
    sys.exit(not healed)


if __name__ == "__main__":
    main()
