"""Reconnects: a conversation through a killed, paused or restarted server.

These tests break a server and mostly wait, so several run at once. They check whether audio is
received, not its quality.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time

import anyio
import pytest
from livekit import rtc
from support.audio import (
    frames_of_tone,
    measure,
    receive_until_silent,
    samples_of,
    send_frames,
    tone,
)
from support.conversation import (
    RESUME_LIMIT,
    SDK_RECONNECT_LIMIT,
    conversation,
    request_server_leave,
)
from support.livekit_server import OwnServer, Server
from support.marks import measures_network_audio
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory, mint_token
from support.waiting import DEADLINE

from beluga_livekit import AudioFrame, DisconnectReason, open_livekit
from beluga_livekit._lifecycle import RESUME_TIMEOUT
from beluga_livekit._sdk.rtc import CLOSE_TIMEOUT
from beluga_livekit.events import (
    ParticipantLeft,
    Reconnected,
    Reconnecting,
    Rejoined,
    TrackPublished,
)

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


@pytest.mark.parametrize("seconds", [45, 1, 10])
@measures_network_audio
async def test_conversation_survives_killed_server(
    own_server: OwnServer, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: after a short outage the SDK reconnects; after 45 s the session rejoins."""
    caplog.set_level(logging.INFO)
    async with conversation(own_server, "room") as both:
        rooms = [session.room for session in both.sessions]
        own_server.kill()
        await anyio.sleep(seconds)  # The outage.
        await anyio.to_thread.run_sync(own_server.start)
        await both.wait_until_audio_flows(time.monotonic(), RESUME_LIMIT)
        rejoined = seconds > SDK_RECONNECT_LIMIT
        for session, room in zip(both.sessions, rooms, strict=True):
            assert (session.room is not room) is rejoined
            assert session.disconnect_reason is None
    assert "'ann' in 'room': connection lost; reconnecting" in caplog.text
    kinds = [type(event) for event in both.recorder.events]
    assert kinds.count(Reconnecting) == 1
    assert kinds.count(Rejoined if rejoined else Reconnected) == 1
    assert ParticipantLeft not in kinds
    assert TrackPublished in kinds[kinds.index(Reconnecting) :]
    if rejoined:  # The SDK's own reconnect may report tracks before its end.
        assert TrackPublished not in kinds[kinds.index(Reconnecting) : kinds.index(Rejoined)]
    how = "rejoined" if rejoined else "reconnected"
    assert f"'ann' in 'room': {how} after " in caplog.text


