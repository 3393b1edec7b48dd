"""LiveKitSession: a pair of streams, and one object stream."""

from __future__ import annotations

import anyio
import pytest
from anyio.streams.stapled import StapledObjectStream
from support.audio import (
    collect_frames,
    frames_of_tone,
    measure,
    receive_until_silent,
    samples_of,
    send_frames,
)

from beluga_livekit import AudioFrame, ConfigError, LiveKitError, LiveKitSession, open_loopback

pytestmark = pytest.mark.anyio


async def test_clones_share_streams_until_last_is_closed() -> None:
    """Contract: rx and tx are anyio memory streams, with clones."""
    async with open_loopback() as (rx, tx):
        with rx.clone() as other, tx.clone() as clone:
            assert type(clone) is type(tx)
            await tx.aclose()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_frames, clone, frames_of_tone(440, 0.3, 16000))
                frames = await receive_until_silent(other)
        assert measure(samples_of(frames), 16000).duration == pytest.approx(0.3, abs=0.04)
        assert isinstance(await rx.receive(), AudioFrame)


async def test_session_is_object_stream_and_can_be_stapled() -> None:
    """Contract: a session is an anyio ObjectStream, and its pair can be stapled."""
    async with open_loopback() as session:
        rx, tx = session
        stapled = StapledObjectStream(tx, rx)
        await stapled.send(AudioFrame(bytes(640), 16000))
        assert isinstance(await stapled.receive(), AudioFrame)
        await session.send(AudioFrame(bytes(640), 16000))
        assert isinstance(await session.receive(), AudioFrame)
        async for frame in session:
            assert isinstance(frame, AudioFrame)
            break
        await session.send_eof()
        with pytest.raises(anyio.ClosedResourceError):
            await tx.send(AudioFrame(bytes(640), 16000))
        assert isinstance(await session.receive(), AudioFrame)


async def test_tx_rejects_other_types() -> None:
    """Contract: tx takes AudioFrame only; the error names the constructor."""
    async with open_loopback() as (_, tx):
        with pytest.raises(TypeError, match="make one of its PCM: AudioFrame"):
            await tx.send(bytes(640))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="got builtins.bytes"):
            tx.send_nowait(bytes(640))  # type: ignore[arg-type]


async def test_session_can_be_yielded_by_fixture(session: LiveKitSession) -> None:
    """Contract: pytest's anyio plugin may enter and leave a session in its own task."""
    assert isinstance(await session.receive(), AudioFrame)


async def test_session_shows_state_and_loopback_has_no_room(session: LiveKitSession) -> None:
    """Contract: the repr shows the state; `room` of a loopback raises."""
    await session.receive()
    assert repr(session) == "<LiveKitSession open>"
    assert session.disconnect_reason is None
    with pytest.raises(LiveKitError, match="has no room"):
        _ = session.room


def test_trio_is_rejected_at_once() -> None:
    """Contract: another backend than asyncio is a ConfigError."""

    async def main() -> None:
        async with open_loopback():
            pass

    with pytest.raises(ConfigError, match="needs asyncio"):
        anyio.run(main, backend="trio")


async def test_muted_loopback_is_silent() -> None:
    """Contract: audio sent while muted is never received."""
    async with open_loopback() as session, collect_frames(session.rx) as received:
        session.mute()
        await send_frames(session.tx, frames_of_tone(440, 0.3, 16000))
        await session.wait_for_playout()
        await anyio.sleep(0.1)  # The audio would arrive within 40 ms.
        assert not len(received.sound)
        session.unmute()
        await send_frames(session.tx, frames_of_tone(440, 0.3, 16000))
        assert measure(await received.wait_until_silent(), 16000).duration == pytest.approx(
            0.3, abs=0.04
        )
