"""wait_for_playout(): returns when earlier audio has been played."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from support.audio import collect_frames, frames_of_tone, send_frames
from support.playback import (
    BLOCK,
    OLD,
    frame_of,
    open_exact_loopback,
    seconds_played,
    wait_until_played,
)
from support.waiting import DEADLINE, wait_for

from beluga_livekit import open_loopback

pytestmark = pytest.mark.anyio


async def test_wait_for_playout_returns_when_audio_has_played() -> None:
    """Contract: it returns when the queue is empty, and at once when there is nothing to play."""
    async with open_loopback() as session, collect_frames(session.rx) as recording:
        await send_frames(session.tx, frames_of_tone(440, 0.5, 16000))
        await session.wait_for_playout()
        assert session.statistics().send.seconds_queued == 0
        # The end is on its way through the native queue.
        await wait_for(lambda: len(recording.sound) >= 0.48 * 16000, 5)
        await session.wait_for_playout()


async def test_wait_for_playout_waits_only_for_earlier_audio() -> None:
    """Contract: an endless sender does not delay it."""
    async with open_exact_loopback(send_buffer=0.1) as session, anyio.create_task_group() as tasks:

        async def send_for_ever() -> None:
            while True:
                await session.send(frame_of(OLD[: 2 * BLOCK]))

        tasks.start_soon(send_for_ever)
        await wait_until_played(session, 0.1)
        sent = session.statistics().send.seconds
        with anyio.fail_after(DEADLINE):
            await session.wait_for_playout()
        assert seconds_played(session) >= sent - 1e-9
        assert session.statistics().send.seconds_queued > 0
        tasks.cancel_scope.cancel()


async def test_wait_for_playout_covers_one_long_frame() -> None:
    """Contract: a frame longer than the queue is awaited; a cancelled wait silences nothing."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.send(frame_of(OLD))
        await session.wait_for_playout()
        assert seconds_played(session) == pytest.approx(0.6, abs=0.011)
        # The SDK has played it all; the end may be in the next received frame.
        await wait_for(lambda: len(received.sound) >= len(OLD))
        await session.send(frame_of(OLD))
        with anyio.move_on_after(0.1) as scope:
            await session.wait_for_playout()
        assert scope.cancelled_caught
        assert np.array_equal((await received.wait_until_silent())[-len(OLD) :], OLD)
