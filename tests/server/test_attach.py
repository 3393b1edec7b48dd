"""A session on a room that somebody else has connected: it works there, and leaves no trace."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from conftest import Admin, MakeToken, own_tasks
from livekit import rtc
from support import peers
from support.audio import DEADLINE, calm, cut, hear, measure, samples_of, say, tone
from support.cancellation import cancel_everywhere
from support.livekit_server import Server
from support.peers import subscribed
from support.rooms import until

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    attach_room,
)
from beluga_livekit._connection.server import OWNERS_PATIENCE
from beluga_livekit._receive.preconnect import TOPIC
from beluga_livekit._sdk.rtc import CLOSE_TIMEOUT

pytestmark = pytest.mark.anyio


def handlers(room: rtc.Room) -> dict[Any, int]:
    """How many there are for each event, without the SDK's own, one for each track."""
    counts = {event: len(those) for event, those in room._events.items() if those}
    return {event: count for event, count in counts.items() if event != "token_refreshed"}


@pytest.mark.once
@pytest.mark.parametrize("auto_subscribe", [True, False])
async def test_it_hears_and_speaks_and_leaves_no_trace(
    server: Server, token: MakeToken, auto_subscribe: bool
) -> None:
    async with (
        peers.join(server.url, token("before")) as before,
        peers.join(server.url, token("bot"), auto_subscribe=auto_subscribe) as owner,
    ):
        await before.publish()
        mine = handlers(owner.room)
        async with attach_room(owner.room) as session:
            assert session.room is owner.room
            for who, frequency in [(before, 440), (None, 600)]:
                async with peers.join(server.url, token("later")) as later:
                    speaker = who or later
                    if who is None:
                        await later.publish()
                    await calm()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(speaker.say, tone(frequency, 0.5, 48000))
                        frames = await hear(session.rx)
                    heard = measure(samples_of(frames), 16000, onset=0.5)
                    assert heard.frequency == pytest.approx(frequency, abs=2)
            async with anyio.create_task_group() as tasks, aclosing(before.frames()) as frames_of:
                tasks.start_soon(say, session.tx, cut(tone(500, 0.5, 16000), 16000))
                heard = measure(samples_of(await hear(frames_of)), 48000, onset=0.5)
                assert heard.frequency == pytest.approx(500, abs=2)
        assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED
        assert owner.room.isconnected()
        assert handlers(owner.room) == mine
        assert not owner.room.local_participant.track_publications
        (participant,) = before.room.remote_participants.values()
        with anyio.fail_after(DEADLINE):
            while participant.track_publications or bool(subscribed(owner.room)) != auto_subscribe:
                await anyio.sleep(0.02)


async def test_what_the_owner_subscribes_to_stays_so(server: Server, token: MakeToken) -> None:
    """As a job of LiveKit Agents does that has asked for audio only."""
    async with peers.join(server.url, token("bot"), auto_subscribe=False) as owner:
        owner.room.on("track_published", lambda publication: publication.set_subscribed(True))
        async with (
            peers.join(server.url, token("ben")) as ben,
            attach_room(owner.room, publish=False) as session,
        ):
            await ben.publish()
            await session.receive()
            await session.aclose()
            with pytest.raises(TimeoutError), anyio.fail_after(0.5):
                while subscribed(owner.room):
                    await anyio.sleep(0.02)


async def test_a_room_that_ends_ends_the_session(
    server: Server, token: MakeToken, admin: Admin
) -> None:
    async with peers.join(server.url, token("bot")) as owner, attach_room(owner.room) as session:
        await admin.remove("bot")
        with anyio.fail_after(DEADLINE):
            async for _ in session.rx:
                pass
        with pytest.raises(DisconnectedError):
            await session.send(AudioFrame(bytes(640), 16000))
    assert session.disconnect_reason is DisconnectReason.PARTICIPANT_REMOVED


