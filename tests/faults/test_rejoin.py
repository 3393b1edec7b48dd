"""Rejoins: fresh token, backoff, kept state, and their end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from livekit import rtc
from support.audio import receive_until_end
from support.conversation import (
    SDK_RECONNECT_LIMIT,
    ReceiveMonitor,
    request_server_leave,
    send_tone_forever,
    wait_until_rejoined,
)
from support.livekit_server import OwnServer, Server
from support.raw_participant import join_raw, subscribed_sids
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory, mint_token
from support.waiting import DEADLINE, wait_for

from beluga_livekit import (
    AudioFrame,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    open_livekit,
)
from beluga_livekit._sdk import rtc as _sdk_rtc
from beluga_livekit.events import TrackMuted

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


async def test_rejoin_mints_fresh_token_after_backoff(
    server: Server, room_name: str, admin: RoomAdmin
) -> None:
    """Contract: each attempt mints a token; a failure backs off; `on_room` gets the new room."""
    asked: list[str] = []
    shown: list[rtc.Room] = []

    async def token() -> str:
        asked.append(mint_token(server, room_name, "bot"))
        if len(asked) == 2:
            raise OSError("the token service cannot be reached")
        return asked[-1]

    async with open_livekit(server.url, token, room=room_name, on_room=shown.append) as session:
        first = session.room
        await request_server_leave(session)
        await wait_until_rejoined(session, first)
        assert session.disconnect_reason is None
        assert await admin.identities() == {"bot"}
    assert len(asked) == 3
    assert len(set(map(id, shown))) == 2
    assert shown[-1] is session.room
    assert await admin.identities() == set()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda server, room_name: mint_token(server, room_name, "bot", ttl=2.0),
            "the token has expired",
        ),
        (
            lambda server, room_name: token_source(server, room_name, other=True),
            "for room 'other', not for",
        ),
        (
            lambda server, room_name: token_source(server, room_name, secret="x" * 32),
            "refused the token: .*401",
        ),
    ],
    ids=["expired", "another room", "refused"],
)
async def test_rejoin_fails_when_token_is_rejected(
    server: Server,
    room_name: str,
    make: Callable[[Server, str], str | Callable[[], Awaitable[str]]],
    message: str,
) -> None:
    """Contract: a token that cannot be used ends the session with both reasons."""
    with pytest.raises(
        DisconnectedError, match=f"server_shutdown .*rejoining failed: .*{message}"
    ) as caught:
        async with open_livekit(server.url, make(server, room_name)) as session:
            await anyio.sleep(2.5)  # A token with a `ttl` of 2 s expires.
            await request_server_leave(session)
            await receive_until_end(session)
            await session.send(AudioFrame(bytes(640), 16000))
    assert caught.value.reason is DisconnectReason.SERVER_SHUTDOWN
    assert "eyJ" not in str(caught.value)


def token_source(
    server: Server, room_name: str, *, other: bool = False, secret: str = ""
) -> Callable[[], str]:
    """Return a token source whose first token is valid."""
    tokens = iter(
        [
            mint_token(server, room_name, "bot"),
            mint_token(server, "other" if other else room_name, "bot", secret=secret),
        ]
    )
    return lambda: next(tokens)


@pytest.mark.parametrize("by", ["us", "the server"])
async def test_mute_is_kept_through_rejoin(
    server: Server, token: TokenFactory, admin: RoomAdmin, by: str
) -> None:
    """Contract: a mute by the server before, or by us during a rejoin, holds in the new room."""
    async with (
        join_raw(server.url, token("peer")) as peer,
        open_livekit(server.url, token("bot")) as session,
    ):
        first = session.room
        old = set(first.local_participant.track_publications)
        if by == "the server":
            async with session.events() as events:
                with anyio.fail_after(DEADLINE):
                    await admin.mute("bot")
                    async for event in events:
                        if isinstance(event, TrackMuted):
                            break
        await request_server_leave(session)
        await wait_until_rejoined(session, first)
        if by == "us":
            session.mute()

        def new_track_is_muted() -> bool:
            bot = peer.room.remote_participants.get("bot")
            tracks = dict(bot.track_publications) if bot is not None else {}
            return any(track.muted for sid, track in tracks.items() if sid not in old)

        await wait_for(new_track_is_muted)


async def test_rejoin_timeout_zero_disables_rejoin(server: Server, room_name: str) -> None:
    """Contract: `rejoin_timeout=0` ends the session with the first disconnect."""
    with pytest.raises(DisconnectedError, match=r"disconnected: server_shutdown$"):
        async with open_livekit(
            server.url, mint_token(server, room_name, "bot"), rejoin_timeout=0
        ) as session:
            await request_server_leave(session)
            await receive_until_end(session)


@pytest.mark.parametrize("rejoin_timeout", [0.0, 5.0])
async def test_lost_server_raises_one_error_when_backoff_reaches_rejoin_timeout(
    own_server: OwnServer, rejoin_timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: rx ends, sends raise one DisconnectedError, and the log has one line."""
    with pytest.raises(DisconnectedError) as caught:
        async with open_livekit(
            own_server.url,
            mint_token(own_server, "room", "bot"),
            subscription_timeout=0,
            rejoin_timeout=rejoin_timeout,
        ) as session:
            await session.send(AudioFrame(bytes(640), 16000))
            own_server.kill()
            start = time.monotonic()
            await receive_until_end(session, SDK_RECONNECT_LIMIT + rejoin_timeout)
            while True:
                await session.send(AudioFrame(bytes(640), 16000))
    assert time.monotonic() - start < SDK_RECONNECT_LIMIT + rejoin_timeout
    assert caught.value.reason is session.disconnect_reason
    assert not caught.value.reason.is_hangup
    if rejoin_timeout:
        assert "rejoining failed: not within 5 s: joining ws://127.0.0.1:" in str(caught.value)
    assert [
        record
        for record in caplog.records
        if "'bot' in 'room': connection failed: " in record.message
    ]


