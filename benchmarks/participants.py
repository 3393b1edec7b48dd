"""CPU and traffic of receiving one of many participants, beside receiving all of them.

Raw participants in a process of their own publish noise all the time. The receiver, in another
process, receives: the only participant in a room; one of many; all of them, mixed. The rounds of
the subjects are interleaved.

    python benchmarks/participants.py [--rounds 5] [--participants 20]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

import anyio
import numpy as np
import psutil
from common import (
    ResourceMeter,
    Results,
    Server,
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

SETTLE_TIME = 3.0  # time from joining to the measurement (s)
SECONDS = 5.0  # duration of the measurement of a round
RATE = 48_000
FRAME = RATE // 50

# Participants in the room (None: `--participants`), and the identity received (None: all).
SUBJECTS: dict[str, tuple[int | None, str | None]] = {
    "the only participant": (1, "p0"),
    "one of many": (None, "p0"),
    "all, mixed": (None, None),
}


async def publish_noise(url: str, tokens: list[str]) -> None:
    """Join with each token and publish noise, until the process is ended."""
    noise = np.random.default_rng(1).normal(0, 2000, 50 * FRAME).astype(np.int16)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    async with anyio.create_task_group() as tasks:
        for token in tokens:
            room = rtc.Room()
            await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
            source = await publish(room, "noise", RATE, queue_ms=200, options=options)
            tasks.start_soon(play, source, noise)
        print("publishing", flush=True)


async def play(source: rtc.AudioSource, noise: NDArray[np.int16]) -> None:
    while True:
        for at in range(0, len(noise), FRAME):
            part = noise[at : at + FRAME]
            await source.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, FRAME))


async def receive(url: str, token: str, identity: str | None) -> None:
    """Print the CPU (% of a core) and the traffic (kbit/s) of receiving, once it has settled."""
    async with (
        open_livekit(url, token, participants=identity, publish=False) as session,
        anyio.create_task_group() as tasks,
    ):

        async def read() -> None:
            async for _ in session.rx:
                pass

        tasks.start_soon(read)
        await anyio.sleep(SETTLE_TIME)
        before = await bytes_received(session.room)
        meter = ResourceMeter(psutil.Process())
        await anyio.sleep(SECONDS)
        usage = meter.usage()
        traffic = (await bytes_received(session.room) - before) / usage.seconds
        print(usage.cpu, 8 * traffic / 1000, flush=True)
        tasks.cancel_scope.cancel()


async def bytes_received(room: rtc.Room) -> int:
    """Return how many bytes of audio the room has sent, headers included."""
    both = await room.get_rtc_stats()
    stats = [*both.publisher_stats, *both.subscriber_stats]
    tracks = [each.inbound_rtp.inbound for each in stats if each.HasField("inbound_rtp")]
    return sum(track.bytes_received + track.header_bytes_received for track in tracks)


def measure(server: Server, participants: int, identity: str | None) -> tuple[float, float]:
    """Run one round; return its CPU (% of a core) and traffic (kbit/s)."""
    room = unique_room("participants")
    tokens = [mint(server, room, f"p{number}") for number in range(participants)]
    command = [sys.executable, __file__, "--publish", server.url, *tokens]
    pipe, env = subprocess.PIPE, quiet_environment()
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, env=env) as publisher:
        try:
            assert publisher.stdout is not None
            publisher.stdout.readline()
            token = mint(server, room, "receiver")
            receiver = [sys.executable, __file__, "--receive", server.url, token, identity or ""]
            done = subprocess.run(receiver, capture_output=True, text=True, check=True, env=env)
        finally:
            publisher.kill()
    cpu, traffic = map(float, done.stdout.split())
    return cpu, traffic


def report(results: Results, name: str, rounds: list[tuple[float, float]]) -> None:
    """Print and record the medians and ranges of a subject."""
    cpu, traffic = zip(*rounds, strict=True)
    print(
        f"{name:20} CPU {statistics.median(cpu):5.1f} % ({min(cpu):.1f}-{max(cpu):.1f}), "
        f"traffic {statistics.median(traffic):6.0f} kbit/s "
        f"({min(traffic):.0f}-{max(traffic):.0f})"
    )
    results.add(
        subject=name,
        cpu_percent=statistics.median(cpu),
        cpu_range_percent=(min(cpu), max(cpu)),
        traffic_kbit_s=statistics.median(traffic),
        traffic_range_kbit_s=(min(traffic), max(traffic)),
    )


def main() -> None:
    parser = make_parser("CPU and traffic of receiving one of many participants.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each subject")
    parser.add_argument("--participants", type=int, default=20, help="participants in the room")
    given = parser.parse_args()
    parameters = {"rounds": given.rounds, "participants": given.participants}
    results = Results("participants", parameters)
    results.print_versions()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
    with serve() as server:
        for _ in range(given.rounds):
            for name, (participants, identity) in SUBJECTS.items():
                count = participants or given.participants
                measured[name].append(measure(server, count, identity))
    print(f"{given.participants} participants, {given.rounds} rounds: median (range)")
    for name, rounds in measured.items():
        report(results, name, rounds)
    results.write(given.results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--publish"]:
        anyio.run(publish_noise, sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["--receive"]:
        anyio.run(receive, sys.argv[2], sys.argv[3], sys.argv[4] or None)
    else:
        main()
