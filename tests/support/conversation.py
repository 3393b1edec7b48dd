"""Two sessions that send and receive all the time, through whatever happens to the server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import attrs
from livekit import rtc

from beluga_livekit import LiveKitSession, ParticipantStream, open_livekit
from support.audio import frames_of_tone, is_loud, send_frames
from support.events import EventRecorder
from support.livekit_server import Server
from support.tokens import mint_token
from support.waiting import DEADLINE, wait_for

# Limit of the SDK's own reconnect (s): it tries for 20 to 30 s, with pauses of up to 7 s.
SDK_RECONNECT_LIMIT = 40.0
# Limit for audio to flow after the server is back (s): one pause of the SDK's reconnect and 10 s.
# The pauses of a rejoin are shorter.
RESUME_LIMIT = 10.0 + 7.0


@attrs.define
class ReceiveMonitor:
    """Receives all the time, as a program does, and measures what arrives."""

    last_loud: dict[str | None, float] = attrs.field(factory=dict)  # By participant.
    began: float | None = None
    seconds: float = 0.0

    async def run(self, session: LiveKitSession) -> None:
        """Receive until rx ends."""
        async for frame in session.rx:
            now = time.monotonic()
            if self.began is None:
                self.began = now - frame.duration
            self.seconds += frame.lost + frame.duration
            if is_loud(frame):
                self.last_loud[frame.participant] = now

    async def wait_for_audio(
        self, participant: str, since: float, within: float = DEADLINE
    ) -> None:
        """Wait for loud audio of a participant that arrived after this moment."""
        await wait_for(lambda: self.last_loud.get(participant, 0.0) > since, within)

    def is_continuous(self) -> bool:
        """Return whether received and lost audio is as long as the time since the first frame."""
        assert self.began is not None
        return abs(time.monotonic() - self.began - self.seconds) < 0.5


async def send_tone_forever(session: LiveKitSession) -> None:
    frames = frames_of_tone(440, 1.0, 16000)
    while True:
        await send_frames(session.tx, frames)


class Conversation:
    """Two sessions, "ann" and "ben", with all that they receive."""

    def __init__(self, ann: LiveKitSession, ben: LiveKitSession) -> None:
        self.sessions = (ann, ben)
        self.monitors = (ReceiveMonitor(), ReceiveMonitor())
        self.streams: list[str] = []  # Begins and ends of participant streams.
        self.recorder = EventRecorder()  # Events of ann's session.

    async def record_stream(self, stream: ParticipantStream) -> None:
        """Record when a participant stream begins and ends."""
        identity = stream.participant.identity
        self.streams.append(f"{identity} began")
        async for _ in stream:
            pass
        self.streams.append(f"{identity} ended")

    async def wait_until_audio_flows(self, since: float, within: float = DEADLINE) -> None:
        """Wait until both have received audio of the other after this moment."""
        async with anyio.create_task_group() as tasks:
            for monitor, other in zip(self.monitors, ("ben", "ann"), strict=True):
                tasks.start_soon(monitor.wait_for_audio, other, since, within)


@asynccontextmanager
async def conversation(server: Server, room_name: str) -> AsyncIterator[Conversation]:
    """Run a conversation; at the end check that each stream was one, and continuous."""
    async with (
        open_livekit(server.url, mint_token(server, room_name, "ann")) as ann,
        open_livekit(server.url, mint_token(server, room_name, "ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        both = Conversation(ann, ben)
        for session, monitor in zip(both.sessions, both.monitors, strict=True):
            tasks.start_soon(send_tone_forever, session)
            tasks.start_soon(monitor.run, session)
            tasks.start_soon(session.for_each_participant, both.record_stream)
        tasks.start_soon(both.recorder.record, ann)
        await both.wait_until_audio_flows(time.monotonic())
        yield both
        assert sorted(both.streams) == ["ann began", "ben began"]
        for monitor in both.monitors:
            with anyio.move_on_after(2):  # A busy machine may be about to deliver some of it.
                await wait_for(monitor.is_continuous)
            assert monitor.is_continuous()
        tasks.cancel_scope.cancel()


async def request_server_leave(session: LiveKitSession) -> None:
    """Let the server disconnect the session, with a reason that allows a rejoin."""
    kind = rtc.SimulateScenarioKind.Value("SIMULATE_SERVER_LEAVE")
    await session.room.simulate_scenario(kind)


async def wait_until_rejoined(session: LiveKitSession, first: rtc.Room) -> None:
    """Wait until a session is in another room object than this."""
    await wait_for(lambda: session.room is not first)
