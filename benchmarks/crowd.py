"""What it costs to hear one of many, beside hearing all of them: CPU, and traffic from the room.

A crowd of raw participants in processes of their own say noise all the time. The listener, in
another process, hears: one who is alone; one of the crowd; the crowd, mixed. The rounds alternate.

    python benchmarks/crowd.py [--rounds 5] [--people 20]
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import time

import anyio
import numpy as np
import psutil
from latency import mint
from livekit import rtc
from numpy.typing import NDArray
from support.livekit_server import Server, serve

from beluga_livekit import open_livekit

SECONDS = 5.0  # that each round is measured for
RATE = 48_000

SUBJECTS = {"one, alone": (1, "p0"), "one of the crowd": (0, "p0"), "the crowd, mixed": (0, None)}


async def crowd(url: str, tokens: list[str]) -> None:
    """Joins with each token, and says noise until it is ended."""
    noise = np.random.default_rng(1).normal(0, 2000, 50 * 960).astype(np.int16)
    async with anyio.create_task_group() as tasks:
        for token in tokens:
            room = rtc.Room()
            await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
            source = rtc.AudioSource(RATE, 1, 200)
            track = rtc.LocalAudioTrack.create_audio_track("noise", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            await room.local_participant.publish_track(track, options)
            tasks.start_soon(speak, source, noise)
        print("there", flush=True)


async def speak(source: rtc.AudioSource, noise: NDArray[np.int16]) -> None:
    while True:
        for at in range(0, len(noise), 960):
            await source.capture_frame(rtc.AudioFrame(noise[at : at + 960].tobytes(), RATE, 1, 960))


async def listen(url: str, token: str, who: str | None) -> None:
    """Prints the CPU (% of a core) and the traffic (kbit/s) of hearing, once it has settled."""
    async with (
        open_livekit(url, token, participants=who, publish=False) as session,
        anyio.create_task_group() as tasks,
    ):

        async def read() -> None:
            async for _ in session.rx:
                pass

        tasks.start_soon(read)
        await anyio.sleep(3)
        process = psutil.Process()
        before, start, used = await received(session.room), time.monotonic(), process.cpu_times()
        await anyio.sleep(SECONDS)
        seconds, now = time.monotonic() - start, process.cpu_times()
        cpu = (now.user + now.system - used.user - used.system) / seconds
        traffic = (await received(session.room) - before) / seconds
        print(100 * cpu, 8 * traffic / 1000, flush=True)
        tasks.cancel_scope.cancel()


async def received(room: rtc.Room) -> int:
    """Returns how many bytes of sound have come from the room."""
    both = await room.get_rtc_stats()
    stats = [*both.publisher_stats, *both.subscriber_stats]
    tracks = [each.inbound_rtp.inbound for each in stats if each.HasField("inbound_rtp")]
    return sum(track.bytes_received + track.header_bytes_received for track in tracks)


def measure(server: Server, people: int, who: str | None) -> tuple[float, float]:
    room = f"crowd-{secrets.token_hex(4)}"
    tokens = [mint(server, room, f"p{number}") for number in range(people)]
    quiet = {**os.environ, "RUST_LOG": "off"}
    command = [sys.executable, __file__, "--crowd", server.url, *tokens]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=nowhere, env=quiet) as there:
        try:
            assert there.stdout is not None
            there.stdout.readline()
            listener = [sys.executable, __file__, "--listen", server.url, mint(server, room, "ear")]
            done = subprocess.run(
                [*listener, who or ""], capture_output=True, text=True, check=True, env=quiet
            )
        finally:
            there.kill()
    cpu, traffic = map(float, done.stdout.split())
    return cpu, traffic


def main() -> None:
    parser = argparse.ArgumentParser(description="Hearing one of many.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--people", type=int, default=20)
    given = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
    with serve() as server:
        for _ in range(given.rounds):
            for name, (people, who) in SUBJECTS.items():
                measured[name].append(measure(server, people or given.people, who))
    print(f"{given.people} people, {given.rounds} rounds: median (range)")
    for name, rounds in measured.items():
        (cpu, traffic) = ([one[at] for one in rounds] for at in (0, 1))
        print(
            f"{name:20} CPU {statistics.median(cpu):5.1f} % ({min(cpu):.1f}-{max(cpu):.1f}), "
            f"traffic {statistics.median(traffic):6.0f} kbit/s "
            f"({min(traffic):.0f}-{max(traffic):.0f})"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--crowd"]:
        anyio.run(crowd, sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["--listen"]:
        anyio.run(listen, sys.argv[2], sys.argv[3], sys.argv[4] or None)
    else:
        main()
