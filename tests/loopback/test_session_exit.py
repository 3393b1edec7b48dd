"""Leaving a session: drain, errors, cancellation, closed streams."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import anyio
import pytest
from support.audio import Recording, frames_of_tone, measure, samples_of, send_frames, tone
from support.waiting import run_until_blocked

from beluga_livekit import AudioFrame, LiveKitError, LiveKitSession, open_loopback

pytestmark = pytest.mark.anyio


async def test_drain_plays_accepted_audio_on_exit() -> None:
    """Contract: a normal exit drains."""
    recording = Recording()
    async with open_loopback(send_buffer=0.2) as session:
        clone = session.rx.clone()
        await send_frames(session.tx, frames_of_tone(440, 0.4, 16000))
    with clone:
        await recording.receive(clone)
    # The native queue of the receiving side may still contain 40 ms.
    assert measure(samples_of(recording.frames), 16000).duration >= 0.36


async def test_drain_ends_at_drain_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: `drain_timeout` bounds the drain, and the log says so."""
    start = time.monotonic()
    async with open_loopback(drain_timeout=0.1) as (_, tx):
        await tx.send(AudioFrame.from_samples(tone(440, 20.0, 16000), 16000))
    assert time.monotonic() - start < 10
    assert "drain failed: drain_timeout (0.1 s) expired; discarded 0." in caplog.text


async def test_drain_can_be_cancelled() -> None:
    """Contract: cancellation ends a drain at once."""
    start = time.monotonic()
    with anyio.move_on_after(0.1) as scope:
        async with open_loopback(drain_timeout=20) as (_, tx):
            await tx.send(AudioFrame.from_samples(tone(440, 20.0, 16000), 16000))
    assert scope.cancelled_caught
    assert time.monotonic() - start < 10


async def test_exit_by_error_raises_it_unchanged_without_drain() -> None:
    """Contract: an error of the body propagates untouched and at once."""
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_loopback(drain_timeout=20) as (_, tx):
            await tx.send(AudioFrame.from_samples(tone(440, 20.0, 16000), 16000))
            1 / 0  # noqa: B018
    assert not hasattr(caught.value, "__notes__")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("own_error", [True, False])
async def test_background_failure_leaves_block(
    monkeypatch: pytest.MonkeyPatch, own_error: bool
) -> None:
    """Contract: a failure of the session's task is raised from the block; it is no hang-up.

    Injected: the SDK takes no audio.
    """

    async def fail(*_: object) -> None:
        raise LiveKitError("no sound was taken")

    with pytest.raises(LiveKitError, match="^no sound was taken$"):
        async with open_loopback() as session:
            monkeypatch.setattr("beluga_livekit._sdk.audio_source.AudioSource.capture", fail)
            await session.send(AudioFrame(bytes(640), 16000))
            async for _ in session:
                pass
            if own_error:
                await session.send(AudioFrame(bytes(640), 16000))


async def test_send_raises_closed_error_while_session_is_leaving() -> None:
    """Contract: a send during the exit raises ClosedResourceError with Beluga's text."""
    refused: list[str] = []

    async def send(session: LiveKitSession) -> None:
        async with session.tx.clone() as tx:
            with pytest.raises(anyio.ClosedResourceError) as caught:
                while True:
                    await tx.send(AudioFrame(bytes(640), 16000))
            refused.append(str(caught.value))

    async with anyio.create_task_group() as tasks, open_loopback() as session:
        tasks.start_soon(send, session)
        await session.receive()
    assert refused == ["livekit: transport is closed"]


