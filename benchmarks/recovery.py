"""Latency recovery: whether an echo that stalls repeatedly returns to its first round trip.

Ten stalls of 0.3 to 3 s, 8 s apart; then five minutes with fifty stalls of 20 to 500 ms. The probe,
the echo in a process of its own and the measurement are those of latency.py. Exit code 1 if a round
trip did not recover.

    python benchmarks/recovery.py [--minutes 5]
"""

from __future__ import annotations

import random
import statistics
import sys

from common import Results, Server, make_parser, serve
from latency import BEFORE, RECOVERY_TIME, SECONDS, Trip, run_subject

SUBJECT = "beluga_livekit, 16 kHz"
TOLERANCE = 40.0  # largest increase of the round trip that counts as recovered (ms)
INTERVAL = round(8 / SECONDS)  # from one long stall to the next (bursts)


def median(trips: list[Trip], start: float, stop: float) -> float:
    return statistics.median(trip.milliseconds for trip in trips if start <= trip.at < stop)


def long_stalls(server: Server, results: Results, chance: random.Random) -> bool:
    """Measure the round trip after each long stall; return whether all recovered."""
    lengths = [0.3, 3.0, *(round(chance.uniform(0.3, 3.0), 1) for _ in range(8))]
    stalls = {BEFORE + number * INTERVAL: length for number, length in enumerate(lengths)}
    trips, _ = run_subject(server, SUBJECT, BEFORE + len(stalls) * INTERVAL, stalls)
    recovered = 0
    before = median(trips, 0, BEFORE * SECONDS)
    print(f"{SUBJECT}: {before:.0f} ms; then")
    for burst, length in stalls.items():
        end = burst * SECONDS + length
        after = median(trips, end + RECOVERY_TIME, (burst + INTERVAL) * SECONDS)
        recovered += after - before <= TOLERANCE
        print(f"  {length:.1f} s of stall; {RECOVERY_TIME:g} s later {after:.0f} ms")
        results.add(table="long stalls", stall_s=length, before_ms=before, after_ms=after)
    print(f"  {recovered} of {len(stalls)} within {TOLERANCE:g} ms of the first")
    return recovered == len(stalls)


def many_stalls(server: Server, results: Results, chance: random.Random, minutes: float) -> bool:
    """Measure the round trip before and after many short stalls; return whether it recovered."""
    bursts = round(minutes * 60 / SECONDS)
    places = sorted(chance.sample(range(BEFORE, bursts - INTERVAL), round(10 * minutes)))
    stalls = {place: chance.uniform(0.02, 0.5) for place in places}
    trips, usage = run_subject(server, SUBJECT, bursts, stalls)
    before = median(trips, 0, BEFORE * SECONDS)
    after = median(trips, (bursts - INTERVAL // 2) * SECONDS, bursts * SECONDS)
    print(
        f"{SUBJECT}: {minutes:g} min with {len(stalls)} stalls, {sum(stalls.values()):.1f} s in "
        f"all: {before:.0f} ms at the start, {after:.0f} ms at the end, {usage.cpu:.1f} % CPU, "
        f"{usage.memory:+.1f} MB, {bursts - len(trips)} of {bursts} bursts not found"
    )
    results.add(
        table="many stalls",
        minutes=minutes,
        stalls=len(stalls),
        stalled_s=sum(stalls.values()),
        before_ms=before,
        after_ms=after,
        cpu_percent=usage.cpu,
        memory_growth_mb=usage.memory,
        bursts=bursts,
        bursts_not_found=bursts - len(trips),
    )
    return after - before <= TOLERANCE


def main() -> None:
    parser = make_parser("Round trip through an echo after many stalls.")
    parser.add_argument("--minutes", type=float, default=5.0, help="duration of the second part")
    parser.add_argument("--seed", type=int, default=6, help="seed of lengths and places of stalls")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    results = Results("recovery", {"minutes": given.minutes, "seed": given.seed})
    results.print_versions()
    with serve() as server:
        recovered = long_stalls(server, results, chance)
        recovered &= many_stalls(server, results, chance, given.minutes)
    results.write(given.results)
    sys.exit(not recovered)


if __name__ == "__main__":
    main()
