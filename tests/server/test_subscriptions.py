"""Subscriptions: only selected tracks, and rx through every change of a track."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from functools import partial

import anyio
import pytest
from livekit import rtc
from support.audio import (
    Recording,
    assert_is_tone,
    collect_frames,
    frames_of_tone,
    is_loud,
    level_of,
    receive_and_measure,
    samples_of,
    send_frames,
    tone,
)
from support.leaks import count_track_readers
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.raw_participant import RawParticipant, join_raw, subscribed_sids
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import stays_false, wait_for, wait_until_idle

from beluga_livekit import ParticipantStream, TrackSource, open_livekit

pytestmark = pytest.mark.anyio


@pytest.mark.slow_audio
async def test_only_selected_tracks_are_subscribed(server: Server, token: TokenFactory) -> None:
    """Contract: a room of 20 tracks costs one subscription where one is selected."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        bot = await enter(
            open_livekit(server.url, token("bot"), participants="peer-3", publish=False)
        )
        sids = {}
        for number in range(20):
            joining = join_raw(server.url, token(f"peer-{number}"), auto_subscribe=False)
            peer = await enter(joining)
            sids[number] = await peer.publish("MICROPHONE")
        await bot.receive()
        assert subscribed_sids(bot.room) == {sids[3]}
        async with bot.open_rx(participants=["peer-3", "peer-5"]) as _:
            await wait_for(lambda: subscribed_sids(bot.room) == {sids[3], sids[5]})
        await wait_for(lambda: subscribed_sids(bot.room) == {sids[3]})
        await bot.rx.aclose()
        await wait_for(lambda: not subscribed_sids(bot.room))


@pytest.mark.slow_audio
@measures_network_audio
async def test_screen_share_audio_is_separate_from_microphone(
    server: Server, token: TokenFactory
) -> None:
    """Contract: `sources` selects; two tracks of one participant keep its identity."""
    sources: dict[TrackSource, Recording] = {}

    async def record(stream: ParticipantStream) -> None:
        recording = sources[stream.source] = Recording()
        await recording.receive(stream)

    async with (
        open_livekit(server.url, token("bot")) as bot,
        join_raw(server.url, token("peer")) as voice,
        anyio.create_task_group() as tasks,
    ):
        await voice.publish("MICROPHONE")
        screen = RawParticipant(voice.room, 1)
        screen_sid = await screen.publish("SCREENSHARE_AUDIO")
        await bot.receive()
        assert screen_sid not in subscribed_sids(bot.room)
        both = list(TrackSource)
        tasks.start_soon(partial(bot.for_each_participant, record, sources=both))
        async with (
            collect_frames(bot.rx) as received,
            bot.open_rx(sources=both) as mixed,
            collect_frames(mixed) as everything,
        ):
            await wait_for(lambda: len(sources) == 2)
            await wait_until_idle()
            async with anyio.create_task_group() as speaking:
                speaking.start_soon(voice.play, tone(440, 1.5, 48000))
                speaking.start_soon(screen.play, tone(700, 1.5, 48000))
            await wait_for(
                lambda: everything.frames and not any(map(is_loud, everything.frames[-10:]))
            )
        tasks.cancel_scope.cancel()
    assert {frame.participant for frame in everything.frames} <= {"peer", None}
    assert everything.loud_seconds_from(None) == 0  # Two tracks, but one participant.
    for recording, levels in (
        (received, (0.25, 0.0)),
        (everything, (0.25, 0.25)),
        (sources[TrackSource.MICROPHONE], (0.25, 0.0)),
        (sources[TrackSource.SCREEN_SHARE_AUDIO], (0.0, 0.25)),
    ):
        sound = samples_of(recording.frames)
        got = (level_of(sound, 440), level_of(sound, 700))
        assert got == pytest.approx(levels, abs=0.03)


