"""wait_for_playout(): returns when earlier audio has been played."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from support.audio import collect_frames, frames_of_tone, measure, samples_of, send_frames
from support.playback import (
    BLOCK,
    OLD,
    frame_of,
    open_exact_loopback,
    seconds_played,
    wait_until_played,
)
from support.waiting import DEADLINE

from beluga_livekit import AudioFrame, open_loopback

pytestmark = pytest.mark.anyio


async def test_wait_for_playout_returns_when_audio_has_played() -> None:
    """Contract: it returns when the queue is empty, and at once when there is nothing to play."""
    async with open_loopback() as session:
        frames = frames_of_tone(440, 0.5, 16000)
        async with anyio.create_task_group() as tasks:
            received: list[AudioFrame] = []

            async def listen() -> None:
                async for frame in session.rx:
                    received.append(frame)

            tasks.start_soon(listen)
            await send_frames(session.tx, frames)
            await session.wait_for_playout()
            assert session.statistics().seconds_queued == 0
            with anyio.fail_after(5):  # the last of it is on its way through the native queue
                while not received or measure_or_zero(received) < 0.48:
                    await anyio.sleep(0.005)
            await session.wait_for_playout()  # nothing more to wait for
            tasks.cancel_scope.cancel()


def measure_or_zero(frames: list[AudioFrame]) -> float:
    sound = samples_of(frames)
    return measure(sound, 16000).duration if (np.abs(sound) > 1000).any() else 0.0


async def test_wait_for_playout_waits_only_for_earlier_audio() -> None:
    """Contract: an endless sender does not delay it."""
    async with open_exact_loopback(send_buffer=0.1) as session, anyio.create_task_group() as tasks:

        async def send_for_ever() -> None:
            while True:
                await session.send(frame_of(OLD[: 2 * BLOCK]))

        tasks.start_soon(send_for_ever)
        await wait_until_played(session, 0.1)
        sent = session.statistics().seconds_sent
        with anyio.fail_after(DEADLINE):
            await session.wait_for_playout()
        assert seconds_played(session) >= sent - 1e-9
        assert session.statistics().seconds_queued > 0
        tasks.cancel_scope.cancel()


async def test_wait_for_playout_covers_one_long_frame() -> None:
    """Contract: a frame longer than the queue is waited for; cancelling the wait silences nothing."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.send(frame_of(OLD))
        await session.wait_for_playout()
        assert seconds_played(session) == pytest.approx(0.6, abs=0.011)
        # It is in the SDK's hands; what was not in time for this frame of 20 ms is in the next.
        with anyio.fail_after(DEADLINE):
            while len(received.sound) < len(OLD):
                await received.wait_for_next_frame()
        await session.send(frame_of(OLD))
        with anyio.move_on_after(0.1) as scope:
            await session.wait_for_playout()
        assert scope.cancelled_caught
        assert np.array_equal(
            (await received.wait_until_silent())[-len(OLD) :], OLD
        )  # not silenced
