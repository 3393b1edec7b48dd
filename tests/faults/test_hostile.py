"""Hostile input of other participants: nothing crashes, hangs or grows."""

from __future__ import annotations

import asyncio
import json
import logging

import anyio
import pytest
from livekit import rtc
from support.audio import frames_of_tone, receive_until_silent, send_frames, tone
from support.livekit_server import Server
from support.raw_participant import join_raw, subscribed_sids
from support.tokens import TokenFactory, mint_token
from support.waiting import wait_for

from beluga_livekit import ConnectError, open_livekit
from beluga_livekit._receive.plan import MAX_TRACKS

pytestmark = pytest.mark.anyio

UNUSUAL_NAME = "ben\r\n\x00\x1b[31m%s%n{}\u202e\U0001f40b'\"" + "x" * 200


async def publish_and_unpublish(room: rtc.Room, track: rtc.LocalAudioTrack) -> None:
    publication = await room.local_participant.publish_track(track)
    await room.local_participant.unpublish_track(publication.sid)


@pytest.mark.faults
async def test_unusual_names_and_large_metadata_are_harmless(
    server: Server, room_name: str, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: any characters in a name and 64 KiB of metadata arrive; the log stays printable."""
    caplog.set_level(logging.INFO, "beluga_livekit")
    metadata = json.dumps({"\x00\r\n\x1b": "\u202e" * 10_000}, ensure_ascii=False) + "\x07" * 20_000
    unusual = mint_token(server, room_name, UNUSUAL_NAME, name=UNUSUAL_NAME, metadata=metadata)
    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, unusual) as ben,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send_frames, ben.tx, frames_of_tone(440, 0.5, 16000))
        frames = await receive_until_silent(bot.rx)
        assert {frame.participant for frame in frames} - {None} == {UNUSUAL_NAME}
        assert ben.room.local_participant.metadata == metadata
    ours = [record.getMessage() for record in caplog.records if record.name == "beluga_livekit"]
    assert len(ours) >= 4
    assert all(line.isprintable() and len(line) < 250 for line in ours)


@pytest.mark.faults
@pytest.mark.parametrize("size", [1000, 65_536, 1_000_000])
async def test_oversized_token_is_rejected_briefly(
    server: Server, room_name: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: errors stay short and never show the token."""
    huge = mint_token(server, room_name, "x" * size, name="x" * size, metadata="y" * size)
    with pytest.raises(ConnectError) as caught:
        async with open_livekit(server.url, huge):
            pass
    assert len(str(caught.value)) < 500
    assert "eyJ" not in str(caught.value)
    assert "eyJ" not in caplog.text


@pytest.mark.faults
async def test_url_credentials_are_not_logged(
    server: Server, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: neither the log nor an error shows a URL's credentials."""
    caplog.set_level(logging.DEBUG)
    scheme, _, host = server.url.partition("://")
    for url in (f"{scheme}://user:pass-phrase@{host}", "ws://user:pass-phrase@127.0.0.1:1"):
        try:
            async with open_livekit(url, token("bot")):
                pass
        except ConnectError as error:
            assert "pass-phrase" not in str(error)  # noqa: PT017 - one of them may be joined
    assert "pass-phrase" not in caplog.text
    assert "eyJ" not in caplog.text


@pytest.mark.parametrize(
    "count",
    [pytest.param(75, marks=pytest.mark.faults), pytest.param(400, marks=pytest.mark.soak)],
)
async def test_many_tracks_published_and_unpublished_at_once_leak_nothing(
    server: Server, token: TokenFactory, count: int
) -> None:
    """Contract: tracks that are gone before they are subscribed leave no task."""
    async with (
        open_livekit(server.url, token("bot")) as (rx, _),
        join_raw(server.url, token("ben")) as ben,
    ):
        before = len(asyncio.all_tasks())
        source = rtc.AudioSource(48000, 1, 100)
        for _ in range(count // 25):
            async with anyio.create_task_group() as tasks:
                for number in range(25):
                    track = rtc.LocalAudioTrack.create_audio_track(f"{number}", source)
                    tasks.start_soon(publish_and_unpublish, ben.room, track)
        await ben.publish()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ben.play, tone(440, 1.0, 48000))
            await receive_until_silent(rx)
        await ben.unpublish()
        await wait_for(lambda: len(asyncio.all_tasks()) <= before)
        await source.aclose()


@pytest.mark.faults
async def test_tracks_per_participant_are_limited(server: Server, token: TokenFactory) -> None:
    """Contract: MAX_TRACKS of a participant are subscribed; a freed place is filled."""
    async with (
        open_livekit(server.url, token("bot")) as bot,
        join_raw(server.url, token("ben")) as ben,
    ):
        source = rtc.AudioSource(48000, 1, 100)

        for number in range(MAX_TRACKS + 3):
            track = rtc.LocalAudioTrack.create_audio_track(f"{number}", source)
            await ben.room.local_participant.publish_track(track)
        await wait_for(lambda: len(subscribed_sids(bot.room)) >= MAX_TRACKS)
        await anyio.sleep(0.5)  # Further tracks would be subscribed now.
        first = subscribed_sids(bot.room)
        assert len(first) == MAX_TRACKS
        await ben.room.local_participant.unpublish_track(first.pop())
        await wait_for(lambda: subscribed_sids(bot.room) - first)
        await wait_for(lambda: len(subscribed_sids(bot.room)) >= MAX_TRACKS)
        await source.aclose()
