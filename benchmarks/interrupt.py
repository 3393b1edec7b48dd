"""How soon it is silent after a barge-in, and how: ours, and the SDK's `clear_queue`.

A bot that runs ahead plays a tone of 440 Hz at half of full scale, and is interrupted at random
moments. Without a server, on the SDK's native audio, what is played is known to the sample: the
sound after the call and the largest step from one sample to the next at its end, where the tone's
own is 2.9 % of full scale. Through the real server, somebody else in the room listens: the time
from the call to the last of the sound there, the way included, which is measured as the time from
the first frame to its being heard.

    python benchmarks/interrupt.py [--tries 100]
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
import attrs
import numpy as np
from latency import mint
from livekit import rtc
from numpy.typing import NDArray
from support.livekit_server import Server, serve

from beluga_livekit import AudioFrame, LiveKitSession, open_livekit, open_loopback

RATE = 48_000
FRAME = RATE // 50
TONE = np.rint(0.5 * 32767 * np.sin(2 * np.pi * 440 / RATE * np.arange(5 * RATE))).astype(np.int16)
QUIET = 0.3  # seconds
LOUD = 300  # of 32768


class Ear:
    """What a track sounds like, and when: each frame of 10 ms with its time."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, NDArray[np.int16]]] = []

    async def listen(self, track: rtc.LocalAudioTrack | rtc.RemoteAudioTrack) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, frame_size_ms=10)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, np.int16).copy()
                self.heard.append((time.perf_counter(), samples))
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    def is_quiet(self) -> bool:
        now = time.perf_counter()
        recent = [samples for at, samples in self.heard if at > now - QUIET]
        return bool(recent) and not any((np.abs(samples) > LOUD).any() for samples in recent)

    def loud(self) -> list[float]:
        return [at for at, samples in self.heard if (np.abs(samples) > LOUD).any()]


@attrs.frozen
class Bot:
    """Something that plays the tone until it is cancelled, and something that stops it."""

    play: Callable[[], Coroutine[Any, Any, object]]
    interrupt: Callable[[], Coroutine[Any, Any, object]]


def ours(session: LiveKitSession) -> Bot:
    frame = AudioFrame.from_samples(TONE, RATE)
    return Bot(lambda: session.play(frame), session.interrupt)


def raw(source: rtc.AudioSource) -> Bot:
    """What people write: stop whoever captures, and clear the queue."""

    async def play() -> None:
        for at in range(0, len(TONE), FRAME):
            part = TONE[at : at + FRAME].tobytes()
            await source.capture_frame(rtc.AudioFrame(part, RATE, 1, FRAME))

    async def interrupt() -> None:
        source.clear_queue()

    return Bot(play, interrupt)


@attrs.frozen
class Try:
    """Seconds from the call to the last of the sound, and from the first of it to its hearing."""

    silent: float
    way: float
    step: float  # of full scale, at the end


