"""A room without a server: its members hear each other through the SDK's own native audio."""

from __future__ import annotations

import itertools

import anyio
import attrs

from .._errors import DisconnectReason, LiveKitError
from .._logging import SessionLog
from .._options import SessionOptions
from .._receive.track_readers import TrackReaders
from .._room.participants import Participant
from .._room.state import Track
from .._sdk import rtc
from .._send.pump import SendPump

__all__ = ["LoopbackConnection", "LoopbackHub"]

# What has been played is heard within two wire frames.
LINGER = 0.05

_sids = itertools.count(1)


class LoopbackHub:
    """Who is in a room without a server.

    Args:
        name: The room's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, LoopbackConnection] = {}

    def enter(self, member: LoopbackConnection) -> None:
        """Has a member meet the others; its twin, if there is one, is thrown out."""
        if (twin := self.members.get(member.participant.identity)) is not None:
            twin.end(DisconnectReason.DUPLICATE_IDENTITY)
        for other in self.members.values():
            member.meet(other)
        self.members[member.participant.identity] = member
        for hearer in self.hearers(member):
            hearer.meet(member)

    def leave(self, member: LoopbackConnection) -> None:
        identity = member.participant.identity
        if self.members.get(identity) is member:
            del self.members[identity]
            for other in self.members.values():
                other.readers.room_state.leave(identity)

    def hearers(self, member: LoopbackConnection) -> list[LoopbackConnection]:
        """Returns those who hear a member."""
        return [each for each in self.members.values() if each is not member or member.echo]

    def end(self, reason: DisconnectReason) -> None:
        for member in list(self.members.values()):
            member.end(reason)


class LoopbackConnection:
    """A place in a room without a server.

    Args:
        hub: Who else is there.
        participant: As which it is known.
        options: The session's.
        log: The session's.
        echo: Whether it hears itself.
    """

    linger = LINGER
    detail = ""

    def __init__(
        self,
        hub: LoopbackHub,
        participant: Participant,
        options: SessionOptions,
        log: SessionLog,
        *,
        echo: bool = False,
    ) -> None:
        self.participant = participant
        self.sid: str | None = None  # of the track, while there is one
        self._audio: rtc.LocalTrack | None = None
        self.num_channels = 1
        self.reason: DisconnectReason | None = None
        self.receives_only = not options.publish
        self.echo = echo
        self._hub = hub
        self._log = log
        self._ended = anyio.Event()

    @property
    def room(self) -> rtc.Room:
        raise LiveKitError("livekit: a loopback session has no room")

    @property
    def readable(self) -> rtc.LocalTrack | None:
        return None if self.pump.muted else self._audio

    async def join(self, readers: TrackReaders, pump: SendPump) -> None:
        self.readers, self.pump = readers, pump
        self._log.concerns(self.participant.identity, self._hub.name)
        if self.receives_only:
            pump.cancel()
        else:
            source = (await pump.open()).rtc
            self._audio = rtc.local_track(source)
            self.num_channels = source.num_channels
            self.sid = f"TR_loopback_{next(_sids)}"
        readers.room_state.enter(attrs.evolve(self.participant, is_self=True))
        readers.subscribe = self._on_wanted
        self._hub.enter(self)
        if self.echo:  # also where nobody reads rx
            pump.gate.subscribed()
        pump.gate.resume()

    async def run(self) -> None:
        await self._ended.wait()

    def meet(self, other: LoopbackConnection) -> None:
        """Another member is there, is not as before, or publishes."""
        room_state = self.readers.room_state
        room_state.enter(other.participant)
        if other.sid is not None:
            room_state.publish(
                Track(
                    other.sid,
                    other.participant.identity,
                    muted=other.pump.muted,
                    audio=other.readable,
                    num_channels=other.num_channels,
                )
            )

    def change(self, participant: Participant) -> None:
        """This member is not as before."""
        self.participant = participant
        self.readers.room_state.enter(attrs.evolve(self.participant, is_self=True))
        for hearer in self._hub.hearers(self):
            hearer.meet(self)

    def mute(self, muted: bool) -> None:
        """Mutes the track, or no longer; the SDK has no effect here, so it is not read."""
        if self.sid is not None and muted != self.pump.muted:
            self.pump.muted = muted
            self.readers.room_state.mute_self(self.sid, muted)
            for hearer in self._hub.hearers(self):
                hearer.readers.room_state.mute(self.sid, muted)
                hearer.readers.room_state.hear(self.sid, self.readable, self.num_channels)

    async def press(self, code: int, digit: str) -> None:
        for hearer in self._hub.hearers(self):
            hearer.readers.room_state.press(self.participant.identity, digit)

    async def stop_sending(self) -> None:
        if self.sid is not None:
            sid, self.sid = self.sid, None
            for hearer in self._hub.hearers(self):
                hearer.readers.room_state.unpublish(sid)

    def end(self, reason: DisconnectReason) -> None:
        """Throws this member out."""
        self.reason = self.reason or reason
        self._hub.leave(self)
        self.pump.gate.pause()
        self._ended.set()

    async def leave(self) -> None:
        self.reason = self.reason or DisconnectReason.CLIENT_INITIATED
        self._hub.leave(self)

    def _on_wanted(self) -> None:
        """Lets those who are heard from here know that somebody listens."""
        for member in self._hub.members.values():
            if member.sid in self.readers.wanted:
                member.pump.gate.subscribed()
