"""Joining a room: tokens, hooks, failures."""

from __future__ import annotations

import asyncio
import logging
import time

import anyio
import pytest
from livekit import rtc
from support.livekit_server import Server
from support.raw_participant import join_raw
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_for

from beluga_livekit import AudioFrame, AuthenticationError, ConfigError, ConnectError, open_livekit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("sync", [True, False])
async def test_token_may_be_callable(server: Server, token: TokenFactory, sync: bool) -> None:
    """Contract: `token` may be a function or a coroutine function."""

    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        return token("bot")

    make = (lambda: token("bot")) if sync else later
    async with open_livekit(server.url, make) as session:
        assert session.room.local_participant.identity == "bot"


async def test_token_of_callable_is_validated(
    server: Server, token: TokenFactory, room_name: str
) -> None:
    """Contract: a returned token is checked as a given one."""
    for make, message in [
        (lambda: token("bot", ttl=-5), "expired"),
        (lambda: token("bot", room="other"), "for room 'other'"),
        (lambda: None, "returned NoneType"),
    ]:
        with pytest.raises(ConfigError, match=message):
            async with open_livekit(server.url, make, room=room_name):  # type: ignore[arg-type]
                pass


async def test_on_room_is_called_before_connect(server: Server, token: TokenFactory) -> None:
    """Contract: handlers registered in `on_room` miss no event."""
    received: list[bytes] = []

    def on_room(room: rtc.Room) -> None:
        assert not room.isconnected()
        room.on("data_received", lambda packet: received.append(packet.data))

    async with (
        open_livekit(server.url, token("bot"), on_room=on_room),
        join_raw(server.url, token("peer")) as peer,
    ):
        await peer.room.local_participant.publish_data(b"hello")
        await wait_for(lambda: received)
    assert received == [b"hello"]


async def test_error_in_on_room_leaves_nothing_open(server: Server, token: TokenFactory) -> None:
    """Contract: an error of `on_room` is raised unchanged."""
    with pytest.raises(ZeroDivisionError):
        async with open_livekit(server.url, token("bot"), on_room=lambda room: 1 / 0):
            pass


async def test_room_connected_in_handler_is_independent(
    server: Server, token: TokenFactory, room_name: str
) -> None:
    """Contract: a task started by a handler inherits nothing of the session's connect."""
    names: list[str] = []

    async def join_another(name: str) -> None:
        other = rtc.Room()
        await other.connect(server.url, token(name, room=name))
        names.append(other.name)
        await other.disconnect()

    def on_room(joined: rtc.Room) -> None:
        def on_data() -> None:
            for number in range(2):
                running.append(asyncio.ensure_future(join_another(f"{room_name}-{number}")))

        joined.on("data_received", on_data)

    running: list[asyncio.Future[None]] = []
    async with (
        open_livekit(server.url, token("bot"), on_room=on_room),
        join_raw(server.url, token("peer")) as peer,
    ):
        await peer.room.local_participant.publish_data(b"go")
        await wait_for(lambda: len(names) == 2)
    assert sorted(names) == [f"{room_name}-0", f"{room_name}-1"]


async def test_failed_connect_does_not_block_next_one(server: Server, token: TokenFactory) -> None:
    """SDK quirk: a wrong RtcConfiguration fails inside connect, before any request."""
    config = rtc.RtcConfiguration(ice_servers=["stun:host"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        async with open_livekit(server.url, token("bot"), rtc_config=config):
            pass
    async with open_livekit(server.url, token("bot")):
        pass


async def test_playback_starts_at_subscription_timeout(
    server: Server, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: without a subscriber, playback starts after this time, with a log line."""
    async with open_livekit(server.url, token("bot"), subscription_timeout=0.2) as session:
        with anyio.fail_after(DEADLINE):
            await session.send(AudioFrame(bytes(3200), 16000))
            await session.wait_for_playout()
        assert session.statistics().send.seconds >= 0.1
    assert "no participant has subscribed within 0.2 s" in caplog.text


async def test_join_failure_states_reason_in_one_line(
    server: Server, token: TokenFactory, room_name: str
) -> None:
    """Contract: error type, reason and `retryable`, within 10 s, without token or traceback."""
    port = server.url.rpartition(":")[2]
    good = token("bot")
    cases = [
        ("ws://127.0.0.1:1", good, ConnectError, "ws://127.0.0.1:1 failed: .*refused", True),
        ("ws://no-such-host.invalid", good, ConnectError, "no-such-host.invalid failed: ", True),
        (f"ws://127.0.0.1:{port}/nowhere", good, ConnectError, "/nowhere failed: .*404", False),
        (server.url, token("bot", secret="x" * 32), AuthenticationError, "401 .*token", False),
    ]
    for url, granted, error, message, retryable in cases:
        start = time.monotonic()
        with pytest.raises(error, match=message) as caught:
            async with open_livekit(url, granted):
                pass
        assert time.monotonic() - start < 10
        assert caught.value.retryable is retryable
        assert "\n" not in str(caught.value)
        assert granted not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


async def test_log_never_shows_token(
    server: Server, token: TokenFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: the SDK's log lines are scrubbed too."""
    caplog.set_level(logging.DEBUG)
    refused = token("bot", secret="x" * 32)
    with pytest.raises(AuthenticationError):
        async with open_livekit(server.url, refused):
            pass
    async with open_livekit(server.url, token("bot")):
        pass
    assert "'bot' in '" in caplog.text  # The package's line.
    assert "401 Unauthorized" in caplog.text  # The SDK's lines.
    assert "eyJ" not in caplog.text
