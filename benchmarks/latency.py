"""How long a sound takes to a room's echo and back, before and after the echo has stalled.

A probe participant says bursts of noise at 48 kHz, no two alike, and finds them again in what it
hears, by cross-correlation. Each echo runs in a process of its own, so that they do not share an
interpreter, and is blocked once, as by a slow model or a garbage collection. The rounds alternate,
because jitter buffers and the phase of frames move the figures by 10 ms from one run to the next.

    python benchmarks/latency.py [--rounds 5] [--stall 0.8]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from importlib.metadata import version
from pathlib import Path

import anyio
import attrs
import matplotlib as mpl
import numpy as np
import psutil
from livekit import api, rtc
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import livekit_server

from beluga_livekit import open_livekit

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 48_000
TICK = RATE // 100
BURST = RATE // 10
PERIOD = RATE // 2
BEFORE, AFTER = 12, 20  # bursts before and after the stall
HEALED = 3.0  # seconds after the stall that "after" begins
LONGEST = 2.5  # seconds that a burst is looked for


async def ours(url: str, token: str) -> None:
    """The two lines of the README."""
    async with open_livekit(url, token) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)


async def ours_short(url: str, token: str) -> None:
    """The same in frames as short as the SDK's are by default."""
    async with open_livekit(url, token, frame_size=160) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)


async def raw(url: str, token: str, rate: int, frame_ms: int | None, queue_ms: int) -> None:
    """What people write with the SDK alone."""
    room = rtc.Room()
    tracks: asyncio.Queue[rtc.RemoteAudioTrack] = asyncio.Queue()
    room.on("track_subscribed", tracks.put_nowait)
    await room.connect(url, token)
    source = rtc.AudioSource(rate, 1, queue_size_ms=queue_ms)
    track = rtc.LocalAudioTrack.create_audio_track("echo", source)
    await room.local_participant.publish_track(track)
    audio = rtc.AudioStream(await tracks.get(), sample_rate=rate, frame_size_ms=frame_ms)
    async for event in audio:
        await source.capture_frame(event.frame)


async def raw_tuned(url: str, token: str) -> None:
    """The floor: nothing resamples, and the queue is short."""
    await raw(url, token, RATE, frame_ms=20, queue_ms=50)


async def raw_resampled(url: str, token: str) -> None:
    """The same sound as ours, in frames as long."""
    await raw(url, token, 16_000, frame_ms=20, queue_ms=1000)


async def raw_defaults(url: str, token: str) -> None:
    """In frames of 10 ms, then."""
    await raw(url, token, 16_000, frame_ms=None, queue_ms=1000)


SUBJECTS = {
    "beluga_livekit, 16 kHz": ours,
    "beluga_livekit, 16 kHz, 10 ms": ours_short,
    "raw SDK, 48 kHz, 20 ms, queue 50": raw_tuned,
    "raw SDK, 16 kHz, 20 ms": raw_resampled,
    "raw SDK, 16 kHz, defaults": raw_defaults,
}


def noise(seed: int) -> NDArray[np.int16]:
    """A burst of what Opus carries best."""
    bins = np.fft.rfft(np.random.default_rng(seed).normal(size=BURST))
    frequencies = np.fft.rfftfreq(BURST, 1 / RATE)
    bins[(frequencies < 300) | (frequencies > 6000)] = 0
    burst = np.fft.irfft(bins)
    rounded: NDArray[np.int16] = np.rint(burst / np.abs(burst).max() * 12_000).astype(np.int16)
    return rounded


def find(burst: NDArray[np.int16], sound: NDArray[np.float64]) -> int | None:
    """Returns where a burst is in a sound, if it is: bits of it may have been shed."""
    size = len(sound) + BURST
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(burst.astype(np.float64), size))
    match = np.fft.irfft(spectrum, size)[: len(sound)]
    found = int(match.argmax())
    part = sound[found : found + BURST]
    scale = np.linalg.norm(part) * np.linalg.norm(burst.astype(np.float64))
    return found if len(part) == BURST and match[found] > 0.3 * scale else None


@attrs.frozen
class Trip:
    """A burst's round trip: when it was said, in seconds from the first; and ms."""

    at: float
    took: float


@attrs.frozen
class Used:
    """What a subject used: % of a core, and MB of memory more at the end than at the start."""

    cpu: float
    memory: float