async def test_a_room_that_its_owner_leaves_ends_the_session(
    server: Server, token: MakeToken
) -> None:
    async with peers.join(server.url, token("bot")) as owner:
        async with attach_room(owner.room) as session:
            await owner.room.disconnect()
            with anyio.fail_after(DEADLINE):
                async for _ in session.rx:
                    pass
        with pytest.raises(ConnectError, match="is not connected"):
            async with attach_room(owner.room):
                pass


async def test_an_owners_broken_handler_does_not_hide_the_end(
    server: Server, token: MakeToken, admin: Admin
) -> None:
    """The SDK calls no other handler of an event after one that has raised TypeError."""
    async with peers.join(server.url, token("bot")) as owner:
        owner.room.on("disconnected", lambda _: len(None))  # type: ignore[arg-type]
        async with attach_room(owner.room) as session:
            await admin.remove("bot")
            with anyio.fail_after(DEADLINE):
                async for _ in session.rx:
                    pass
        assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED


async def test_what_the_owner_has_given_back_is_not_waited_for(
    server: Server, token: MakeToken
) -> None:
    async with (
        peers.join(server.url, token("bot"), auto_subscribe=False) as owner,
        peers.join(server.url, token("ben")) as ben,
    ):
        await ben.publish()
        async with attach_room(owner.room, publish=False) as session:
            await session.receive()
            (participant,) = owner.room.remote_participants.values()
            (publication,) = participant.track_publications.values()
            publication.set_subscribed(False)
            with anyio.fail_after(DEADLINE):
                while publication.subscribed:
                    await anyio.sleep(0.02)
            with pytest.raises(TimeoutError), anyio.fail_after(2 * OWNERS_PATIENCE):
                while not publication.subscribed:  # it is the owner's to decide
                    await anyio.sleep(0.02)
            start = time.monotonic()
        assert time.monotonic() - start < CLOSE_TIMEOUT


async def test_no_room_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="expected an rtc.Room, got str"):
        attach_room("wss://example.com")  # type: ignore[arg-type]
    with pytest.raises(ConnectError, match="is not connected"):
        async with attach_room(rtc.Room()):
            pass


async def test_a_subscription_under_way_is_given_back_as_well(
    server: Server, token: MakeToken
) -> None:
    async with (
        peers.join(server.url, token("bot"), auto_subscribe=False) as owner,
        peers.join(server.url, token("ben")) as ben,
        peers.join(server.url, token("amy")) as amy,
    ):
        await ben.publish()
        async with attach_room(owner.room, publish=False) as session:
            await session.receive()
            await ben.unpublish()
            await until(lambda: not subscribed(owner.room))
            under_way: list[str] = []
            owner.room.on("track_published", lambda track: under_way.append(track.sid))
            await amy.publish()
            await until(lambda: under_way)
            await anyio.sleep(OWNERS_PATIENCE + 0.005)
        with anyio.fail_after(DEADLINE):
            while subscribed(owner.room):
                await anyio.sleep(0.02)
        await anyio.sleep(0.5)
        assert not subscribed(owner.room)


async def test_an_owner_who_reads_recordings_is_not_robbed_of_them(
    server: Server, token: MakeToken
) -> None:
    async with peers.join(server.url, token("bot")) as owner:
        owner.room.register_byte_stream_handler(TOPIC, lambda *_: None)
        mine = handlers(owner.room)
        with pytest.raises(ConfigError, match="preconnect"):
            async with attach_room(owner.room, pre_connect_audio=True):
                pass
        assert handlers(owner.room) == mine


async def test_who_may_not_publish_only_receives(server: Server, token: MakeToken) -> None:
    async with (
        peers.join(server.url, token("bot", can_publish=False)) as owner,
        attach_room(owner.room) as session,
    ):
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.send(AudioFrame(bytes(640), 16000))


@pytest.mark.once
async def test_cancelled_anywhere_it_leaves_no_trace(server: Server, token: MakeToken) -> None:
    async with (
        peers.join(server.url, token("bot"), auto_subscribe=False) as owner,
        peers.join(server.url, token("ben")) as ben,
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
            with anyio.fail_after(DEADLINE):
                while bot.track_publications or subscribed(owner.room):
                    await anyio.sleep(0.02)

        assert await cancel_everywhere(run, check) > 5