async def test_background_task_cancelled_from_outside_is_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Contract: cancelling the session's task from outside never passes silently."""

    async def join(*_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr("beluga_livekit._connection.loopback.LoopbackConnection.join", join)
    asyncio.get_running_loop().call_later(
        0.05, lambda: [t.cancel() for t in asyncio.all_tasks() if "beluga" in t.get_name()]
    )
    with pytest.raises(LiveKitError, match="joining failed: the session task was cancelled"):
        async with open_loopback():
            pass


async def test_all_streams_are_closed_after_exit() -> None:
    """Contract: after the block every method and stream end raises, and clones of rx end."""
    async with open_loopback() as session:
        clones = session.rx.clone(), session.tx.clone()
    rx, tx = session
    frame = AudioFrame(bytes(640), 16000)
    for use in (session.receive, session.wait_for_playout, lambda: session.send(frame)):
        with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
            await use()
    with pytest.raises(anyio.ClosedResourceError):
        await rx.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await tx.send(frame)
    with clones[0], pytest.raises(anyio.EndOfStream):
        while True:
            await clones[0].receive()
    with clones[1], pytest.raises(anyio.ClosedResourceError, match="transport is closed"):
        await clones[1].send(frame)
    assert session.statistics().receive.frames >= 0
    assert repr(session) == "<LiveKitSession closed>"


async def test_close_is_idempotent() -> None:
    """Contract: aclose may be called again, inside and after the block."""
    async with open_loopback() as session:
        await session.aclose()
        await session.aclose()
        with pytest.raises(anyio.ClosedResourceError, match="transport is closed"):
            await session.receive()
    await session.aclose()


async def test_context_manager_is_entered_once() -> None:
    """Contract: a second enter raises RuntimeError."""
    context = open_loopback()
    async with context:
        pass
    with pytest.raises(RuntimeError, match="cannot be reused"):
        async with context:
            pass


async def test_waiting_tasks_wake_when_session_ends() -> None:
    """Contract: tasks blocked in receive or send end with the session."""
    ended: list[str] = []

    async def receive(session: LiveKitSession) -> None:
        async with session.rx.clone() as rx:
            async for _ in rx:
                pass
        ended.append("rx")

    async def send(session: LiveKitSession) -> None:
        async with session.tx.clone() as tx:
            with pytest.raises(anyio.ClosedResourceError):
                while True:
                    await tx.send(AudioFrame(bytes(6400), 16000))
        ended.append("tx")

    async with anyio.create_task_group() as tasks, open_loopback() as session:
        tasks.start_soon(receive, session)
        tasks.start_soon(send, session)
        await run_until_blocked()
    assert sorted(ended) == ["rx", "tx"]


async def test_session_can_be_left_in_another_task() -> None:
    """Contract: enter and exit may run in different tasks."""
    stack = AsyncExitStack()

    async def enter() -> LiveKitSession:
        return await stack.enter_async_context(open_loopback())

    session = await asyncio.create_task(enter())
    assert isinstance(await session.receive(), AudioFrame)
    await asyncio.create_task(stack.aclose())
    with pytest.raises(anyio.ClosedResourceError):
        await session.receive()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_sessions_can_be_left_in_any_order(order: tuple[int, int]) -> None:
    """Contract: sessions need not nest."""
    contexts = open_loopback(), open_loopback()
    sessions = [await context.__aenter__() for context in contexts]
    await contexts[order[0]].__aexit__(None, None, None)
    assert isinstance(await sessions[order[1]].receive(), AudioFrame)
    await contexts[order[1]].__aexit__(None, None, None)


async def test_closed_rx_leaves_session_that_only_sends() -> None:
    """Contract: after rx is closed nothing is received and nothing spins."""
    async with open_loopback() as session:
        await session.receive()
        await session.rx.aclose()
        await send_frames(session.tx, frames_of_tone(440, 0.3, 16000))
        await session.wait_for_playout()
        before, cpu, wall = session.statistics(), time.process_time(), time.monotonic()
        await send_frames(session.tx, frames_of_tone(440, 0.3, 16000))
        await session.wait_for_playout()
        assert session.statistics().receive.frames == before.receive.frames
        spent = (time.process_time() - cpu) / (time.monotonic() - wall)
        assert spent < 0.8  # Of a core: nothing spins.
