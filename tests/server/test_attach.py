"""attach_room: a session on a room that the program owns, left as found."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from livekit import rtc
from support.audio import (
    frames_of_tone,
    measure,
    receive_until_end,
    receive_until_silent,
    samples_of,
    send_frames,
    tone,
)
from support.cancellation import cancel_at_every_checkpoint
from support.leaks import own_tasks
from support.livekit_server import Server
from support.raw_participant import join_raw, subscribed_sids
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import stays_false, wait_for, wait_until_idle

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    attach_room,
)
from beluga_livekit._connection.attached import OWNER_GRACE
from beluga_livekit._receive.preconnect import TOPIC
from beluga_livekit._sdk.rtc import CLOSE_TIMEOUT

pytestmark = pytest.mark.anyio


def handlers(room: rtc.Room) -> dict[Any, int]:
    """Return the number of handlers by event, without the SDK's own one for each track."""
    counts = {event: len(those) for event, those in room._events.items() if those}
    return {event: count for event, count in counts.items() if event != "token_refreshed"}


@pytest.mark.slow_audio
@pytest.mark.parametrize("auto_subscribe", [True, False])
async def test_attached_session_receives_sends_and_restores_room(
    server: Server, token: TokenFactory, auto_subscribe: bool
) -> None:
    """Contract: handlers, tracks and subscriptions are as before, and the room stays connected."""
    async with (
        join_raw(server.url, token("before")) as before,
        join_raw(server.url, token("bot"), auto_subscribe=auto_subscribe) as owner,
    ):
        await before.publish()
        mine = handlers(owner.room)
        async with attach_room(owner.room) as session:
            assert session.room is owner.room
            for who, frequency in [(before, 440), (None, 600)]:
                async with join_raw(server.url, token("later")) as later:
                    speaker = who or later
                    if who is None:
                        await later.publish()
                    await wait_until_idle()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(speaker.play, tone(frequency, 0.5, 48000))
                        frames = await receive_until_silent(session.rx)
                    received = measure(samples_of(frames), 16000, onset=0.5)
                    assert received.frequency == pytest.approx(frequency, abs=2)
            async with anyio.create_task_group() as tasks, aclosing(before.frames()) as frames_of:
                tasks.start_soon(send_frames, session.tx, frames_of_tone(500, 0.5, 16000))
                received = measure(
                    samples_of(await receive_until_silent(frames_of)), 48000, onset=0.5
                )
                assert received.frequency == pytest.approx(500, abs=2)
        assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED
        assert owner.room.isconnected()
        assert handlers(owner.room) == mine
        assert not owner.room.local_participant.track_publications
        (participant,) = before.room.remote_participants.values()
        await wait_for(lambda: not participant.track_publications)
        await wait_for(lambda: bool(subscribed_sids(owner.room)) is auto_subscribe)


async def test_subscription_of_owner_is_kept(server: Server, token: TokenFactory) -> None:
    """Contract: as in a job of LiveKit Agents that subscribes to audio only."""
    async with join_raw(server.url, token("bot"), auto_subscribe=False) as owner:
        owner.room.on("track_published", lambda publication: publication.set_subscribed(True))
        async with (
            join_raw(server.url, token("ben")) as ben,
            attach_room(owner.room, publish=False) as session,
        ):
            await ben.publish()
            await session.receive()
            await session.aclose()
            assert await stays_false(lambda: not subscribed_sids(owner.room), 0.5)


