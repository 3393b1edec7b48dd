"""How long a sound takes to a room's echo and back: ours beside the raw SDK's.

A probe participant says bursts of noise at 48 kHz and finds them again in what it hears, by
cross-correlation. Each echo runs in a process of its own, so that they do not share an
interpreter; the rounds alternate, because jitter buffers and the phase of frames move the figure
by 10 ms from one run to the next.

    python benchmarks/round_trip.py [rounds]
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anyio
import numpy as np
import psutil
from livekit import api, rtc

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import livekit_server

from beluga_livekit import open_livekit

RATE = 48_000
BURSTS = 12
PERIOD = 0.5


async def ours(url: str, token: str) -> None:
    """The two lines of the README."""
    async with open_livekit(url, token) as (rx, tx):
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


async def raw_defaults(url: str, token: str) -> None:
    await raw(url, token, 16_000, frame_ms=None, queue_ms=1000)


SUBJECTS = {
    "beluga_livekit, 16 kHz": ours,
    "raw SDK, 48 kHz, 20 ms, queue 50": raw_tuned,
    "raw SDK, 16 kHz, defaults": raw_defaults,
}


async def probe(url: str, token: str) -> list[float]:
    """Returns the round trip of each burst, in ms."""
    room = rtc.Room()
    heard_tracks: asyncio.Queue[rtc.RemoteAudioTrack] = asyncio.Queue()
    room.on("track_subscribed", heard_tracks.put_nowait)
    await room.connect(url, token)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=20)
    track = rtc.LocalAudioTrack.create_audio_track("probe", source)
    await room.local_participant.publish_track(track)
    stream = rtc.AudioStream(await heard_tracks.get(), sample_rate=RATE, frame_size_ms=10)
    rng = np.random.default_rng(1)
    bins = np.fft.rfft(rng.normal(size=RATE // 10))
    frequencies = np.fft.rfftfreq(RATE // 10, 1 / RATE)
    bins[(frequencies < 300) | (frequencies > 6000)] = 0  # what Opus carries best
    burst = np.fft.irfft(bins)
    burst = np.rint(burst / np.abs(burst).max() * 12_000).astype(np.int16)
    period = np.zeros(int(PERIOD * RATE), np.int16)
    period[: len(burst)] = burst
    said: list[float] = []
    heard: list[tuple[float, bytes]] = []

    async def listen() -> None:
        async for event in stream:
            heard.append((time.perf_counter(), bytes(event.frame.data)))

    listener = asyncio.create_task(listen())
    await asyncio.sleep(3.0)  # connecting is over, jitter buffers have settled
    for _ in range(BURSTS):
        said.append(time.perf_counter() + source.queued_duration)
        for at in range(0, len(period), RATE // 100):
            part = period[at : at + RATE // 100]
            await source.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, len(part)))
    await asyncio.sleep(1.0)
    listener.cancel()
    await stream.aclose()
    await room.disconnect()
    times = np.array([at for at, _ in heard])
    sound = np.concatenate([np.frombuffer(data, np.int16) for _, data in heard]).astype(float)
    size = RATE // 100
    trips = []
    for begun in said:
        first = int(np.searchsorted(times, begun))
        window = sound[first * size :][: len(period) + len(burst)]  # the next burst is beyond
        if len(window) < len(burst) * 2:
            continue
        found = int(np.correlate(window, burst.astype(float), "valid").argmax())
        index = min(first + found // size, len(times) - 1)
        arrived = times[index] - (size - found % size) / RATE  # a frame arrives with its end
        trips.append((arrived - begun) * 1000)
    return trips


def mint(server: livekit_server.Server, room: str, identity: str) -> str:
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(server.api_key, server.api_secret)
    return token.with_identity(identity).with_grants(grants).to_jwt()


def measure(server: livekit_server.Server, name: str) -> tuple[list[float], float]:
    """Returns one round's trips (ms) and the CPU of the echo's process (% of a core)."""
    room = f"round-trip-{secrets.token_hex(4)}"  # one that was killed stays for a while
    command = [sys.executable, __file__, "--subject", name]
    env = os.environ | {
        "LIVEKIT_URL": server.url,
        "LIVEKIT_TOKEN": mint(server, room, "echo"),
        "RUST_LOG": "off",
    }
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as subject:
        try:
            process = psutil.Process(subject.pid)
            before, start = process.cpu_times(), time.perf_counter()
            trips = asyncio.run(probe(server.url, mint(server, room, "probe")))
            after, took = process.cpu_times(), time.perf_counter() - start
        finally:
            subject.kill()
    used = after.user + after.system - before.user - before.system
    return trips, 100 * used / took


def main(rounds: int) -> None:
    names = ("livekit", "anyio", "numpy")
    print(platform.python_version(), *(f"{name} {version(name)}" for name in names), sep=", ")
    medians: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    tails: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    cpu: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    with livekit_server.serve() as server:
        for _ in range(rounds):
            for name in SUBJECTS:
                trips, used = measure(server, name)
                medians[name].append(statistics.median(trips))
                tails[name].append(float(np.percentile(trips, 95)))
                cpu[name].append(used)
    print(
        f"{'round trip, ms':36} {'median':>7} {'range':>11} {'p95':>5} {'CPU':>5}   {rounds} rounds"
    )
    for name in SUBJECTS:
        middle, low, high = statistics.median(medians[name]), min(medians[name]), max(medians[name])
        tail, used = statistics.median(tails[name]), statistics.median(cpu[name])
        print(f"{name:36} {middle:7.0f} {low:5.0f}-{high:<5.0f} {tail:5.0f} {used:4.0f}%")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--subject"]:
        anyio.run(SUBJECTS[sys.argv[2]], os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)
