"""Plays that end early: cancelled, or left with the session."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import numpy as np
import pytest
from support.audio import collect_frames, split_into_frames, tone
from support.cancellation import cancel_at_every_checkpoint
from support.leaks import own_tasks
from support.playback import (
    BLOCK,
    NEW,
    OLD,
    RATE,
    AsyncIterableSource,
    append_playout,
    assert_fades_out,
    frame_of,
    open_exact_loopback,
    silent_source,
    split_into_bytes,
    wait_until_played,
)
from support.waiting import DEADLINE, run_until_blocked, wait_for

from beluga_livekit import AudioFrame, LiveKitSession, Playout

pytestmark = pytest.mark.anyio


async def test_cancelled_play_fades_out_and_leaves_others_whole() -> None:
    """Contract: audio sent before a cancelled play is whole; audio after it follows at once."""
    before, after = OLD[: 6 * BLOCK + 100], NEW[: 9 * BLOCK]
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        async with anyio.create_task_group() as tasks:
            await session.send(frame_of(before))
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(session.play, frame_of(OLD))
                    await run_until_blocked()
                    tasks.start_soon(session.play, frame_of(after))
                    await run_until_blocked()
                    await wait_until_played(session, 0.1)
                    scope.cancel()
        sound = await received.wait_until_silent()
    assert np.array_equal(sound[: len(before)], before)
    assert np.array_equal(sound[-len(after) :], after)
    rest = sound[len(before) : -len(after)]
    came = assert_fades_out(rest, OLD)
    assert came < 0.5 * RATE


async def test_play_cancelled_at_its_end_leaves_next_play_whole() -> None:
    """Regression: the next play is whole, though part of it is in the SDK's queue already."""
    first, second = OLD[: 10 * BLOCK + 100], NEW[: 8 * BLOCK - 100]
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(session.play, frame_of(first))
                    await run_until_blocked()
                    tasks.start_soon(session.play, frame_of(second))
                    await wait_for(lambda: session.statistics().send.seconds >= 0.18, poll=0.001)
                    scope.cancel()
        sound = await received.wait_until_silent()
    assert np.array_equal(sound[-len(second) :], second)
    assert assert_fades_out(sound[: -len(second)], first) < 9 * BLOCK


@pytest.mark.parametrize(("rate", "length"), [(48000, 0.205), (24000, 0.2), (16000, 0.207)])
async def test_cancelled_play_leaves_no_residue(rate: int, length: float) -> None:
    """Regression: neither a rest below a block nor the resampler's content is played later."""
    frame = AudioFrame.from_samples(tone(440, length, rate), rate)
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.play, frame)
                await wait_until_played(session, 0.1)
                scope.cancel()
        await received.wait_until_silent(after=0.3)
        assert len(received.sound) / RATE < 0.15
        await session.play(frame_of(NEW))
        assert np.array_equal((await received.wait_until_silent())[-len(NEW) :], NEW)
    assert not np.trim_zeros(received.sound[: -len(NEW)])[round(0.15 * RATE) :].any()


async def test_play_cancelled_before_first_frame_removes_nothing() -> None:
    """Contract: cancelling a play without audio removes no audio of others."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.send(frame_of(OLD[:5000]))
        with anyio.move_on_after(0.02):
            await session.play(silent_source())
        assert np.array_equal(await received.wait_until_silent(), OLD[:5000])


async def test_play_cancelled_while_queued_is_never_received() -> None:
    """Contract: a queued play that is cancelled leaves no audio."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.send(frame_of(OLD[: 15 * BLOCK]))
        with anyio.move_on_after(0.03):
            await session.play(frame_of(NEW))
        assert np.array_equal(await received.wait_until_silent(), OLD[: 15 * BLOCK])


async def test_interrupt_returns_at_once_when_play_source_blocks() -> None:
    """Contract: the play returns what was played, though its source is still in `next()`."""
    allowed = threading.Event()
    was_allowed: list[bool] = []

    def blocking() -> Iterator[AudioFrame]:
        yield frame_of(OLD)
        was_allowed.append(allowed.wait(5.0))  # In the event loop it would wait so long.
        yield frame_of(NEW)

    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        playouts: list[Playout] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append_playout, playouts, session, blocking())
            await wait_until_played(session, 0.1)
            await session.interrupt()
        assert playouts[0].interrupted
        assert not was_allowed
        allowed.set()
        await wait_for(lambda: was_allowed)
        assert was_allowed == [True]
        assert_fades_out(await received.wait_until_silent(), OLD)


async def test_play_and_interrupt_can_be_cancelled_at_every_checkpoint() -> None:
    """Contract: the send queue works after any cancellation."""
    async with open_exact_loopback(send_buffer=0.02) as session:

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.send, frame_of(NEW))
                tasks.start_soon(session.play, AsyncIterableSource(split_into_bytes(NEW, 1111)))
                tasks.start_soon(session.wait_for_playout)
            await session.play(AsyncIterableSource(split_into_frames(NEW, RATE)))
            await session.interrupt()
            await session.wait_for_playout()

        async def run_serially() -> None:
            source = AsyncIterableSource(split_into_bytes(NEW, 1111))
            try:
                await session.play(source, sample_rate=RATE)
            finally:
                assert source.closed
            await session.interrupt()
            await session.wait_for_playout()

        async def check() -> None:
            with anyio.fail_after(DEADLINE):
                playout = await session.play(frame_of(NEW[:BLOCK]))
            assert playout == Playout(0.01, 0.0, 0.0, interrupted=False)

        assert await cancel_at_every_checkpoint(run_serially, check) > 5


async def test_play_raises_when_session_is_left() -> None:
    """Contract: leaving closes the source of an unfinished play, which raises."""
    errors: list[Exception] = []
    source = AsyncIterableSource(split_into_frames(OLD, RATE))

    async def play(session: LiveKitSession) -> None:
        try:
            await session.play(source)
        except anyio.ClosedResourceError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks, open_exact_loopback() as session:
        tasks.start_soon(play, session)
        await wait_until_played(session, 0.05)
    assert len(errors) == 1
    assert source.closed
    assert source.given < len(source.pieces)
    assert not own_tasks()


async def test_play_with_blocked_source_ends_with_session() -> None:
    """Contract: a source that never yields again does not block the exit."""
    errors: list[Exception] = []
    given = anyio.Event()

    async def hangs() -> AsyncIterator[AudioFrame]:
        yield frame_of(NEW)
        given.set()
        await anyio.sleep_forever()

    async def play(session: LiveKitSession) -> None:
        try:
            await session.play(hangs())
        except anyio.ClosedResourceError as error:
            errors.append(error)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks, open_exact_loopback() as session:
            tasks.start_soon(play, session)
            tasks.start_soon(play, session)  # Stays queued.
            await given.wait()
    assert [str(error) for error in errors] == ["livekit: transport is closed"] * 2


async def test_exhausted_play_is_drained_when_session_is_left() -> None:
    """Contract: the drain includes a play whose source is exhausted."""
    playouts: list[Playout] = []
    async with anyio.create_task_group() as tasks, open_exact_loopback() as session:
        tasks.start_soon(append_playout, playouts, session, frame_of(OLD))
        await wait_until_played(session, 0.01)
    assert playouts == [Playout(len(OLD) / RATE, 0.0, 0.0, interrupted=False)]