@pytest.mark.slow_audio
@measures_network_audio
async def test_republished_microphone_is_resubscribed_into_one_stream(
    server: Server, token: TokenFactory
) -> None:
    """Contract: 50 publications under new SIDs are one continuous stream, without leaks."""
    streams: list[str] = []
    sids: set[str | None] = set()

    async def collect_sids(stream: ParticipantStream) -> None:
        streams.append(stream.participant.identity)
        async for frame in stream:
            if is_loud(frame):
                sids.add(frame.track_sid)

    async with (
        open_livekit(server.url, token("bot")) as bot,
        join_raw(server.url, token("peer")) as peer,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, collect_sids)
        async with collect_frames(bot.rx) as received:
            for _ in range(50):
                sid = await peer.publish()
                await peer.play(tone(440, 0.06, 48000))
                await wait_for(partial(sids.__contains__, sid))
                await peer.unpublish()
        tasks.cancel_scope.cancel()
        assert streams == ["peer"]
        assert len(sids) == 50
        assert len(asyncio.all_tasks()) < 40
        await wait_for(lambda: not count_track_readers(bot))
    first, last = received.frames[0].timestamp, received.frames[-1].timestamp
    assert first is not None
    assert last is not None
    assert sum(frame.duration for frame in received.frames) == pytest.approx(last - first, abs=1.0)


@pytest.mark.slow_audio
@measures_network_audio
async def test_stereo_track_is_received_as_mono_in_both_channels(
    server: Server, token: TokenFactory
) -> None:
    """SDK quirk: stereo is encoded as mono (livekit/rust-sdks#1018): both sides at half level."""
    async with (
        open_livekit(server.url, token("bot"), num_channels=2) as bot,
        join_raw(server.url, token("peer"), channels=2) as peer,
        collect_frames(bot.rx) as received,
    ):
        await peer.publish("MICROPHONE")
        await wait_until_idle()
        await peer.play(tone(440, 1.0, 48000, channels=2))
        await wait_for(lambda: received.frames and not any(map(is_loud, received.frames[-10:])))
    sound = samples_of(received.frames)
    assert sound.shape[1] == 2
    for side in (0, 1):
        assert level_of(sound[:, side], 440) == pytest.approx(0.125, rel=0.1)
        assert level_of(sound[:, side], 880) == pytest.approx(0.125, rel=0.1)


@pytest.mark.slow_audio
@measures_network_audio
async def test_rx_is_continuous_through_mute_republish_and_departure(
    server: Server, token: TokenFactory
) -> None:
    """Contract: rx has as much audio as time has passed, from its first frame on."""
    async with open_livekit(server.url, token("bot")) as (rx, _):
        async with collect_frames(rx) as recording:
            async with join_raw(server.url, token("peer")) as peer:
                await peer.publish()
                await peer.play(tone(440, 0.5, 48000))
                for _ in range(3):
                    await peer.unpublish()
                    await anyio.sleep(0.3)  # rx continues without a track.
                    await peer.publish()
                    await peer.play(tone(440, 0.5, 48000))
                publication = next(iter(peer.room.local_participant.track_publications.values()))
                assert publication.track is not None
                publication.track.mute()
                await anyio.sleep(0.3)  # rx continues while muted.
                publication.track.unmute()
                await peer.play(tone(440, 0.5, 48000))
            await anyio.sleep(0.5)  # rx continues without the participant.
        frames = recording.frames
        assert len({frame.track_sid for frame in frames if frame.track_sid}) == 4
        first, last = frames[0].timestamp, frames[-1].timestamp
        assert first is not None
        assert last is not None
        # A track that ends or begins within a frame moves the clock by less than one frame.
        total = sum(frame.duration for frame in frames)
        assert total == pytest.approx(last - first, abs=0.02 * 2 * 5)
        assert {frame.lost for frame in frames} == {0.0}
        loud = sum(map(is_loud, frames)) * 0.02
        assert loud >= 5 * 0.4


