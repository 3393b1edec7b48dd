"""Round trip of a sound through an echo in a room, before and after the echo stalls.

A probe participant plays bursts of noise at 48 kHz, each different, and finds them in the audio it
receives, by cross-correlation. Each echo runs in a process of its own, so that the two do not
share an interpreter. It is blocked once, as by a slow model or a garbage collection. The rounds of
the subjects are interleaved, because jitter buffers and the phase of frames move the figures by
10 ms from one run to the next.

    python benchmarks/latency.py [--rounds 5] [--stall 0.8]
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import anyio
import attrs
import matplotlib as mpl
import numpy as np
import psutil
from common import (
    ResourceMeter,
    Results,
    Server,
    Usage,
    connect,
    make_parser,
    mint,
    publish,
    quiet_environment,
    serve,
    unique_room,
)
from livekit import rtc
from numpy.typing import NDArray

from beluga_livekit import open_livekit

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 48_000
BLOCK = RATE // 100
BURST = RATE // 10
PERIOD = RATE // 2
SECONDS = PERIOD / RATE  # from one burst to the next
BEFORE, AFTER = 12, 20  # bursts before and after the stall
SETTLE_TIME = 3.0  # time that connecting and the jitter buffers need (s)
RECOVERY_TIME = 3.0  # time after the stall from which a round trip counts as "after" (s)
MAX_TRIP = 2.5  # longest round trip that is searched for (s)


async def ours(url: str, token: str) -> None:
    """Echo with the two lines of the README."""
    async with open_livekit(url, token) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)


async def ours_short(url: str, token: str) -> None:
    """Echo in frames as short as the SDK's are by default."""
    async with open_livekit(url, token, frame_size=160) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)


async def raw(url: str, token: str, rate: int, frame_ms: int | None, queue_ms: int) -> None:
    """Echo with the usual loop on the SDK alone."""
    room, tracks = await connect(url, token)
    source = await publish(room, "echo", rate, queue_ms=queue_ms)
    audio = rtc.AudioStream(await tracks.get(), sample_rate=rate, frame_size_ms=frame_ms)
    async for event in audio:
        await source.capture_frame(event.frame)


async def raw_tuned(url: str, token: str) -> None:
    """Echo with no resampling and a short queue: the floor."""
    await raw(url, token, RATE, frame_ms=20, queue_ms=50)


async def raw_resampled(url: str, token: str) -> None:
    """Echo the same format as ours, in frames of the same length."""
    await raw(url, token, 16_000, frame_ms=20, queue_ms=1000)


async def raw_defaults(url: str, token: str) -> None:
    """Echo with the SDK's defaults: frames of 10 ms."""
    await raw(url, token, 16_000, frame_ms=None, queue_ms=1000)


SUBJECTS = {
    "beluga_livekit, 16 kHz": ours,
    "beluga_livekit, 16 kHz, 10 ms": ours_short,
    "raw SDK, 48 kHz, 20 ms, queue 50": raw_tuned,
    "raw SDK, 16 kHz, 20 ms": raw_resampled,
    "raw SDK, 16 kHz, defaults": raw_defaults,
}


def noise(seed: int) -> NDArray[np.int16]:
    """Return a burst in the band that Opus carries best."""
    bins = np.fft.rfft(np.random.default_rng(seed).normal(size=BURST))
    frequencies = np.fft.rfftfreq(BURST, 1 / RATE)
    bins[(frequencies < 300) | (frequencies > 6000)] = 0
    burst = np.fft.irfft(bins)
    rounded: NDArray[np.int16] = np.rint(burst / np.abs(burst).max() * 12_000).astype(np.int16)
    return rounded


def find(burst: NDArray[np.int16], sound: NDArray[np.float64]) -> int | None:
    """Return where a burst is in a sound, or None. Parts of the burst may have been trimmed."""
    size = len(sound) + BURST
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(burst.astype(np.float64), size))
    match = np.fft.irfft(spectrum, size)[: len(sound)]
    found = int(match.argmax())
    part = sound[found : found + BURST]
    scale = np.linalg.norm(part) * np.linalg.norm(burst.astype(np.float64))
    return found if len(part) == BURST and match[found] > 0.3 * scale else None


@attrs.frozen
class Trip:
    """The round trip of one burst.

    Attributes:
        at: When it was played, from the start of the measurement (s).
        milliseconds: Its duration.
    """

    at: float
    milliseconds: float


