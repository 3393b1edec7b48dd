"""Cancellation at any checkpoint leaves no task and no open stream."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator

import anyio
import pytest
from support.audio import frames_of_tone
from support.cancellation import cancel_at_every_checkpoint
from support.leaks import assert_no_own_tasks, native_event_subscribers, own_tasks
from support.waiting import wait_for

from beluga_livekit import AudioFrame, LiveKitSession, open_loopback

pytestmark = pytest.mark.anyio


async def use_session(session: LiveKitSession) -> None:
    """Await everything that a program awaits in a session."""
    rx, tx = session
    async with anyio.create_task_group() as tasks:
        for frame in frames_of_tone(440, 0.04, 16000):
            tasks.start_soon(tx.send, frame)
        await tx.send(AudioFrame(bytes(20), 24000))
        await rx.receive()
    await session.wait_for_playout()


async def test_loopback_can_be_cancelled_at_every_checkpoint() -> None:
    """Contract: cancelled anywhere, a session leaves no task and no native subscriber."""
    before = max(native_event_subscribers(), 1)  # One is the package's, and stays.

    async def run() -> None:
        async with open_loopback() as session:
            await use_session(session)

    async def check() -> None:
        await assert_no_own_tasks()
        assert native_event_subscribers() <= before

    assert await cancel_at_every_checkpoint(run, check) > 10


async def test_abandoned_generator_cancels_no_other_task() -> None:
    """Contract: a session left by the garbage collector closes, and cancels no bystander."""

    async def frames() -> AsyncGenerator[AudioFrame]:
        async with open_loopback() as (rx, tx):
            await tx.send(AudioFrame(bytes(640), 16000))
            async for frame in rx:
                yield frame

    bystanders = [asyncio.create_task(anyio.sleep(1)) for _ in range(2)]

    async def first() -> None:
        async for _ in frames():
            break

    await asyncio.create_task(first())
    gc.collect()
    await wait_for(lambda: not own_tasks())
    await asyncio.wait(bystanders)
    assert not any(task.cancelled() for task in bystanders)