async def interrupt_once(bot: Bot, ear: Ear, after: float) -> Try:
    ear.heard.clear()
    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bot.play)
        while not ear.loud():  # noqa: ASYNC110 - it is what is heard that counts
            await anyio.sleep(0.001)
        await anyio.sleep(after)
        called = time.perf_counter()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await bot.interrupt()
    while not ear.is_quiet():  # noqa: ASYNC110 - as above
        await anyio.sleep(0.01)
    loud = ear.loud()
    sound = np.concatenate([samples for _, samples in ear.heard]).astype(np.int32)
    end = int(np.flatnonzero(np.abs(sound) > LOUD)[-1])
    step = int(np.abs(np.diff(sound[end - RATE // 50 : end + RATE // 100])).max())
    return Try(loud[-1] - called, loud[0] - start, step / 32768)


async def tries(bot: Bot, ear: Ear, count: int) -> list[Try]:
    chance = random.Random(1)
    return [await interrupt_once(bot, ear, chance.uniform(0.2, 0.8)) for _ in range(count)]


@asynccontextmanager
async def hears(track: rtc.LocalAudioTrack | rtc.RemoteAudioTrack) -> AsyncIterator[Ear]:
    ear = Ear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ear.listen, track)
        yield ear
        tasks.cancel_scope.cancel()


async def ours_here(count: int) -> list[Try]:
    async with open_loopback(sample_rate=RATE, frame_size=480, max_delay=None) as session:
        ear = Ear()

        async def listen() -> None:
            async for frame in session:
                ear.heard.append((time.perf_counter(), frame.samples))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            measured = await tries(ours(session), ear, count)
            tasks.cancel_scope.cancel()
    return measured


async def waits_here(count: int) -> list[float]:
    """Returns how long after the last of the sound was heard `wait_for_playout` returned."""
    chance = random.Random(2)
    late: list[float] = []
    heard = 0.0
    async with open_loopback(sample_rate=RATE, frame_size=480, max_delay=None) as session:

        async def listen() -> None:
            nonlocal heard
            async for frame in session:
                if (np.abs(frame.samples) > LOUD).any():
                    heard = time.perf_counter()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for _ in range(count):
                length = chance.randrange(RATE // 20, RATE // 2)
                await session.send(AudioFrame.from_samples(TONE[:length], RATE))
                await session.wait_for_playout()
                returned = time.perf_counter()
                await anyio.sleep(0.05)
                late.append(returned - heard)
            tasks.cancel_scope.cancel()
    return late


async def raw_here(count: int) -> list[Try]:
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("bot", source)
    async with hears(track) as ear:
        measured = await tries(raw(source), ear, count)
    await source.aclose()
    return measured


@asynccontextmanager
async def listener(server: Server, room: str) -> AsyncIterator[asyncio.Queue[rtc.RemoteAudioTrack]]:
    there = rtc.Room()
    tracks: asyncio.Queue[rtc.RemoteAudioTrack] = asyncio.Queue()
    there.on("track_subscribed", lambda track, *_: tracks.put_nowait(track))
    await there.connect(server.url, mint(server, room, "listener"))
    yield tracks
    await there.disconnect()


async def ours_there(server: Server, count: int) -> list[Try]:
    room = f"interrupt-{secrets.token_hex(4)}"
    measured: list[Try] = []
    async with (
        listener(server, room) as tracks,
        open_livekit(server.url, mint(server, room, "bot")) as session,
        hears(await tracks.get()) as ear,
    ):
        measured += await tries(ours(session), ear, count)
    return measured


async def raw_there(server: Server, count: int) -> list[Try]:
    name = f"interrupt-{secrets.token_hex(4)}"
    room = rtc.Room()
    await room.connect(server.url, mint(server, name, "bot"))
    async with listener(server, name) as tracks:
        source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track("bot", source)
        await room.local_participant.publish_track(track)
        async with hears(await tracks.get()) as ear:
            measured = await tries(raw(source), ear, count)
    await room.disconnect()
    await source.aclose()
    return measured


def show(name: str, measured: list[Try]) -> None:
    silent = [1000 * each.silent for each in measured]
    way = statistics.median(1000 * each.way for each in measured)
    step = [100 * each.step for each in measured]
    print(
        f"{name:34} {statistics.median(silent):6.0f} {np.percentile(silent, 95):5.0f} "
        f"{max(silent):5.0f} {way:6.0f} {statistics.median(step):8.1f} {max(step):5.1f}"
    )


async def main(count: int) -> None:
    names = ("livekit", "anyio", "numpy")
    print(platform.python_version(), *(f"{name} {version(name)}" for name in names), sep=", ")
    print(f"{'':34} {'silent after, ms':^18} {'way,':>6} {'step at the end, %':>17}")
    print(f"{count:4} tries{'':24} {'median':>6} {'p95':>5} {'max':>5} {'ms':>6} median   max")
    show("beluga_livekit, no server", await ours_here(count))
    show("raw SDK, no server", await raw_here(count))
    waits = [1000 * late for late in await waits_here(count)]
    print(
        f"{'wait_for_playout, no server':34} returns {statistics.median(waits):.0f} ms "
        f"({min(waits):.0f} to {max(waits):.0f}) after the last of the sound was heard"
    )
    with serve() as server:
        show("beluga_livekit, at the far side", await ours_there(server, count))
        show("raw SDK, at the far side", await raw_there(server, count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="From an interrupt to silence.")
    parser.add_argument("--tries", type=int, default=100)
    anyio.run(main, parser.parse_args().tries)