async def test_closed_tx_stays_closed_after_rejoin(
    server: Server, room_name: str, token: TokenFactory
) -> None:
    """Contract: a rejoin publishes no track for a closed tx."""
    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        await bot.tx.aclose()
        monitor = ReceiveMonitor()
        tasks.start_soon(monitor.run, bot)
        tasks.start_soon(send_tone_forever, ben)
        first = bot.room
        await request_server_leave(bot)
        await wait_until_rejoined(bot, first)
        await monitor.wait_for_audio("ben", time.monotonic())
        assert not bot.room.local_participant.track_publications
        tasks.cancel_scope.cancel()


async def test_closed_rx_stays_closed_after_rejoin(
    server: Server, room_name: str, token: TokenFactory
) -> None:
    """Contract: a rejoin subscribes to nothing for a closed rx."""
    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send_tone_forever, ben)
        await bot.rx.receive()
        await bot.rx.aclose()
        first, monitor = bot.room, ReceiveMonitor()
        await request_server_leave(bot)
        tasks.start_soon(monitor.run, ben)
        tasks.start_soon(send_tone_forever, bot)
        await wait_until_rejoined(bot, first)
        await monitor.wait_for_audio("bot", time.monotonic())
        assert not subscribed_sids(bot.room)
        tasks.cancel_scope.cancel()


async def test_streams_closed_while_rejoining_stay_closed(
    server: Server, token: TokenFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract: streams closed during a rejoin are closed after it."""
    joining, go_on = anyio.Event(), anyio.Event()
    publish = _sdk_rtc.publish

    async def late(*args: Any) -> rtc.LocalTrackPublication:
        joining.set()
        await go_on.wait()
        return await publish(*args)

    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ben")),
    ):
        first = bot.room
        monkeypatch.setattr(_sdk_rtc, "publish", late)
        await request_server_leave(bot)
        with anyio.fail_after(DEADLINE):
            await joining.wait()
            await bot.rx.aclose()
            await bot.tx.aclose()
            await anyio.sleep(0.2)  # The closes take effect during the rejoin.
            go_on.set()
            await wait_until_rejoined(bot, first)
            await anyio.sleep(0.3)  # A track would be published now.
        assert not bot.room.local_participant.track_publications
        assert not subscribed_sids(bot.room)


async def test_session_only_receives_after_rejoin_without_permission(
    server: Server, room_name: str, token: TokenFactory
) -> None:
    """Contract: a fresh token without the grant makes tx raise."""
    tokens = iter([token("bot"), token("bot", can_publish=False)])
    async with open_livekit(server.url, lambda: next(tokens), subscription_timeout=0) as bot:
        first, gone = bot.room, anyio.Event()
        first.on("disconnected", lambda _: gone.set())
        await request_server_leave(bot)
        with anyio.fail_after(DEADLINE):
            await gone.wait()
            await wait_until_rejoined(bot, first)
            with pytest.raises(anyio.ClosedResourceError, match="only receives"):
                while True:
                    await bot.send(AudioFrame(bytes(640), 16000))


async def test_join_fails_cleanly_when_room_is_deleted_meanwhile(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """SDK quirk: publishing in a room that has ended is never answered."""

    async def delete_when_connected() -> None:
        await wait_for(lambda: admin.identities(connected=True), poll=0.001)
        await admin.delete_room()

    for _ in range(6):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete_when_connected)
            with anyio.fail_after(DEADLINE):
                try:
                    async with open_livekit(server.url, token("bot"), connect_timeout=60) as bot:
                        await receive_until_end(bot)
                    reason = str(bot.disconnect_reason)
                except ConnectError as error:
                    assert not error.retryable  # noqa: PT017 - either may happen
                    reason = str(error).rpartition(" ")[2]
            assert reason in ("room_deleted", "participant_removed")
