"""Audio through a reconnect: content missing and repeated at the far side, and the gap.

A talker plays a chirp while its connection fails; another participant, made with the SDK alone,
records it. The frequency at each moment of the recording says which moment of the chirp it is, so
that a jump forwards is content that is missing, and a jump backwards content that is repeated.
The rounds of the subjects are interleaved. In `kill` the server is ended and started again.

    python benchmarks/reconnect.py [--rounds 5] [--scenarios signal full node migration kill]
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import attrs
import numpy as np
from common import Results, Server, connect, make_parser, mint, publish, unique_room
from livekit import rtc
from numpy.typing import NDArray
from support.livekit_server import OwnServer, run_own_server

from beluga_livekit import AudioFrame, open_livekit

RATE = 48_000
SECONDS = 9.0
FIRST, SLOPE = 400.0, 400.0  # Hz, Hz/s
WINDOW = RATE // 50  # 20 ms: the frequency is known to 2 Hz, and the content to 5 ms
HOP = RATE // 200
LOUD = 1000  # quietest level of the chirp in a recording (peak)
TOLERANCE = 0.02  # by which the jitter buffer stretches and shortens (s)
# Less than this between two moments (s) has arrived, although it is unclear: the jitter buffer
# stretches and shortens sound. More is a loss, which it conceals by a tone that stands still.
UNCLEAR = 0.06
FAIL_AT = 2.0  # of the chirp (s)
SCENARIOS = {
    "signal": "SIMULATE_SIGNAL_RECONNECT",
    "full": "SIMULATE_FULL_RECONNECT",
    "node": "SIMULATE_NODE_FAILURE",
    "migration": "SIMULATE_MIGRATION",
    "kill": None,
}
Fail = Callable[[rtc.Room], Awaitable[None]]


def chirp() -> NDArray[np.int16]:
    t = np.arange(round(SECONDS * RATE)) / RATE
    phase = 2 * np.pi * (FIRST * t + SLOPE * t**2 / 2)
    sound: NDArray[np.int16] = (8000 * np.sin(phase)).astype(np.int16)
    return sound


async def ours(server: Server, room: str, fail: Fail) -> None:
    """Play the chirp with a session."""
    async with (
        open_livekit(server.url, mint(server, room, "talker")) as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(session.play, AudioFrame.from_samples(chirp(), RATE))
        await anyio.sleep(FAIL_AT)
        await fail(session.room)


async def raw(server: Server, room: str, fail: Fail) -> None:
    """Play the chirp with the SDK alone, in its usual loop."""
    talker, _ = await connect(server.url, mint(server, room, "talker"))
    source = await publish(talker, "talker", RATE, queue_ms=200)
    sound = chirp()

    async def play() -> None:
        for at in range(0, len(sound), RATE // 50):
            part = sound[at : at + RATE // 50]
            await source.capture_frame(rtc.AudioFrame(part.tobytes(), RATE, 1, len(part)))
        await source.wait_for_playout()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play)
        await anyio.sleep(FAIL_AT)
        await fail(talker)
    await anyio.sleep(0.2)
    await talker.disconnect()


SUBJECTS = {"beluga_livekit": ours, "raw SDK": raw}


@attrs.define
class Part:
    """What a recorder has received of one track, and the time of arrival of each frame (s)."""

    frames: list[NDArray[np.int16]] = attrs.field(factory=list)
    arrivals: list[float] = attrs.field(factory=list)


class Recorder:
    """Receives one track after the other, the last that there is."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    async def run(self, tracks: asyncio.Queue[rtc.RemoteAudioTrack]) -> None:
        track = await tracks.get()
        while True:
            async with anyio.create_task_group() as tasks:
                self.parts.append(Part())
                tasks.start_soon(self._read, track, self.parts[-1])
                track = await tracks.get()
                tasks.cancel_scope.cancel()

    async def _read(self, track: rtc.RemoteAudioTrack, part: Part) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                part.frames.append(np.frombuffer(event.frame.data, np.int16).copy())
                part.arrivals.append(time.monotonic())
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()