async def probe(
    url: str, token: str, subject: psutil.Process, bursts: int, stall_before: Collection[int]
) -> tuple[list[Trip], Used]:
    """Returns the round trips of the bursts, and what `subject` used, blocked before some."""
    room = rtc.Room()
    heard_tracks: asyncio.Queue[rtc.RemoteAudioTrack] = asyncio.Queue()
    room.on("track_subscribed", heard_tracks.put_nowait)
    await room.connect(url, token)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=20)
    track = rtc.LocalAudioTrack.create_audio_track("probe", source)
    await room.local_participant.publish_track(track)
    stream = rtc.AudioStream(await heard_tracks.get(), sample_rate=RATE, frame_size_ms=10)
    heard: list[tuple[float, bytes]] = []

    async def listen() -> None:
        async for event in stream:
            heard.append((time.perf_counter(), bytes(event.frame.data)))

    async def say(seed: int) -> None:
        period = np.zeros(PERIOD, np.int16)
        period[:BURST] = noise(seed)
        said.append((time.perf_counter() + source.queued_duration, seed))
        for at in range(0, PERIOD, TICK):
            part = period[at : at + TICK]
            await source.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, TICK))

    said: list[tuple[float, int]] = []
    listener = asyncio.create_task(listen())
    await asyncio.sleep(3.0)  # connecting is over, jitter buffers have settled
    used, memory, start = subject.cpu_times(), subject.memory_info().rss, time.perf_counter()
    for seed in range(bursts):
        if seed in stall_before:
            subject.send_signal(signal.SIGUSR1)
        await say(seed)
    await asyncio.sleep(LONGEST)
    now, took = subject.cpu_times(), time.perf_counter() - start
    cpu = 100 * (now.user + now.system - used.user - used.system) / took
    used_more = Used(cpu, (subject.memory_info().rss - memory) / 1e6)
    listener.cancel()
    await stream.aclose()
    await room.disconnect()
    times = np.array([at for at, _ in heard])
    sound = np.concatenate([np.frombuffer(data, np.int16) for _, data in heard]).astype(float)
    trips = []
    for begun, seed in said:
        first = int(np.searchsorted(times, begun))
        found = find(noise(seed), sound[first * TICK :][: int(LONGEST * RATE)])
        if found is not None:
            index = min(first + found // TICK, len(times) - 1)
            arrived = times[index] - (TICK - found % TICK) / RATE  # a frame arrives with its end
            trips.append(Trip(begun - start, (arrived - begun) * 1000))
    return trips, used_more


def mint(server: livekit_server.Server, room: str, identity: str) -> str:
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(server.api_key, server.api_secret)
    return token.with_identity(identity).with_grants(grants).to_jwt()


@attrs.frozen
class Round:
    """One subject's figures of one round: ms, and % of a core."""

    trips: list[Trip]
    cpu: float
    stall: float

    @property
    def before(self) -> list[float]:
        return [trip.took for trip in self.trips if trip.at < BEFORE * PERIOD / RATE]

    @property
    def after(self) -> list[float]:
        healed = BEFORE * PERIOD / RATE + self.stall + HEALED
        return [trip.took for trip in self.trips if trip.at > healed]


def measure(server: livekit_server.Server, name: str, stall: float) -> Round:
    trips, used = run(server, name, BEFORE + AFTER, {BEFORE: stall})
    return Round(trips, used.cpu, stall)


def run(
    server: livekit_server.Server, name: str, bursts: int, stalls: dict[int, float]
) -> tuple[list[Trip], Used]:
    """Returns the round trips to a subject that is blocked before some bursts, and what it used."""
    room = f"latency-{secrets.token_hex(4)}"  # one that was killed stays for a while
    command = [sys.executable, __file__, "--subject", name, *map(str, stalls.values())]
    env = os.environ | {
        "LIVEKIT_URL": server.url,
        "LIVEKIT_TOKEN": mint(server, room, "echo"),
        "RUST_LOG": "off",
    }
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as subject:
        try:
            token = mint(server, room, "probe")
            process = psutil.Process(subject.pid)
            return asyncio.run(probe(server.url, token, process, bursts, stalls))
        finally:
            subject.kill()


async def echo(name: str, stalls: Iterable[float]) -> None:
    """Runs a subject, which each SIGUSR1 blocks, for one of these times after the other."""
    left = iter(stalls)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: time.sleep(next(left)))
    await SUBJECTS[name](os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])


def draw(rounds: dict[str, list[Round]], stall: float, folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for color, (name, measured) in zip(("C0", "C2", "C7", "C3", "C1"), rounds.items(), strict=True):
        for number, one in enumerate(measured):
            over = BEFORE * PERIOD / RATE + stall
            at, took = [t.at - over for t in one.trips], [t.took for t in one.trips]
            label = name if number == 0 else None
            axes.plot(at, took, ".-", color=color, alpha=0.6, linewidth=1, label=label)
    axes.axvspan(-stall, 0, color="0.85")
    axes.set(xlabel="seconds since the end of a stall of the echo", ylabel="round trip, ms", ylim=0)
    axes.legend(frameon=False)
    figure.savefig(folder / "latency.svg", metadata={"Date": None})


def main(rounds: int, stall: float, folder: Path) -> None:
    names = ("livekit", "anyio", "numpy")
    print(platform.python_version(), *(f"{name} {version(name)}" for name in names), sep=", ")
    measured: dict[str, list[Round]] = {name: [] for name in SUBJECTS}
    with livekit_server.serve() as server:
        for _ in range(rounds):
            for name in SUBJECTS:
                measured[name].append(measure(server, name, stall))
    print(
        f"{'round trip, ms':34} {'before':>6} {'range':>9} {'p95':>5} "
        f"{'after':>6} {'range':>9} {'CPU':>5}   {rounds} rounds, stall {stall:g} s"
    )
    for name, those in measured.items():
        before = [statistics.median(one.before) for one in those]
        tail = [float(np.percentile(one.before, 95)) for one in those]
        after = [statistics.median(one.after) for one in those]
        cpu = statistics.median(one.cpu for one in those)
        print(
            f"{name:34} {statistics.median(before):6.0f} {min(before):4.0f}-{max(before):<4.0f} "
            f"{statistics.median(tail):5.0f} {statistics.median(after):6.0f} "
            f"{min(after):4.0f}-{max(after):<4.0f} {cpu:4.1f}%"
        )
    draw(measured, stall, folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--subject"]:
        anyio.run(echo, sys.argv[2], map(float, sys.argv[3:]))
    else:
        parser = argparse.ArgumentParser(description="Latency before and after a stall.")
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--stall", type=float, default=0.8, help="seconds")
        parser.add_argument("--pictures", type=Path, default=Path(__file__).parent / "results")
        given = parser.parse_args()
        main(given.rounds, given.stall, given.pictures)
