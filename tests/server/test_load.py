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
from support.tokens import TokenFactory, mint_token
from support.waiting import DEADLINE

from beluga_livekit import AudioFrame, LiveKitSession, open_livekit

pytestmark = pytest.mark.anyio


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

    async def count(session: LiveKitSession) -> None:
        async for frame in session.rx:
            measured.append(frame.duration)
            loud.append(is_loud(frame))

    measured: list[float] = []
    loud: list[bool] = []
    one, other = f"{room}-1", f"{room}-2"
    async with (
        open_livekit(server.url, mint_token(server, one, "deaf")) as deaf,
        open_livekit(server.url, mint_token(server, one, "loud")) as flooder,
        open_livekit(server.url, mint_token(server, other, "ann")) as ann,
        open_livekit(server.url, mint_token(server, other, "ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(flood, flooder)
        tasks.start_soon(flood, ann)
        tasks.start_soon(count, ben)
        await anyio.sleep(2)
        memory = psutil.Process().memory_info().rss
        start, sent, received = time.monotonic(), flooder.statistics().seconds_sent, sum(measured)
        del loud[:]
        await anyio.sleep(seconds)
        elapsed = time.monotonic() - start
        assert psutil.Process().memory_info().rss - memory < 10e6
        assert flooder.statistics().seconds_sent - sent == pytest.approx(elapsed, rel=0.05)
        assert sum(measured) - received == pytest.approx(elapsed, rel=0.05)
        assert sum(loud) / len(loud) > 0.95
        statistics = deaf.statistics()
        assert statistics.seconds_buffered <= 1.1
        assert statistics.seconds_dropped == pytest.approx(elapsed + 2, abs=2)
        frame = await deaf.receive()
        assert frame.lost > seconds - 3
        tasks.cancel_scope.cancel()


async def test_reader_blocked_for_3_s_receives_every_sample(
    server: Server, token: TokenFactory
) -> None:
    """Contract: with the defaults a reader that is late and then fast loses nothing."""
    command = [sys.executable, "-c", RAW_PARTICIPANT, server.url, token("speaker")]
    async with (
        open_livekit(server.url, token("bot"), publish=False) as (rx, _),
        await anyio.open_process(command, stdout=None, stderr=None),
    ):
        frames: list[AudioFrame] = []
        with anyio.fail_after(DEADLINE):
            while not frames or np.abs(frames[-1].samples).max() < LOUD:
                frames.append(await rx.receive())
            time.sleep(3)  # noqa: ASYNC251 - as a model that does not yield
            frames += await receive_until_silent(rx)
    assert sum(frame.lost for frame in frames) == 0
    assert measure(samples_of(frames), 16000).duration == pytest.approx(5.0, abs=0.04)
