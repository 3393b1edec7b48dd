"""Several receive streams of one session: rx, its clones, `open_rx` and streams of participants."""

from __future__ import annotations

import logging

import anyio
import pytest
from support.audio import collect_frames, is_loud, play_tone
from support.leaks import count_pipelines
from support.waiting import wait_for

from beluga_livekit import AudioFrame, LiveKitSession, ParticipantStream, open_loopback
from beluga_livekit.testing import LoopbackRoom

pytestmark = pytest.mark.anyio


async def test_forgotten_receive_stream_warns_and_its_pipeline_ends(
    session: LiveKitSession,
) -> None:
    """Contract: a stream that is collected unclosed warns, and costs nothing more."""
    with pytest.warns(ResourceWarning, match="Unclosed <ReceiveStream"):
        session.open_rx()
    await wait_for(lambda: count_pipelines(session) == 1)


async def test_clones_share_frames_and_open_rx_copies_them(session: LiveKitSession) -> None:
    """Contract: a frame arrives at one clone of rx, and at each `open_rx` stream."""
    async with (
        session.open_rx() as copy,
        session.rx.clone() as clone,
        collect_frames(session.rx) as first,
        collect_frames(clone) as second,
        collect_frames(copy) as copied,
    ):
        await play_tone(session, 440, 0.5)
        await wait_for(lambda: copied.frames and not any(map(is_loud, copied.frames[-10:])))
    shared = sum(map(is_loud, [*first.frames, *second.frames]))
    assert first.frames
    assert second.frames
    assert shared == sum(map(is_loud, copied.frames)) >= 24


async def test_each_receive_stream_has_counters_of_its_own() -> None:
    """Contract: `counters` are per stream, and stay when it is closed."""
    streams: list[ParticipantStream] = []

    async def handle(stream: ParticipantStream) -> None:
        streams.append(stream)
        async for _ in stream:
            if stream.counters.frames >= 10:
                return

    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        room.open("ann"),
        anyio.create_task_group() as tasks,
    ):
        bot.rx.close()
        tasks.start_soon(bot.for_each_participant, handle)
        async with bot.open_rx(receive_buffer=0.2) as unread, bot.open_rx() as read:
            await wait_for(lambda: unread.counters.frames_dropped)
            while read.counters.frames < 20:
                await read.receive()
            assert unread.counters.seconds_buffered == pytest.approx(0.2, abs=0.1)
            assert read.counters.frames_dropped == 0
        await wait_for(lambda: streams and streams[0].counters.frames >= 10)
        tasks.cancel_scope.cancel()
    assert bot.statistics().receive.frames == 0
    assert unread.counters.frames_dropped
    assert read.counters.seconds == pytest.approx(20 * 0.02, abs=0.1)
    assert streams[0].counters.seconds >= 0.19


async def test_statistics_of_rx_stay_when_it_is_closed(session: LiveKitSession) -> None:
    """Contract: the counters of a closed stream are those of its last moment."""
    await session.receive()
    await wait_for(lambda: session.statistics().receive.frames >= 10)
    session.rx.close()
    frames = session.statistics().receive.frames
    await session.aclose()
    assert session.statistics().receive.frames == frames >= 10


async def test_rx_has_ended_when_session_does_not_subscribe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: `subscribe=False` ends rx from the start; further streams receive."""
    async with open_loopback(subscribe=False, receive_buffer=0.1) as session:
        assert count_pipelines(session) == 0
        assert [frame async for frame in session.rx] == []
        with pytest.raises(anyio.EndOfStream):
            await session.receive()
        await play_tone(session, 440, 0.3)
        async with session.open_rx() as frames:
            assert isinstance(await frames.receive(), AudioFrame)
    assert session.statistics().receive.frames == 0
    assert "not read" not in caplog.text


async def test_unread_rx_is_logged_with_its_room_and_remedies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: the warning names the session and each way to end it."""
    async with (
        LoopbackRoom("lobby") as room,
        room.open("bot", receive_buffer=0.1) as bot,
        room.open("ann"),
    ):
        await wait_for(lambda: bot.statistics().receive.frames_dropped)
    warnings = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings[0] == (
        "livekit: 'bot' in 'lobby': rx was not read for 0.1 s: dropping the oldest frames; "
        "read it, close it, or open the session with subscribe=False"
    )
