"""Hostile pre-connect audio: floods of streams, and streams that never end."""

from __future__ import annotations

import asyncio

import anyio
import psutil
import pytest
from livekit import rtc
from support.audio import collect_frames, is_loud, level_of, samples_of, tone
from support.leaks import native_event_subscribers
from support.livekit_server import Server
from support.raw_participant import RawParticipant, join_raw
from support.recordings import encode, opus_bomb
from support.tokens import TokenFactory
from support.waiting import wait_for

from beluga_livekit import attach_room, open_livekit
from beluga_livekit._receive import preconnect
from beluga_livekit._receive.preconnect import MAX_OF_ONE, TOPIC

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


async def open_recording(
    sender: RawParticipant, sid: str, mime_type: str = "audio/webm", to: str = "bot"
) -> rtc.ByteStreamWriter:
    """Open a byte stream as a client that sends a recording of its track."""
    return await sender.room.local_participant.stream_bytes(
        name="preconnect", topic=TOPIC, attributes={"trackId": sid}, mime_type=mime_type,
        destination_identities=[to],
    )  # fmt: skip


async def send_recording(sender: RawParticipant, sid: str, data: bytes) -> None:
    writer = await open_recording(sender, sid)
    await writer.write(data)
    await writer.aclose()


async def test_preconnect_streams_that_never_end_are_closed(
    server: Server,
    token: TokenFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Contract: streams are limited, of one participant and of all, and each has a deadline.

    Each of them had a task and a subscriber of all native events for ever, and a warning.
    """
    monkeypatch.setattr(preconnect, "RECEPTION_TIMEOUT", 2.0)
    monkeypatch.setattr(preconnect, "MAX_RECEPTIONS", 3)
    async with (
        open_livekit(server.url, token("bot"), pre_connect_audio=True) as bot,
        join_raw(server.url, token("eve")) as eve,
        join_raw(server.url, token("mallory")) as mallory,
        join_raw(server.url, token("ann")) as ann,
        collect_frames(bot.rx) as received,
    ):
        tasks, subscribers = len(asyncio.all_tasks()), native_event_subscribers()
        for number in range(30):
            await open_recording(eve, f"TR_{number}")
        await wait_for(lambda: caplog.text.count("too many streams at once") == 1)
        assert native_event_subscribers() - subscribers == MAX_OF_ONE
        for number in range(30):
            await open_recording(mallory, f"TR_{number}")
        await wait_for(lambda: caplog.text.count("too many streams at once") == 2)
        assert native_event_subscribers() - subscribers <= 3
        await wait_for(lambda: native_event_subscribers() <= subscribers)
        await wait_for(lambda: len(asyncio.all_tasks()) <= tasks)
        assert caplog.text.count("pre-connect audio of 'eve'") == 1
        sid = await ann.publish("MICROPHONE", preconnect_buffer=True)
        async with anyio.create_task_group() as playing:
            playing.start_soon(ann.play, tone(700, 1.0, 48000))
            await send_recording(ann, sid, encode(tone(440, 1.0, 24000), 24000))
        await wait_for(lambda: level_of(samples_of(received.frames), 700) > 0.2)
    assert level_of(samples_of(received.frames), 440) > 0.2


async def test_preconnect_stream_is_closed_when_session_is_left(
    server: Server, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a session that is left keeps no subscriber of native events, and warns of none."""
    async with join_raw(server.url, token("eve")) as eve, join_raw(server.url, token("own")) as own:
        before = native_event_subscribers()
        async with attach_room(own.room, pre_connect_audio=True):
            inside = native_event_subscribers()
            await open_recording(eve, "TR_1", to="own")
            await wait_for(lambda: native_event_subscribers() > inside)
        assert native_event_subscribers() <= before + 1  # The package's own, which stays.
    assert "pre-connect" not in caplog.text


async def test_preconnect_bombs_are_refused(
    server: Server, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: recordings that grow when decoded, four at once, cost neither memory nor audio."""
    bomb = opus_bomb(200_000)  # half an hour
    async with (
        open_livekit(server.url, token("bot"), pre_connect_audio=True) as bot,
        join_raw(server.url, token("eve")) as eve,
        join_raw(server.url, token("mallory")) as mallory,
        collect_frames(bot.rx) as received,
    ):
        await mallory.publish("MICROPHONE")
        await bot.receive()
        memory = psutil.Process().memory_info().rss
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                sender = (eve, mallory)[number % 2]
                tasks.start_soon(send_recording, sender, f"TR_{number}", bomb)
        refused = "decoding pre-connect audio of %r failed: ValueError('longer than 15 s')"
        await wait_for(lambda: all(refused % each in caplog.text for each in ("eve", "mallory")))
        assert psutil.Process().memory_info().rss - memory < 60e6
    assert not any(map(is_loud, received.frames))
