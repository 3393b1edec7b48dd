"""The public names as type checkers see them. Checked, not run."""

from __future__ import annotations

from typing import assert_type

import numpy as np
from anyio.abc import ByteSendStream, ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from numpy.typing import NDArray

from beluga_livekit import (
    AudioFrame,
    DisconnectReason,
    LiveKitSession,
    Participant,
    ParticipantStream,
    ReceiveStream,
    open_livekit,
    open_loopback,
)
from beluga_livekit.audio import Resampler
from beluga_livekit.events import ParticipantLeft
from beluga_livekit.testing import LoopbackRoom
from beluga_livekit.transport import AsVoiceTransport, TransportConfig, VoiceTransport, new


async def a_session_is_a_pair() -> None:
    async with open_livekit("ws://host", "token") as (rx, tx):
        assert_type(rx, ReceiveStream)
        frames: MemoryObjectReceiveStream[AudioFrame] = rx
        pump: MemoryObjectSendStream[AudioFrame] = tx
        async for frame in frames:
            assert_type(frame, AudioFrame)
            await pump.send(frame)


async def a_session_is_a_stream() -> None:
    async with open_loopback() as session:
        assert_type(session, LiveKitSession)
        stream: ObjectStream[AudioFrame] = session
        rx, _ = session
        assert_type(rx, ReceiveStream)
        assert_type(rx.clone(), ReceiveStream)
        assert_type(rx.counters.frames, int)
        assert_type(await stream.receive(), AudioFrame)
        assert_type(session.disconnect_reason, DisconnectReason | None)
        async for frame in session:
            assert_type(frame.samples, NDArray[np.int16])


async def code_after_a_block_that_loops_for_ever_is_reachable() -> int:
    async with open_loopback() as (_, tx):
        while True:
            await tx.send(AudioFrame(b"", 16000))
    return 1


async def a_provider_gives_a_session() -> None:
    async with new("livekit", TransportConfig()) as session:
        assert_type(session, LiveKitSession)
        voice: VoiceTransport = AsVoiceTransport(session)
        assert_type(voice.audio_out, ByteSendStream)


async def everyone_in_the_room() -> None:
    async def handle(stream: ParticipantStream) -> None:
        assert_type(stream.participant, Participant)
        assert_type(await stream.receive(), AudioFrame)

    async with LoopbackRoom() as room, room.open("bot", departure_timeout=1.0) as session:
        assert_type(session, LiveKitSession)
        await session.for_each_participant(handle, participants=lambda p: p.kind == "sip")
        assert_type(await session.wait_for_participant({"ann"}), Participant)
        async with session.open_rx(mix=False, sources=["microphone"]) as frames:
            assert_type(await frames.receive(), AudioFrame)
        async with session.events() as events:
            async for event in events:
                if isinstance(event, ParticipantLeft):
                    assert_type(event.participant, Participant)


def tokens_may_be_callables() -> None:
    async def later() -> str:
        return "token"

    open_livekit("ws://host", lambda: "token")
    open_livekit("ws://host", later)


def stages_take_and_give_int16(samples: NDArray[np.int16]) -> None:
    assert_type(Resampler(48000, 16000).push(samples), NDArray[np.int16])