class Probe:
    """Plays bursts of noise, and records the audio received."""

    def __init__(self, source: rtc.AudioSource) -> None:
        self._source = source
        self._played: list[tuple[float, int]] = []
        self._received: list[tuple[float, bytes]] = []

    async def record(self, stream: rtc.AudioStream) -> None:
        async for event in stream:
            self._received.append((time.perf_counter(), bytes(event.frame.data)))

    async def play(self, seed: int) -> None:
        """Play the burst of a seed, and silence until the next one."""
        period = np.zeros(PERIOD, np.int16)
        period[:BURST] = noise(seed)
        self._played.append((time.perf_counter() + self._source.queued_duration, seed))
        for at in range(0, PERIOD, BLOCK):
            part = period[at : at + BLOCK]
            await self._source.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, BLOCK))

    def trips(self, start: float) -> list[Trip]:
        """Return the round trips of the bursts that were received."""
        times = np.array([at for at, _ in self._received])
        parts = [np.frombuffer(data, np.int16) for _, data in self._received]
        sound = np.concatenate(parts).astype(float)
        trips = []
        for begun, seed in self._played:
            first = int(np.searchsorted(times, begun))
            found = find(noise(seed), sound[first * BLOCK :][: int(MAX_TRIP * RATE)])
            if found is not None:
                index = min(first + found // BLOCK, len(times) - 1)
                # The time of a frame is that of its last sample.
                arrived = times[index] - (BLOCK - found % BLOCK) / RATE
                trips.append(Trip(begun - start, (arrived - begun) * 1000))
        return trips


async def measure_trips(
    url: str, token: str, subject: psutil.Process, bursts: int, stall_before: Collection[int]
) -> tuple[list[Trip], Usage]:
    """Return the round trips of the bursts, and the usage of `subject`, blocked before some."""
    room, tracks = await connect(url, token)
    probe = Probe(await publish(room, "probe", RATE, queue_ms=20))
    stream = rtc.AudioStream(await tracks.get(), sample_rate=RATE, frame_size_ms=10)
    recording = asyncio.create_task(probe.record(stream))
    await asyncio.sleep(SETTLE_TIME)
    meter, start = ResourceMeter(subject), time.perf_counter()
    for seed in range(bursts):
        if seed in stall_before:
            subject.send_signal(signal.SIGUSR1)
        await probe.play(seed)
    await asyncio.sleep(MAX_TRIP)
    usage = meter.usage()
    recording.cancel()
    await stream.aclose()
    await room.disconnect()
    return probe.trips(start), usage


def run_subject(
    server: Server, name: str, bursts: int, stalls: dict[int, float]
) -> tuple[list[Trip], Usage]:
    """Run a subject in a process of its own, blocked before some bursts, and measure it."""
    room = unique_room("latency")
    command = [sys.executable, __file__, "--subject", name, *map(str, stalls.values())]
    env = quiet_environment(LIVEKIT_URL=server.url, LIVEKIT_TOKEN=mint(server, room, "echo"))
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as subject:
        try:
            token = mint(server, room, "probe")
            process = psutil.Process(subject.pid)
            return asyncio.run(measure_trips(server.url, token, process, bursts, stalls))
        finally:
            subject.kill()


async def run_echo(name: str, stalls: Iterable[float]) -> None:
    """Run a subject; each SIGUSR1 blocks it, for one of these times (s) after the other."""
    left = iter(stalls)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: time.sleep(next(left)))
    await SUBJECTS[name](os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])


@attrs.frozen
class Round:
    """The figures of one subject in one round.

    Attributes:
        trips: Round trips.
        cpu: CPU time (% of a core).
        stall: Duration of the stall (s).
    """

    trips: list[Trip]
    cpu: float
    stall: float

    @property
    def before(self) -> list[float]:
        return [trip.milliseconds for trip in self.trips if trip.at < BEFORE * SECONDS]

    @property
    def after(self) -> list[float]:
        recovered = BEFORE * SECONDS + self.stall + RECOVERY_TIME
        return [trip.milliseconds for trip in self.trips if trip.at > recovered]


def measure_round(server: Server, name: str, stall: float) -> Round:
    trips, usage = run_subject(server, name, BEFORE + AFTER, {BEFORE: stall})
    return Round(trips, usage.cpu, stall)


def report(results: Results, name: str, rounds: list[Round]) -> None:
    """Print and record the medians and ranges of a subject."""
    before = [statistics.median(one.before) for one in rounds]
    tail = statistics.median(float(np.percentile(one.before, 95)) for one in rounds)
    after = [statistics.median(one.after) for one in rounds]
    cpu = statistics.median(one.cpu for one in rounds)
    print(
        f"{name:34} {statistics.median(before):6.0f} {min(before):4.0f}-{max(before):<4.0f} "
        f"{tail:5.0f} {statistics.median(after):6.0f} "
        f"{min(after):4.0f}-{max(after):<4.0f} {cpu:4.1f}%"
    )
    results.add(
        subject=name,
        before_ms=statistics.median(before),
        before_range_ms=(min(before), max(before)),
        before_p95_ms=tail,
        after_ms=statistics.median(after),
        after_range_ms=(min(after), max(after)),
        cpu_percent=cpu,
    )


def draw(rounds: dict[str, list[Round]], stall: float, folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for color, (name, measured) in zip(("C0", "C2", "C7", "C3", "C1"), rounds.items(), strict=True):
        for number, one in enumerate(measured):
            end = BEFORE * SECONDS + stall
            at, trips = [t.at - end for t in one.trips], [t.milliseconds for t in one.trips]
            label = name if number == 0 else None
            axes.plot(at, trips, ".-", color=color, alpha=0.6, linewidth=1, label=label)
    axes.axvspan(-stall, 0, color="0.85")
    axes.set(xlabel="seconds since the end of a stall of the echo", ylabel="round trip, ms", ylim=0)
    axes.legend(frameon=False)
    figure.savefig(folder / "latency.svg", metadata={"Date": None})


def main() -> None:
    parser = make_parser("Round trip through an echo, before and after a stall.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each subject")
    parser.add_argument("--stall", type=float, default=0.8, help="duration of the stall (s)")
    given = parser.parse_args()
    results = Results("latency", {"rounds": given.rounds, "stall_s": given.stall})
    results.print_versions()
    measured: dict[str, list[Round]] = {name: [] for name in SUBJECTS}
    with serve() as server:
        for _ in range(given.rounds):
            for name in SUBJECTS:
                measured[name].append(measure_round(server, name, given.stall))
    print(
        f"{'round trip, ms':34} {'before':>6} {'range':>9} {'p95':>5} {'after':>6} {'range':>9} "
        f"{'CPU':>5}   {given.rounds} rounds, stall {given.stall:g} s"
    )
    for name, rounds in measured.items():
        report(results, name, rounds)
    results.write(given.results)
    draw(measured, given.stall, given.results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--subject"]:
        anyio.run(run_echo, sys.argv[2], map(float, sys.argv[3:]))
    else:
        main()
