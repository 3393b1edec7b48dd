"""Sessions beside busy, blocked and unread ones."""

from __future__ import annotations

import sys
import time

import anyio
import numpy as np
import psutil
import pytest
from support.audio import LOUD, is_loud, measure, receive_until_silent, samples_of, tone
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.processes import run_process
from support.tokens import TokenFactory, mint_token
from support.waiting import DEADLINE

from beluga_livekit import AudioFrame, LiveKitSession, open_livekit

pytestmark = pytest.mark.anyio

# A participant in its own process, which plays 5 s of a tone once it has a subscriber.
RAW_PARTICIPANT = """
import asyncio, sys
import numpy as np
from livekit import rtc

async def main(url, token):
    room = rtc.Room()
    subscribed = asyncio.Event()
    room.on("local_track_subscribed", lambda _: subscribed.set())
    await room.connect(url, token)
    source = rtc.AudioSource(48000, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("raw", source)
    await room.local_participant.publish_track(track)
    await subscribed.wait()
    await asyncio.sleep(1)
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(5 * 48000) / 48000)
    for part in np.split(tone.astype(np.int16), 250):
        await source.capture_frame(rtc.AudioFrame(part.tobytes(), 48000, 1, len(part)))
    await asyncio.sleep(1)
    await room.disconnect()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(6, marks=pytest.mark.slow_audio), pytest.param(60, marks=pytest.mark.soak)],
)
async def test_flooding_and_unread_sessions_disturb_no_other(
    server: Server, room_name: str, seconds: int
) -> None:
    """Contract: memory and rates stay bounded; two sessions in another room are undisturbed."""

    async def flood(session: LiveKitSession) -> None:
        while True:
            await session.tx.send(AudioFrame.from_samples(tone(440, 0.1, 16000), 16000))

    async def measure_rx(session: LiveKitSession) -> None:
        async for frame in session.rx:
            durations.append(frame.duration)
            loud.append(is_loud(frame))

    durations: list[float] = []
    loud: list[bool] = []
    one, other = f"{room_name}-1", f"{room_name}-2"
    async with (
        open_livekit(server.url, mint_token(server, one, "unread")) as unread,
        open_livekit(server.url, mint_token(server, one, "loud")) as flooder,
        open_livekit(server.url, mint_token(server, other, "ann")) as ann,
        open_livekit(server.url, mint_token(server, other, "ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(flood, flooder)
        tasks.start_soon(flood, ann)
        tasks.start_soon(measure_rx, ben)
        await anyio.sleep(2)  # Until the rates are steady.
        memory = psutil.Process().memory_info().rss
        start, sent, received = time.monotonic(), flooder.statistics().send.seconds, sum(durations)
        del loud[:]
        await anyio.sleep(seconds)  # The window of the measurement.
        elapsed = time.monotonic() - start
        assert psutil.Process().memory_info().rss - memory < 10e6
        assert flooder.statistics().send.seconds - sent == pytest.approx(elapsed, rel=0.05)
        assert sum(durations) - received == pytest.approx(elapsed, rel=0.05)
        assert sum(loud) / len(loud) > 0.95
        statistics = unread.statistics()
        assert statistics.receive.seconds_buffered <= 1.1
        assert statistics.receive.seconds_dropped == pytest.approx(elapsed + 2, abs=2)
        frame = await unread.receive()
        assert frame.lost > seconds - 3
        tasks.cancel_scope.cancel()


@pytest.mark.faults
@measures_network_audio
async def test_reader_blocked_for_3_s_receives_every_sample(
    server: Server, token: TokenFactory
) -> None:
    """Contract: with the defaults a reader that is late and then fast loses nothing."""
    command = [sys.executable, "-c", RAW_PARTICIPANT, server.url, token("raw")]
    async with (
        open_livekit(server.url, token("bot"), publish=False) as (rx, _),
        run_process(command, stdout=None, stderr=None),
    ):
        frames: list[AudioFrame] = []
        with anyio.fail_after(DEADLINE):
            while not frames or np.abs(frames[-1].samples).max() < LOUD:
                frames.append(await rx.receive())
            time.sleep(3)  # noqa: ASYNC251 - as a model that blocks the loop
            frames += await receive_until_silent(rx)
    assert sum(frame.lost for frame in frames) == 0
    assert measure(samples_of(frames), 16000).duration == pytest.approx(5.0, abs=0.04)
