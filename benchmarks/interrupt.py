"""Time from an interrupt to silence, and the click at its end: ours, and the SDK's `clear_queue`.

A bot that runs ahead plays a tone of 440 Hz at half of full scale, and is interrupted at random
moments. Without a server, on the SDK's native audio, what is played is known to the sample. There
the figures are the time from the call to the last sound, and the largest step between two samples
at its end; the tone's own largest step is 2.9 % of full scale. Through the real server, another
participant in the room records the track. Its figures include the transport, whose duration is
measured from the first frame sent to the first sound received.

    python benchmarks/interrupt.py [--tries 100]
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import numpy as np
from common import Results, Server, connect, make_parser, mint, publish, serve, unique_room
from livekit import rtc
from numpy.typing import NDArray

from beluga_livekit import AudioFrame, LiveKitSession, open_livekit, open_loopback

RATE = 48_000
FRAME = RATE // 50
TONE = np.rint(0.5 * 32767 * np.sin(2 * np.pi * 440 / RATE * np.arange(5 * RATE))).astype(np.int16)
QUIET_TIME = 0.3  # silence after which a sound has ended (s)
LOUD = 300  # amplitude above which a sample is sound, of 32768


def is_loud(samples: NDArray[np.int16]) -> bool:
    return bool((np.abs(samples) > LOUD).any())


class Recording:
    """The audio received, in frames of 10 ms with their times."""

    def __init__(self) -> None:
        self._frames: list[tuple[float, NDArray[np.int16]]] = []

    def add(self, samples: NDArray[np.int16]) -> None:
        self._frames.append((time.perf_counter(), samples))

    def clear(self) -> None:
        self._frames.clear()

    def is_quiet(self) -> bool:
        """Whether frames were received for `QUIET_TIME`, and were silent."""
        now = time.perf_counter()
        recent = [samples for at, samples in self._frames if at > now - QUIET_TIME]
        return bool(recent) and not any(map(is_loud, recent))

    def loud_times(self) -> list[float]:
        """Return the times of the frames that are not silent."""
        return [at for at, samples in self._frames if is_loud(samples)]

    def last_step(self) -> float:
        """Return the largest step between two samples at the end of the sound (of full scale)."""
        sound = np.concatenate([samples for _, samples in self._frames]).astype(np.int32)
        end = int(np.flatnonzero(np.abs(sound) > LOUD)[-1])
        return int(np.abs(np.diff(sound[end - RATE // 50 : end + RATE // 100])).max()) / 32768


@asynccontextmanager
async def record_track(
    track: rtc.LocalAudioTrack | rtc.RemoteAudioTrack,
) -> AsyncIterator[Recording]:
    recording = Recording()

    async def record() -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, frame_size_ms=10)
        try:
            async for event in stream:
                recording.add(np.frombuffer(event.frame.data, np.int16).copy())
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(record)
        yield recording
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def record_loopback() -> AsyncIterator[tuple[LiveKitSession, Recording]]:
    recording = Recording()
    async with open_loopback(sample_rate=RATE, frame_size=480, max_delay=None) as session:

        async def record() -> None:
            async for frame in session:
                recording.add(frame.samples)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(record)
            yield session, recording
            tasks.cancel_scope.cancel()


@attrs.frozen
class Bot:
    """A subject: `play` plays the tone until it is cancelled, `interrupt` stops it."""

    play: Callable[[], Coroutine[Any, Any, object]]
    interrupt: Callable[[], Coroutine[Any, Any, object]]


def ours(session: LiveKitSession) -> Bot:
    frame = AudioFrame.from_samples(TONE, RATE)
    return Bot(lambda: session.play(frame), session.interrupt)


def raw(source: rtc.AudioSource) -> Bot:
    """Return the usual code on the SDK alone: cancel the capturing task, and clear the queue."""

    async def play() -> None:
        for at in range(0, len(TONE), FRAME):
            part = TONE[at : at + FRAME].tobytes()
            await source.capture_frame(rtc.AudioFrame(part, RATE, 1, FRAME))

    async def interrupt() -> None:
        source.clear_queue()

    return Bot(play, interrupt)


@attrs.frozen
class Try:
    """The figures of one interrupt.

    Attributes:
        silent: Time from the call to the last sound received (s).
        transport: Time from the first frame sent to the first sound received (s).
        step: Largest step between two samples at the end (of full scale).
    """

    silent: float
    transport: float
    step: float


async def interrupt_once(bot: Bot, recording: Recording, after: float) -> Try:
    """Play, and interrupt `after` seconds of sound."""
    recording.clear()
    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bot.play)
        while not recording.loud_times():  # noqa: ASYNC110 - frames are received meanwhile
            await anyio.sleep(0.001)
        await anyio.sleep(after)
        called = time.perf_counter()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await bot.interrupt()
    while not recording.is_quiet():  # noqa: ASYNC110 - frames are received meanwhile
        await anyio.sleep(0.01)
    loud = recording.loud_times()
    return Try(loud[-1] - called, loud[0] - start, recording.last_step())


async def interrupt_often(bot: Bot, recording: Recording, count: int) -> list[Try]:
    chance = random.Random(1)
    return [await interrupt_once(bot, recording, chance.uniform(0.2, 0.8)) for _ in range(count)]


async def ours_without_server(count: int) -> list[Try]:
    async with record_loopback() as (session, recording):
        return await interrupt_often(ours(session), recording, count)


async def raw_without_server(count: int) -> list[Try]:
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("bot", source)
    async with record_track(track) as recording:
        tries = await interrupt_often(raw(source), recording, count)
    await source.aclose()
    return tries


async def playout_waits(count: int) -> list[float]:
    """Return how long after the last sound was received `wait_for_playout` returned (s)."""
    chance = random.Random(2)
    late: list[float] = []
    async with record_loopback() as (session, recording):
        for _ in range(count):
            recording.clear()
            length = chance.randrange(RATE // 20, RATE // 2)
            await session.send(AudioFrame.from_samples(TONE[:length], RATE))
            await session.wait_for_playout()
            returned = time.perf_counter()
            await anyio.sleep(0.05)
            late.append(returned - recording.loud_times()[-1])
    return late


async def ours_with_server(server: Server, count: int) -> list[Try]:
    name = unique_room("interrupt")
    room, tracks = await connect(server.url, mint(server, name, "receiver"))
    async with (
        open_livekit(server.url, mint(server, name, "bot")) as session,
        record_track(await tracks.get()) as recording,
    ):
        tries = await interrupt_often(ours(session), recording, count)
    await room.disconnect()
    return tries


async def raw_with_server(server: Server, count: int) -> list[Try]:
    name = unique_room("interrupt")
    bot_room, _ = await connect(server.url, mint(server, name, "bot"))
    room, tracks = await connect(server.url, mint(server, name, "receiver"))
    source = await publish(bot_room, "bot", RATE, queue_ms=200)
    async with record_track(await tracks.get()) as recording:
        tries = await interrupt_often(raw(source), recording, count)
    await room.disconnect()
    await bot_room.disconnect()
    await source.aclose()
    return tries


def report(results: Results, name: str, tries: list[Try]) -> None:
    """Print and record the medians and maxima of a subject."""
    silent = [1000 * each.silent for each in tries]
    transport = statistics.median(1000 * each.transport for each in tries)
    step = [100 * each.step for each in tries]
    p95 = float(np.percentile(silent, 95))
    print(
        f"{name:34} {statistics.median(silent):6.0f} {p95:5.0f} {max(silent):5.0f} "
        f"{transport:9.0f} {statistics.median(step):8.1f} {max(step):5.1f}"
    )
    results.add(
        subject=name,
        silent_ms=statistics.median(silent),
        silent_p95_ms=p95,
        silent_max_ms=max(silent),
        transport_ms=transport,
        step_percent=statistics.median(step),
        step_max_percent=max(step),
    )


def report_waits(results: Results, waits: list[float]) -> None:
    """Print and record how late `wait_for_playout` returned."""
    name = "wait_for_playout, no server"
    late = [1000 * each for each in waits]
    print(
        f"{name:34} returns {statistics.median(late):.0f} ms ({min(late):.0f} to {max(late):.0f}) "
        "after the last sound was received"
    )
    results.add(subject=name, late_ms=statistics.median(late), late_range_ms=(min(late), max(late)))


async def measure(results: Results, count: int) -> None:
    results.print_versions()
    print(f"{'':34} {'silent after, ms':^18} {'transport':>9} {'step at the end, %':>17}")
    print(
        f"{count:4} tries{'':24} {'median':>6} {'p95':>5} {'max':>5} {'ms':>9} {'median':>8}   max"
    )
    report(results, "beluga_livekit, no server", await ours_without_server(count))
    report(results, "raw SDK, no server", await raw_without_server(count))
    report_waits(results, await playout_waits(count))
    with serve() as server:
        report(results, "beluga_livekit, remote participant", await ours_with_server(server, count))
        report(results, "raw SDK, remote participant", await raw_with_server(server, count))


def main() -> None:
    parser = make_parser("Time from an interrupt to silence.")
    parser.add_argument("--tries", type=int, default=100, help="interrupts for each subject")
    given = parser.parse_args()
    results = Results("interrupt", {"tries": given.tries})
    anyio.run(measure, results, given.tries)
    results.write(given.results)


if __name__ == "__main__":
    main()
