"""What a session survives, and how it says so where it does not.

These tests break a server of their own and wait, mostly, so several run at once: what they ask is
whether somebody is heard, and not how well.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import numpy as np
import pytest
from conftest import Admin, MakeToken, mint
from livekit import rtc
from support import livekit_server, peers
from support.audio import DEADLINE, LOUD, cut, ended, hear, is_loud, measure, samples_of, say, tone
from support.livekit_server import OwnServer, Server
from support.peers import subscribed
from support.rooms import until

from beluga_livekit import (
    AudioFrame,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitSession,
    ParticipantStream,
    open_livekit,
)
from beluga_livekit._sdk import rtc as _sdk_rtc
from beluga_livekit._sdk.rtc import CLOSE_TIMEOUT
from beluga_livekit.events import (
    ParticipantLeft,
    Reconnected,
    Reconnecting,
    Rejoined,
    RoomEvent,
    TrackMuted,
    TrackPublished,
)

# As in test_room.py: six at once talk and listen in real time.
pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.flaky(reruns=2)]

# The SDK tries to reconnect by itself for 20 to 30 s, with pauses of up to 7 s; ours, when we join
# anew, are shorter.
GIVES_UP = 40.0
HEARD_AGAIN = 10.0 + 7.0


@pytest.fixture
def mortal() -> Iterator[OwnServer]:
    """A server for this test alone."""
    with livekit_server.own() as running:
        yield running


@attrs.define
class Ear:
    """Hears a session's rx all the time, as a program does."""

    heard_at: dict[str | None, float] = attrs.field(factory=dict)  # when each was last loud
    began: float | None = None
    seconds: float = 0.0

    async def listen(self, session: LiveKitSession) -> None:
        async for frame in session.rx:
            now = time.monotonic()
            if self.began is None:
                self.began = now - frame.duration
            self.seconds += frame.lost + frame.duration
            if is_loud(frame):
                self.heard_at[frame.participant] = now

    async def hears(self, who: str, since: float, within: float = DEADLINE) -> None:
        with anyio.fail_after(within):
            while self.heard_at.get(who, 0.0) <= since:
                await anyio.sleep(0.02)

    def is_continuous(self) -> bool:
        """Whether as much was heard as time has passed: nothing missing untold, nothing doubled."""
        assert self.began is not None
        return abs(time.monotonic() - self.began - self.seconds) < 0.5


async def talk(session: LiveKitSession) -> None:
    second = tone(440, 1.0, 16000)
    while True:
        for at in range(0, 16000, 320):
            await session.tx.send(AudioFrame.from_samples(second[at : at + 320], 16000))


Pair = tuple[LiveKitSession, LiveKitSession]


class Conversation:
    """Two sessions whose users talk and listen all the time."""

    def __init__(self, sessions: Pair) -> None:
        self.sessions = sessions
        self.ears = (Ear(), Ear())
        self.streams: list[str] = []  # whose have begun, and ended
        self.events: list[RoomEvent] = []  # that the first one is told

    async def each(self, stream: ParticipantStream) -> None:
        who = stream.participant.identity
        self.streams.append(f"{who} began")
        async for _ in stream:
            pass
        self.streams.append(f"{who} ended")

    async def watch(self, session: LiveKitSession) -> None:
        async with session.events() as events:
            async for event in events:
                self.events.append(event)

    async def goes_on(self, since: float, within: float = DEADLINE) -> None:
        """Waits until both have heard each other after this moment."""
        async with anyio.create_task_group() as tasks:
            for ear, who in zip(self.ears, ("ben", "ann"), strict=True):
                tasks.start_soon(ear.hears, who, since, within)


@asynccontextmanager
async def conversation(server: Server, room: str) -> AsyncIterator[Conversation]:
    async with (
        open_livekit(server.url, mint(server, room, "ann")) as ann,
        open_livekit(server.url, mint(server, room, "ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        both = Conversation((ann, ben))
        for session, ear in zip(both.sessions, both.ears, strict=True):
            tasks.start_soon(talk, session)
            tasks.start_soon(ear.listen, session)
            tasks.start_soon(session.for_each_participant, both.each)
        tasks.start_soon(both.watch, ann)
        await both.goes_on(time.monotonic())
        yield both
        # Whatever has happened, it was one and the same stream for each of them.
        assert sorted(both.streams) == ["ann began", "ben began"]
        for ear in both.ears:
            with anyio.move_on_after(2):  # a busy machine may be about to deliver some of it
                await until(ear.is_continuous)
            assert ear.is_continuous()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("seconds", [45, 1, 10])
async def test_a_killed_server_that_comes_back(
    mortal: OwnServer, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with conversation(mortal, "room") as both:
        rooms = [session.room for session in both.sessions]
        mortal.kill()
        await anyio.sleep(seconds)
        await anyio.to_thread.run_sync(mortal.start)
        await both.goes_on(time.monotonic(), HEARD_AGAIN)
        rejoined = seconds > GIVES_UP
        for session, room in zip(both.sessions, rooms, strict=True):
            assert (session.room is not room) is rejoined
            assert session.disconnect_reason is None
    assert "'ann' in 'room': connection lost, reconnecting" in caplog.text
    kinds = [type(event) for event in both.events]
    assert kinds.count(Reconnecting) == 1
    assert kinds.count(Rejoined if rejoined else Reconnected) == 1
    assert ParticipantLeft not in kinds
    assert TrackPublished in kinds[kinds.index(Reconnecting) :]
    if rejoined:  # a room that is new; the SDK's own reconnect may find tracks before it says so
        assert TrackPublished not in kinds[kinds.index(Reconnecting) : kinds.index(Rejoined)]
    how = "rejoined" if rejoined else "reconnected"
    assert f"'ann' in 'room': {how} after " in caplog.text


@pytest.mark.parametrize("kind", ["SIMULATE_FULL_RECONNECT", "SIMULATE_SERVER_LEAVE"])
async def test_what_is_said_without_a_connection_is_heard_when_it_is_back(
    server: Server, token: MakeToken, kind: str
) -> None:
    """From its first word on: nobody has subscribed yet when the speaker is back."""
    async with (
        open_livekit(server.url, token("ann")) as ann,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        await say(ann.tx, cut(tone(440, 0.2, 16000), 16000))
        await hear(ben.rx)
        gone = anyio.Event()
        ann.room.on("reconnecting", gone.set)
        ann.room.on("disconnected", lambda _: gone.set())
        await ann.room.simulate_scenario(rtc.SimulateScenarioKind.Value(kind))
        with anyio.fail_after(DEADLINE):
            await gone.wait()
        tasks.start_soon(say, ann.tx, cut(tone(440, 1.0, 16000), 16000))
        # A jitter buffer that has just begun stretches it a little.
        assert measure(samples_of(await hear(ben.rx)), 16000).duration >= 0.95


async def test_a_room_that_is_deleted_while_it_is_joined(
    server: Server, token: MakeToken, admin: Admin
) -> None:
    """The SDK never answers who publishes in a room that has ended."""

    async def delete_when_somebody_is_there() -> None:
        while not await admin.identities(connected=True):
            await anyio.sleep(0.001)
        await admin.delete_room()

    for _ in range(6):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete_when_somebody_is_there)
            with anyio.fail_after(DEADLINE):
                try:
                    async with open_livekit(server.url, token("bot"), connect_timeout=60) as bot:
                        await ended(bot)
                    reason = str(bot.disconnect_reason)
                except ConnectError as error:
                    assert not error.retryable  # noqa: PT017 - either may happen
                    reason = str(error).rpartition(" ")[2]
            assert reason in ("room_deleted", "participant_removed")


@pytest.mark.parametrize("seconds", [20, 1, 5])
async def test_a_server_that_hangs_and_goes_on(mortal: OwnServer, seconds: float) -> None:
    async with conversation(mortal, "room") as both:
        mortal.signal(signal.SIGSTOP)
        await anyio.sleep(seconds)
        mortal.signal(signal.SIGCONT)
        await anyio.sleep(1)  # what was under way has been heard
        await both.goes_on(time.monotonic(), HEARD_AGAIN)


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
async def test_whatever_can_be_simulated(
    server: Server, room: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with conversation(server, room) as both:
        ann, _ = both.sessions
        gone = anyio.Event()
        for event in ("reconnecting", "disconnected"):
            ann.room.on(event, lambda *_: gone.set())
        before = ann.room
        await before.simulate_scenario(rtc.SimulateScenarioKind.Value(kind))
        with anyio.fail_after(DEADLINE):
            await gone.wait()
        await anyio.sleep(0.5)  # what was under way has been heard
        await both.goes_on(time.monotonic())
        assert (ann.room is before) is (kind != "SIMULATE_SERVER_LEAVE")
        assert ParticipantLeft not in map(type, both.events)
    assert "nobody has subscribed" not in caplog.text  # each was told that the other listens


async def test_a_server_that_is_shut_down_and_comes_back(mortal: OwnServer) -> None:
    async with conversation(mortal, "room") as both:
        mortal.signal(signal.SIGTERM)  # a server with participants waits for them
        mortal.signal(signal.SIGTERM)
        await anyio.sleep(1)
        mortal.kill()
        await anyio.to_thread.run_sync(mortal.start)
        await both.goes_on(time.monotonic(), HEARD_AGAIN)


async def leave_room(session: LiveKitSession) -> None:
    """The server sends somebody away, with a reason for which it may be asked again."""
    kind = rtc.SimulateScenarioKind.Value("SIMULATE_SERVER_LEAVE")
    await session.room.simulate_scenario(kind)


async def rejoined(session: LiveKitSession, first: rtc.Room) -> None:
    """Waits until a session is in another room than this."""
    with anyio.fail_after(DEADLINE):
        while session.room is first:
            await anyio.sleep(0.02)


async def test_a_rejoin_asks_for_a_token_and_shows_the_room(
    server: Server, room: str, admin: Admin
) -> None:
    asked: list[str] = []
    shown: list[rtc.Room] = []

    async def token() -> str:
        asked.append(mint(server, room, "bot"))
        if len(asked) == 2:
            raise OSError("the token service cannot be reached")
        return asked[-1]

    async with open_livekit(server.url, token, room=room, on_room=shown.append) as session:
        first = session.room
        await leave_room(session)
        await rejoined(session, first)
        assert session.disconnect_reason is None
        assert await admin.identities() == {"bot"}
    assert len(asked) == 3
    assert len(set(map(id, shown))) == 2
    assert shown[-1] is session.room
    assert await admin.identities() == set()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda server, room: mint(server, room, "bot", ttl=2.0), "the token has expired"),
        (lambda server, room: second(server, room, other=True), "for room 'other', not for"),
        (lambda server, room: second(server, room, secret="x" * 32), "refused the token: .*401"),
    ],
    ids=["expired", "another room", "refused"],
)
async def test_a_token_with_which_nobody_can_rejoin(
    server: Server,
    room: str,
    make: Callable[[Server, str], str | Callable[[], Awaitable[str]]],
    message: str,
) -> None:
    with pytest.raises(DisconnectedError, match=f"server_shutdown .*rejoin: .*{message}") as caught:
        async with open_livekit(server.url, make(server, room)) as session:
            await anyio.sleep(2.5)
            await leave_room(session)
            await ended(session)
            await session.send(AudioFrame(bytes(640), 16000))
    assert caught.value.reason is DisconnectReason.SERVER_SHUTDOWN
    assert "eyJ" not in str(caught.value)


def second(
    server: Server, room: str, *, other: bool = False, secret: str = ""
) -> Callable[[], str]:
    """A callable whose first token is good."""
    tokens = iter(
        [mint(server, room, "bot"), mint(server, "other" if other else room, "bot", secret=secret)]
    )
    return lambda: next(tokens)


@pytest.mark.parametrize("by", ["us", "the server"])
async def test_a_mute_before_or_during_a_rejoin_is_one_after_it(
    server: Server, token: MakeToken, admin: Admin, by: str
) -> None:
    async with (
        peers.join(server.url, token("peer")) as peer,
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
        await leave_room(session)
        await rejoined(session, first)
        if by == "us":
            session.mute()
        bot: dict[str, rtc.RemoteTrackPublication] = {}
        with anyio.fail_after(DEADLINE):
            while not any(track.muted for sid, track in bot.items() if sid not in old):
                await anyio.sleep(0.01)
                if (there := peer.room.remote_participants.get("bot")) is not None:
                    bot = dict(there.track_publications)


async def test_a_rejoin_can_be_turned_off(server: Server, room: str) -> None:
    with pytest.raises(DisconnectedError, match=r"disconnected: server_shutdown$"):
        async with open_livekit(server.url, mint(server, room, "bot"), rejoin_timeout=0) as session:
            await leave_room(session)
            await ended(session)


@pytest.mark.parametrize("rejoin_timeout", [0.0, 5.0])
async def test_a_server_lost_for_good_is_one_error(
    mortal: OwnServer, rejoin_timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DisconnectedError) as caught:
        async with open_livekit(
            mortal.url,
            mint(mortal, "room", "bot"),
            subscription_timeout=0,
            rejoin_timeout=rejoin_timeout,
        ) as session:
            await session.send(AudioFrame(bytes(640), 16000))
            mortal.kill()
            start = time.monotonic()
            await ended(session, GIVES_UP + rejoin_timeout)
            while True:
                await session.send(AudioFrame(bytes(640), 16000))
    assert time.monotonic() - start < GIVES_UP + rejoin_timeout
    assert caught.value.reason is session.disconnect_reason
    assert not caught.value.reason.is_hangup
    if rejoin_timeout:
        assert "could not rejoin within 5 s: joining ws://127.0.0.1:" in str(caught.value)
    assert [record for record in caplog.records if "'bot' in 'room': lost: " in record.message]


@pytest.mark.parametrize("milliseconds", [0, 50, 100, 150])
async def test_leaving_in_the_middle_of_a_reconnect_leaves_nobody_behind(
    server: Server, token: MakeToken, admin: Admin, milliseconds: int
) -> None:
    async with open_livekit(server.url, token("bot")) as session:
        gone = anyio.Event()
        session.room.on("reconnecting", gone.set)
        kind = rtc.SimulateScenarioKind.Value("SIMULATE_FULL_RECONNECT")
        await session.room.simulate_scenario(kind)
        await gone.wait()
        await anyio.sleep(milliseconds / 1000)
    await anyio.sleep(0.5)  # for what might come; the server notices only after 17 s
    assert await admin.identities() == set()


async def test_playing_out_ends_with_the_connection(
    mortal: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_livekit(
        mortal.url, mint(mortal, "room", "bot"), subscription_timeout=0, drain_timeout=60
    ) as session:
        await session.send(AudioFrame.from_samples(tone(440, 50.0, 16000), 16000))
        start = time.monotonic()
        asyncio.get_running_loop().call_later(0.5, mortal.kill)
    assert time.monotonic() - start < 30
    assert "left with sound unplayed: there is no connection" in caplog.text


@pytest.mark.parametrize("when", ["reconnecting", "rejoining"])
@pytest.mark.parametrize("how", ["left", "cancelled", "failed"])
async def test_leaving_without_a_connection_is_quick(
    mortal: OwnServer, when: str, how: str
) -> None:
    start = 0.0
    with anyio.CancelScope() as scope:
        try:
            async with open_livekit(
                mortal.url, mint(mortal, "room", "bot"), subscription_timeout=0, drain_timeout=60
            ) as session:
                gone = anyio.Event()
                event = "reconnecting" if when == "reconnecting" else "disconnected"
                session.room.on(event, lambda *_: gone.set())  # type: ignore[arg-type]
                with anyio.fail_after(DEADLINE):
                    if when == "rejoining":
                        await leave_room(session)
                        await gone.wait()
                    mortal.kill()
                    await gone.wait()
                with anyio.move_on_after(1):  # the pump holds it, as there is no connection
                    await session.send(AudioFrame.from_samples(tone(440, 10.0, 16000), 16000))
                start = time.monotonic()
                if how == "cancelled":
                    scope.cancel()
                    await anyio.sleep_forever()
                if how == "failed":
                    1 / 0  # noqa: B018
        except ZeroDivisionError:
            assert how == "failed"
    assert time.monotonic() - start < CLOSE_TIMEOUT  # nobody's answer was waited for
    assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED


async def test_a_closed_tx_stays_closed_after_a_rejoin(
    server: Server, room: str, token: MakeToken
) -> None:
    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        await bot.tx.aclose()
        ear = Ear()
        tasks.start_soon(ear.listen, bot)
        tasks.start_soon(talk, ben)
        first = bot.room
        await leave_room(bot)
        await rejoined(bot, first)
        await ear.hears("ben", time.monotonic())
        assert not bot.room.local_participant.track_publications
        tasks.cancel_scope.cancel()


async def test_what_is_closed_during_a_rejoin_is_closed_after_it(
    server: Server, token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        await leave_room(bot)
        with anyio.fail_after(DEADLINE):
            await joining.wait()
            await bot.rx.aclose()
            await bot.tx.aclose()
            await anyio.sleep(0.2)
            go_on.set()
            await rejoined(bot, first)
            await anyio.sleep(0.3)
        assert not bot.room.local_participant.track_publications
        assert not subscribed(bot.room)


async def test_a_rejoin_that_may_not_speak_any_more(
    server: Server, room: str, token: MakeToken
) -> None:
    tokens = iter([token("bot"), token("bot", can_publish=False)])
    async with open_livekit(server.url, lambda: next(tokens), subscription_timeout=0) as bot:
        first, gone = bot.room, anyio.Event()
        first.on("disconnected", lambda _: gone.set())
        await leave_room(bot)
        with anyio.fail_after(DEADLINE):
            await gone.wait()
            await bot.send(AudioFrame.from_samples(tone(440, 1.0, 16000), 16000))
            with pytest.raises(anyio.ClosedResourceError, match="only receives"):
                await bot.wait_for_playout()
            await rejoined(bot, first)
            with pytest.raises(anyio.ClosedResourceError, match="only receives"):
                while True:
                    await bot.send(AudioFrame(bytes(640), 16000))


async def test_a_closed_rx_stays_closed_after_a_rejoin(
    server: Server, room: str, token: MakeToken
) -> None:
    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(talk, ben)
        await bot.rx.receive()
        await bot.rx.aclose()
        first, ear = bot.room, Ear()
        await leave_room(bot)
        tasks.start_soon(ear.listen, ben)
        tasks.start_soon(talk, bot)
        await rejoined(bot, first)
        await ear.hears("bot", time.monotonic())
        assert not subscribed(bot.room)
        tasks.cancel_scope.cancel()


SPEAKER = """
import asyncio, sys
import numpy as np
from livekit import rtc

async def main(url, token):
    room = rtc.Room()
    heard = asyncio.Event()
    room.on("local_track_subscribed", lambda _: heard.set())
    await room.connect(url, token)
    source = rtc.AudioSource(48000, 1, queue_size_ms=200)
    track = rtc.LocalAudioTrack.create_audio_track("speaker", source)
    await room.local_participant.publish_track(track)
    await heard.wait()
    await asyncio.sleep(1)
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(5 * 48000) / 48000)
    for part in np.split(tone.astype(np.int16), 250):
        await source.capture_frame(rtc.AudioFrame(part.tobytes(), 48000, 1, len(part)))
    await asyncio.sleep(1)
    await room.disconnect()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_transcriber_that_is_blocked_for_3_s_gets_every_sample(
    server: Server, token: MakeToken
) -> None:
    """With the defaults: it is late, and catches up as fast as it can."""
    command = [sys.executable, "-c", SPEAKER, server.url, token("speaker")]
    async with (
        open_livekit(server.url, token("bot"), publish=False) as (rx, _),
        await anyio.open_process(command, stdout=None, stderr=None),
    ):
        frames: list[AudioFrame] = []
        with anyio.fail_after(DEADLINE):
            while not frames or np.abs(frames[-1].samples).max() < LOUD:
                frames.append(await rx.receive())
            time.sleep(3)  # noqa: ASYNC251 - as a model that does not yield
            frames += await hear(rx)
    assert sum(frame.lost for frame in frames) == 0
    assert measure(samples_of(frames), 16000).duration == pytest.approx(5.0, abs=0.04)