@pytest.mark.slow_audio
@measures_network_audio
async def test_rx_continues_when_permission_to_subscribe_is_granted_again(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: silence while the permission is revoked; then rx continues by itself."""

    async def is_silent() -> None:
        await wait_for(lambda: received.frames and not any(map(is_loud, received.frames[-10:])))

    async with (
        open_livekit(server.url, token("bot", can_subscribe=False)) as bot,
        join_raw(server.url, token("peer")) as peer,
        collect_frames(bot.rx) as received,
        anyio.create_task_group() as tasks,
    ):
        await peer.publish("MICROPHONE")
        tasks.start_soon(peer.play, tone(440, 60.0, 48000))
        for _ in range(2):
            await admin.permit("bot", publish=True, subscribe=True)
            before = received.loud_seconds_from("peer")
            await wait_for(lambda: received.loud_seconds_from("peer") > before + 0.5)  # noqa: B023
            await admin.permit("bot", publish=True, subscribe=False)
            await is_silent()
        tasks.cancel_scope.cancel()
    first, last = received.frames[0].timestamp, received.frames[-1].timestamp
    assert first is not None
    assert last is not None
    total = sum(frame.duration for frame in received.frames)
    assert total == pytest.approx(last - first, abs=0.2)


async def test_session_that_does_not_subscribe_has_no_subscription(
    server: Server, token: TokenFactory
) -> None:
    """Contract: `subscribe=False` subscribes only to what a further stream receives."""
    async with (
        open_livekit(server.url, token("bot"), subscribe=False) as bot,
        join_raw(server.url, token("peer"), auto_subscribe=False) as peer,
    ):
        sid = await peer.publish()
        with pytest.raises(anyio.EndOfStream):
            await bot.receive()
        await wait_for(lambda: bot.participants)
        assert await stays_false(lambda: subscribed_sids(bot.room), 0.5)
        async with bot.open_rx() as frames:
            await frames.receive()
            assert subscribed_sids(bot.room) == {sid}
        await wait_for(lambda: not subscribed_sids(bot.room))


async def test_video_is_not_subscribed(server: Server, token: TokenFactory) -> None:
    """Contract: audio tracks only."""
    async with (
        open_livekit(server.url, token("bot")) as session,
        join_raw(server.url, token("peer")) as peer,
    ):
        source = rtc.VideoSource(64, 64)
        video = rtc.LocalVideoTrack.create_video_track("camera", source)
        await peer.room.local_participant.publish_track(video)
        await peer.publish()
        await session.receive()
        (participant,) = session.room.remote_participants.values()
        subscribed = {p.kind: p.subscribed for p in participant.track_publications.values()}
        assert subscribed == {rtc.TrackKind.KIND_AUDIO: True, rtc.TrackKind.KIND_VIDEO: False}


@measures_network_audio
async def test_closed_tx_unpublishes_and_rx_continues(server: Server, token: TokenFactory) -> None:
    """Contract: the two directions end by themselves."""
    async with (
        open_livekit(server.url, token("bot")) as (rx, tx),
        join_raw(server.url, token("peer")) as peer,
    ):
        (bot,) = peer.room.remote_participants.values()
        await peer.publish()
        assert bot.track_publications
        await tx.aclose()
        await wait_for(lambda: not bot.track_publications)
        await wait_until_idle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.play, tone(440, 1.0, 48000))
            assert_is_tone(await receive_and_measure(rx), 440)


@measures_network_audio
async def test_closed_rx_unsubscribes_and_tx_continues(server: Server, token: TokenFactory) -> None:
    """Contract: the two directions end by themselves."""
    async with (
        open_livekit(server.url, token("bot")) as session,
        join_raw(server.url, token("peer")) as peer,
    ):
        rx, tx = session
        await peer.publish()
        await rx.receive()
        await rx.aclose()
        (participant,) = session.room.remote_participants.values()
        (publication,) = participant.track_publications.values()
        await wait_for(lambda: not publication.subscribed)
        await wait_until_idle()
        async with anyio.create_task_group() as tasks, aclosing(peer.frames()) as received:
            tasks.start_soon(send_frames, tx, frames_of_tone(440, 1.0, 16000))
            assert_is_tone(await receive_and_measure(received), 440)