@attrs.frozen
class Arrived:
    """How one chirp arrived, in seconds."""

    missing: float
    repeated: float
    gap: float


def find_moments(sound: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the moment of the chirp (s) at each hop of a recording; NaN where it is unclear."""
    moments = []
    for at in range(0, len(sound) - WINDOW, HOP):
        part = sound[at : at + WINDOW].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(part * np.hanning(WINDOW), 16 * WINDOW)) ** 2
        peak = int(spectrum.argmax())
        is_loud = np.sqrt(np.mean(part**2)) > LOUD
        is_pure = spectrum[max(0, peak - 48) : peak + 48].sum() > 0.9 * spectrum.sum()
        moment = (peak * RATE / (16 * WINDOW) - FIRST) / SLOPE
        moments.append(moment if is_loud and is_pure else np.nan)
    times = np.array(moments)
    # Four hops on, the chirp is 20 ms on: a concealed loss stands still, an overlap jumps.
    steady = np.abs(times[4:] - times[:-4] - 4 * HOP / RATE) < TOLERANCE / 2
    return np.where(steady, times[:-4], np.nan)


def compare(recorder: Recorder) -> Arrived:
    """Compare a recording with the chirp that was played."""
    arrived = np.zeros(round(SECONDS * 1000), int)  # how often each millisecond has arrived
    arrivals: list[float] = []
    for part in recorder.parts:
        moments = find_moments(np.concatenate(part.frames))
        known = np.flatnonzero(~np.isnan(moments))
        arrivals += np.repeat(part.arrivals, RATE // 100 // HOP)[known].tolist()
        for hop, following in itertools.pairwise(known):
            start, stop = moments[hop], moments[following]
            if 0 < stop - start < UNCLEAR:
                arrived[round(1000 * start) : round(1000 * stop)] += 1
    missing, repeated = np.sum(arrived == 0), np.sum(np.maximum(arrived - 1, 0))
    return Arrived(missing / 1000, repeated / 1000, max(np.diff(arrivals)))


async def measure(server: OwnServer, subject: str, scenario: str) -> Arrived:
    """Run one round."""

    async def fail(room: rtc.Room) -> None:
        if (kind := SCENARIOS[scenario]) is not None:
            await room.simulate_scenario(rtc.SimulateScenarioKind.Value(kind))
        else:
            server.kill()
            await anyio.to_thread.run_sync(server.start)

    room = unique_room("reconnect")
    ear, tracks = await connect(server.url, mint(server, room, "ear"))
    recorder = Recorder()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recorder.run, tracks)
        await SUBJECTS[subject](server, room, fail)
        await anyio.sleep(0.5)  # for what is on its way
        tasks.cancel_scope.cancel()
    await ear.disconnect()
    return compare(recorder)


def main() -> None:
    parser = make_parser("Audio through a reconnect.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each subject")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    given = parser.parse_args()
    results = Results("reconnect", {"rounds": given.rounds})
    results.print_versions()
    print(f"{'median (worst) of ' + str(given.rounds) + ', ms':28}", "missing", "repeated", "gap")
    with run_own_server() as server:
        for scenario in given.scenarios:
            rounds: dict[str, list[Arrived]] = {name: [] for name in SUBJECTS}
            for _ in range(given.rounds):
                for name in SUBJECTS:
                    rounds[name].append(anyio.run(partial(measure, server, name, scenario)))
            for name, arrived in rounds.items():
                report(results, scenario, name, arrived)
    results.write(given.results)


def report(results: Results, scenario: str, subject: str, rounds: list[Arrived]) -> None:
    figures = {}
    for name in ("missing", "repeated", "gap"):
        each = [1000 * getattr(one, name) for one in rounds]
        figures[name] = (statistics.median(each), max(each))
    texts = "  ".join(f"{median:6.0f} ({worst:.0f})" for median, worst in figures.values())
    print(f"{scenario:10} {subject:16} {texts}", flush=True)
    named = {f"{name}_ms": figure for name, figure in figures.items()}
    results.add(scenario=scenario, subject=subject, **named)


if __name__ == "__main__":
    main()