@pytest.mark.parametrize("kind", ["SIMULATE_FULL_RECONNECT", "SIMULATE_SERVER_LEAVE"])
@measures_network_audio
async def test_audio_sent_while_reconnecting_is_received_afterwards(
    server: Server, token: TokenFactory, kind: str
) -> None:
    """Contract: frames wait while media is down, and until a subscriber is back."""
    async with (
        open_livekit(server.url, token("ann")) as ann,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        await send_frames(ann.tx, frames_of_tone(440, 0.2, 16000))
        await receive_until_silent(ben.rx)
        gone = anyio.Event()
        ann.room.on("reconnecting", gone.set)
        ann.room.on("disconnected", lambda _: gone.set())
        await ann.room.simulate_scenario(rtc.SimulateScenarioKind.Value(kind))
        with anyio.fail_after(DEADLINE):
            await gone.wait()
        tasks.start_soon(send_frames, ann.tx, frames_of_tone(440, 1.0, 16000))
        # A jitter buffer that has just begun stretches it a little.
        assert measure(samples_of(await receive_until_silent(ben.rx)), 16000).duration >= 0.95


@pytest.mark.parametrize("seconds", [20, 1, 5])
@measures_network_audio
async def test_conversation_survives_paused_server(own_server: OwnServer, seconds: float) -> None:
    """Contract: a server stopped for up to 20 s loses no participant."""
    async with conversation(own_server, "room") as both:
        own_server.signal(signal.SIGSTOP)
        await anyio.sleep(seconds)  # The outage.
        own_server.signal(signal.SIGCONT)
        await anyio.sleep(1)  # Audio that was on its way has arrived.
        await both.wait_until_audio_flows(time.monotonic(), RESUME_LIMIT)


@pytest.mark.parametrize(
    "kind",
    [
        "SIMULATE_SIGNAL_RECONNECT",
        "SIMULATE_FULL_RECONNECT",
        "SIMULATE_DISCONNECT_SIGNAL_ON_RESUME",
        "SIMULATE_NODE_FAILURE",
        "SIMULATE_MIGRATION",
        "SIMULATE_SERVER_LEAVE",
    ],
)
@measures_network_audio
async def test_conversation_survives_simulated_failure(
    server: Server, room_name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: every scenario of the SDK keeps both participants and their streams."""
    async with conversation(server, room_name) as both:
        ann, _ = both.sessions
        gone = anyio.Event()
        for event in ("reconnecting", "disconnected"):
            ann.room.on(event, lambda *_: gone.set())
        before = ann.room
        await before.simulate_scenario(rtc.SimulateScenarioKind.Value(kind))
        with anyio.fail_after(DEADLINE):
            await gone.wait()
        await anyio.sleep(0.5)  # Audio that was on its way has arrived.
        await both.wait_until_audio_flows(time.monotonic())
        assert (ann.room is before) is (kind != "SIMULATE_SERVER_LEAVE")
        assert ParticipantLeft not in map(type, both.recorder.events)
    assert "nobody has subscribed" not in caplog.text  # Each has a subscriber.


@measures_network_audio
async def test_conversation_survives_server_shutdown(own_server: OwnServer) -> None:
    """Contract: an orderly shutdown is survived as a crash is."""
    async with conversation(own_server, "room") as both:
        own_server.signal(signal.SIGTERM)  # The first signal waits for the participants to leave.
        own_server.signal(signal.SIGTERM)
        await anyio.sleep(1)  # The shutdown proceeds.
        own_server.kill()
        await anyio.to_thread.run_sync(own_server.start)
        await both.wait_until_audio_flows(time.monotonic(), RESUME_LIMIT)


@pytest.mark.parametrize("milliseconds", [0, 50, 100, 150])
async def test_leaving_while_reconnecting_leaves_no_participant(
    server: Server, token: TokenFactory, admin: RoomAdmin, milliseconds: int
) -> None:
    """SDK quirk: a reconnect under way would land after the exit; the server notices after 17 s."""
    async with open_livekit(server.url, token("bot")) as session:
        gone = anyio.Event()
        session.room.on("reconnecting", gone.set)
        kind = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
        await session.room.simulate_scenario(kind)
        await gone.wait()
        await anyio.sleep(milliseconds / 1000)  # The reconnect proceeds.
    await anyio.sleep(0.5)  # A participant would appear now; the server removes it after 17 s.
    assert await admin.identities() == set()


async def test_drain_ends_when_connection_is_lost(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a drain is no longer than it can still succeed, and the log says so."""
    async with open_livekit(
        own_server.url,
        mint_token(own_server, "room", "bot"),
        subscription_timeout=0,
        drain_timeout=60,
    ) as session:
        await session.send(AudioFrame.from_samples(tone(440, 50.0, 16000), 16000))
        start = time.monotonic()
        asyncio.get_running_loop().call_later(0.5, own_server.kill)
    assert time.monotonic() - start < 30
    assert "drain failed: the connection is lost" in caplog.text


@measures_network_audio
async def test_drain_that_begins_while_reconnecting_is_played(
    server: Server, token: TokenFactory
) -> None:
    """Contract: a drain waits for a reconnect, also if that began before it."""
    async with open_livekit(server.url, token("ben")) as ben:
        async with open_livekit(server.url, token("ann")) as ann:
            await send_frames(ann.tx, frames_of_tone(440, 0.2, 16000))
            await receive_until_silent(ben.rx)
            gone = anyio.Event()
            ann.room.on("reconnecting", gone.set)
            kind = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
            await ann.room.simulate_scenario(kind)
            with anyio.fail_after(DEADLINE):
                await gone.wait()
                await ann.send(AudioFrame.from_samples(tone(440, 1.0, 16000), 16000))
        received = samples_of(await receive_until_silent(ben.rx))
        assert measure(received, 16000).duration >= 0.9


@pytest.mark.parametrize("when", ["reconnecting", "rejoining"])
@pytest.mark.parametrize("how", ["left", "cancelled", "failed"])
async def test_exit_is_quick_without_connection(own_server: OwnServer, when: str, how: str) -> None:
    """Contract: an exit while reconnecting or rejoining waits for no answer of the server.

    A drain waits for `RESUME_TIMEOUT`.
    """
    start = 0.0
    with anyio.CancelScope() as scope:
        try:
            async with open_livekit(
                own_server.url,
                mint_token(own_server, "room", "bot"),
                subscription_timeout=0,
                drain_timeout=60,
            ) as session:
                gone = anyio.Event()
                event = "reconnecting" if when == "reconnecting" else "disconnected"
                session.room.on(event, lambda *_: gone.set())  # type: ignore[arg-type]
                with anyio.fail_after(DEADLINE):
                    if when == "rejoining":
                        await request_server_leave(session)
                        await gone.wait()
                    own_server.kill()
                    await gone.wait()
                with anyio.move_on_after(1):  # The pump holds it without a connection.
                    await session.send(AudioFrame.from_samples(tone(440, 10.0, 16000), 16000))
                start = time.monotonic()
                if how == "cancelled":
                    scope.cancel()
                    await anyio.sleep_forever()
                if how == "failed":
                    1 / 0  # noqa: B018
        except ZeroDivisionError:
            assert how == "failed"
    limit = CLOSE_TIMEOUT + (RESUME_TIMEOUT if how == "left" else 0.0)
    assert time.monotonic() - start < limit  # No answer of the server was awaited.
    assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED
