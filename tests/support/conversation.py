"""Two sessions that send and receive all the time, through whatever happens to the server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import attrs
from livekit import rtc

from beluga_livekit import AudioFrame, LiveKitSession, ParticipantStream, open_livekit
from beluga_livekit.events import RoomEvent
from support.audio import is_loud, tone
from support.conversation import GIVES_UP, RECEIVED_AGAIN
from support.livekit_server import Server
from support.tokens import mint_token
from support.waiting import DEADLINE, wait_for


@attrs.define
class ReceiveMonitor:
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


async def send_tone_forever(session: LiveKitSession) -> None:
    tokens_of_which_second_is = tone(440, 1.0, 16000)
    while True:
        for at in range(0, 16000, 320):
            await session.tx.send(
                AudioFrame.from_samples(tokens_of_which_second_is[at : at + 320], 16000)
            )


Pair = tuple[LiveKitSession, LiveKitSession]


class Conversation:
    """Two sessions whose users talk and listen all the time."""

    def __init__(self, sessions: Pair) -> None:
        self.sessions = sessions
        self.ears = (ReceiveMonitor(), ReceiveMonitor())
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
async def conversation(server: Server, room_name: str) -> AsyncIterator[Conversation]:
    async with (
        open_livekit(server.url, mint_token(server, room_name, "ann")) as ann,
        open_livekit(server.url, mint_token(server, room_name, "ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        both = Conversation((ann, ben))
        for session, ear in zip(both.sessions, both.ears, strict=True):
            tasks.start_soon(send_tone_forever, session)
            tasks.start_soon(ear.listen, session)
            tasks.start_soon(session.for_each_participant, both.each)
        tasks.start_soon(both.watch, ann)
        await both.goes_on(time.monotonic())
        yield both
        # Whatever has happened, it was one and the same stream for each of them.
        assert sorted(both.streams) == ["ann began", "ben began"]
        for ear in both.ears:
            with anyio.move_on_after(2):  # a busy machine may be about to deliver some of it
                await wait_for(ear.is_continuous)
            assert ear.is_continuous()
        tasks.cancel_scope.cancel()


async def leave_room(session: LiveKitSession) -> None:
    """The server sends somebody away, with a reason for which it may be asked again."""
    kind = rtc.SimulateScenarioKind.Value("SIMULATE_SERVER_LEAVE")
    await session.room.simulate_scenario(kind)


async def rejoined(session: LiveKitSession, first: rtc.Room) -> None:
    """Waits until a session is in another room than this."""
    with anyio.fail_after(DEADLINE):
        while session.room is first:
            await anyio.sleep(0.02)


# The SDK tries to reconnect by itself for 20 to 30 s, with pauses of up to 7 s; ours, when we join
# anew, are shorter.
GIVES_UP = 40.0


RECEIVED_AGAIN = 10.0 + 7.0
