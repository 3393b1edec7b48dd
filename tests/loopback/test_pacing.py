"""Pacing, trimming and dropping on a loopback."""

from __future__ import annotations

import random
import time

import anyio
import attrs
import numpy as np
import pytest
from support.audio import (
    LOUD,
    collect_frames,
    decibels,
    frames_of_tone,
    measure,
    receive_until_silent,
    samples_of,
    send_frames,
    split_into_frames,
    tone,
)
from support.waiting import wait_for

from beluga_livekit import open_loopback

pytestmark = pytest.mark.anyio


@pytest.mark.slow_audio
async def test_producer_is_paced_to_real_time() -> None:
    """Contract: 10 s sent as fast as possible take 10 s less `send_buffer`, and arrive whole."""
    async with open_loopback(send_buffer=0.2) as session:
        start = time.monotonic()
        took: list[float] = []

        async def send() -> None:
            await send_frames(session.tx, frames_of_tone(440, 10.0, 16000))
            took.append(time.monotonic() - start)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            frames = await receive_until_silent(session.rx)
    assert took[0] >= 10.0 - 0.2 - 0.05
    measured = measure(samples_of(frames), 16000)
    assert measured.duration == pytest.approx(10.0, abs=0.04)
    assert measured.level == pytest.approx(decibels(0.25), abs=0.02)


@pytest.mark.slow_audio
@pytest.mark.parametrize(
    ("burst", "length", "is_relay"), [(6, 0.02, False), (12, 0.01, False), (20, 0.02, True)]
)
async def test_backlog_of_relay_is_trimmed_after_burst(
    burst: int, length: float, is_relay: bool
) -> None:
    """Contract: a producer in real time that began with a burst loses its excess latency.

    A burst that fills the queue is recognised by its timestamps: the pump never waits for it.
    """
    frames = split_into_frames(tone(440, 4.0, 48000, level=0.5), 48000, length)
    async with (
        open_loopback(sample_rate=48000) as session,
        collect_frames(session.rx) as recording,
    ):
        await send_frames(session.tx, frames[:burst])
        start, queued = time.monotonic(), []
        for number, frame in enumerate(frames[burst:]):
            await anyio.sleep(max(0.0, start + number * length - time.monotonic()))
            received_at = time.monotonic() if is_relay else None
            await session.send(attrs.evolve(frame, timestamp=received_at))
            queued.append(session.statistics().send.seconds_queued)
        assert min(queued[:25]) > 0.06
        assert min(queued[-50:]) < 0.03
        trimmed = session.statistics().send.seconds_trimmed
        assert trimmed == pytest.approx(min(burst * length - 0.02, 0.2), abs=0.04)
        samples = await recording.wait_until_silent()
    sound = samples.astype(np.float64)
    assert measure(samples, 48000).duration == pytest.approx(4.0 - trimmed, abs=0.03)
    natural = 0.5 * 32767 * 2 * np.sin(np.pi * 440 / 48000)
    begun, over = np.flatnonzero(np.abs(sound) > LOUD)[[0, -1]]
    assert np.abs(np.diff(sound[begun:over])).max() <= 1.2 * natural


@pytest.mark.slow_audio
@pytest.mark.parametrize(
    ("seconds", "stalls"), [(5.0, 8), pytest.param(30.0, 20, marks=pytest.mark.soak)]
)
async def test_producer_ahead_of_real_time_survives_stalls(seconds: float, stalls: int) -> None:
    """Contract: stalls of the interpreter up to 100 ms lose nothing of a producer that is ahead."""
    chance = random.Random(6)
    left = stalls

    async def stall() -> None:
        nonlocal left
        await anyio.sleep(0.5)  # The producer is ahead by `send_buffer`.
        while left:
            left -= 1
            time.sleep(chance.uniform(0.02, 0.1))  # noqa: ASYNC251 - the stall under test
            await anyio.sleep(chance.uniform(0.1, 0.6))

    async with open_loopback(receive_buffer=30, max_delay=None) as session:
        async with collect_frames(session.rx) as recording, anyio.create_task_group() as tasks:
            tasks.start_soon(stall)
            await send_frames(session.tx, frames_of_tone(440, seconds, 16000))
            await session.wait_for_playout()
            assert left == 0
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                sound = await recording.wait_until_silent()
        assert session.statistics().send.seconds == pytest.approx(seconds, abs=0.011)
    begun, over = np.flatnonzero(np.abs(sound) > LOUD)[[0, -1]]
    assert (over - begun) / 16000 == pytest.approx(seconds, abs=0.01)
    block = np.abs(sound[begun : over // 160 * 160]).astype(np.int32)
    assert block[: len(block) // 160 * 160].reshape(-1, 160).max(axis=1).min() > LOUD


async def test_unread_rx_drops_frames_and_counts_them() -> None:
    """Contract: rx holds `receive_buffer` seconds; drops are counted and reported in `lost`."""
    async with open_loopback(receive_buffer=0.2) as session:
        await wait_for(lambda: session.statistics().receive.frames_dropped)
        statistics = session.statistics()
        assert statistics.receive.seconds_buffered <= 0.25
        assert statistics.receive.seconds_dropped == pytest.approx(
            0.02 * statistics.receive.frames_dropped
        )
        frame = await session.receive()
        assert frame.lost == pytest.approx(session.statistics().receive.seconds_dropped)