async def test_attached_session_ends_when_participant_is_removed(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: a hang-up of the room is one of the session."""
    async with join_raw(server.url, token("bot")) as owner, attach_room(owner.room) as session:
        await admin.remove("bot")
        await receive_until_end(session)
        with pytest.raises(DisconnectedError):
            await session.send(AudioFrame(bytes(640), 16000))
    assert session.disconnect_reason is DisconnectReason.PARTICIPANT_REMOVED


async def test_attached_session_ends_when_owner_disconnects(
    server: Server, token: TokenFactory
) -> None:
    """Contract: a room disconnected by its owner ends the session, and cannot be attached to."""
    async with join_raw(server.url, token("bot")) as owner:
        async with attach_room(owner.room) as session:
            await owner.room.disconnect()
            await receive_until_end(session)
        with pytest.raises(ConnectError, match="is not connected"):
            async with attach_room(owner.room):
                pass


async def test_attached_session_ends_when_handler_of_owner_raises(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """SDK quirk: after a handler that raises TypeError the SDK calls no other of the event."""
    async with join_raw(server.url, token("bot")) as owner:
        owner.room.on("disconnected", lambda _: len(None))  # type: ignore[arg-type]
        async with attach_room(owner.room) as session:
            await admin.remove("bot")
            await receive_until_end(session)
        assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED


async def test_track_released_by_owner_is_not_resubscribed(
    server: Server, token: TokenFactory
) -> None:
    """Contract: the owner decides on its subscriptions, and the exit does not wait for them."""
    async with (
        join_raw(server.url, token("bot"), auto_subscribe=False) as owner,
        join_raw(server.url, token("ben")) as ben,
    ):
        await ben.publish()
        async with attach_room(owner.room, publish=False) as session:
            await session.receive()
            (participant,) = owner.room.remote_participants.values()
            (publication,) = participant.track_publications.values()
            publication.set_subscribed(False)
            await wait_for(lambda: not publication.subscribed)
            assert await stays_false(lambda: publication.subscribed, 2 * OWNER_GRACE)
            start = time.monotonic()
        assert time.monotonic() - start < CLOSE_TIMEOUT


async def test_pending_subscription_is_released_on_exit(
    server: Server, token: TokenFactory
) -> None:
    """Contract: a subscription that completes during the exit is released."""
    async with (
        join_raw(server.url, token("bot"), auto_subscribe=False) as owner,
        join_raw(server.url, token("ben")) as ben,
        join_raw(server.url, token("amy")) as amy,
    ):
        await ben.publish()
        async with attach_room(owner.room, publish=False) as session:
            await session.receive()
            await ben.unpublish()
            await wait_for(lambda: not subscribed_sids(owner.room))
            under_way: list[str] = []
            owner.room.on("track_published", lambda track: under_way.append(track.sid))
            await amy.publish()
            await wait_for(lambda: under_way)
            await anyio.sleep(OWNER_GRACE + 0.005)  # The subscription has just begun.
        await wait_for(lambda: not subscribed_sids(owner.room))
        assert await stays_false(lambda: subscribed_sids(owner.room), 0.5)


async def test_preconnect_audio_is_rejected_when_owner_has_handler(
    server: Server, token: TokenFactory
) -> None:
    """Contract: the owner's byte stream handler is never replaced."""
    async with join_raw(server.url, token("bot")) as owner:
        owner.room.register_byte_stream_handler(TOPIC, lambda *_: None)
        mine = handlers(owner.room)
        with pytest.raises(ConfigError, match="pre_connect_audio"):
            async with attach_room(owner.room, pre_connect_audio=True):
                pass
        assert handlers(owner.room) == mine


async def test_attached_session_only_receives_without_permission(
    server: Server, token: TokenFactory
) -> None:
    """Contract: without the grant tx raises."""
    async with (
        join_raw(server.url, token("bot", can_publish=False)) as owner,
        attach_room(owner.room) as session,
    ):
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.send(AudioFrame(bytes(640), 16000))


@pytest.mark.slow_audio
async def test_attached_session_can_be_cancelled_at_every_checkpoint(
    server: Server, token: TokenFactory
) -> None:
    """Contract: cancelled anywhere, the room is left as found."""
    async with (
        join_raw(server.url, token("bot"), auto_subscribe=False) as owner,
        join_raw(server.url, token("ben")) as ben,
    ):
        await ben.publish()
        mine = handlers(owner.room)

        async def run() -> None:
            async with attach_room(owner.room, subscription_timeout=0) as session:
                await session.send(AudioFrame(bytes(640), 16000))
                await session.receive()
                await session.wait_for_playout()

        async def check() -> None:
            assert handlers(owner.room) == mine
            assert not owner.room.local_participant.track_publications
            assert not own_tasks()
            (bot,) = ben.room.remote_participants.values()
            await wait_for(lambda: not bot.track_publications and not subscribed_sids(owner.room))

        assert await cancel_at_every_checkpoint(run, check) > 5
