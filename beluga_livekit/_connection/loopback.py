"""A room without a server: its members hear each other through the SDK's own native audio."""

from __future__ import annotations

import itertools

import anyio
import attrs

from .._errors import DisconnectReason, LiveKitError
from .._logging import SessionLog
from .._options import SessionOptions
from .._receive.track_readers import Receiver
from .._room.participants import Participant
from .._room.state import Track
from .._sdk import rtc
from .._send.pump import Sender

__all__ = ["Company", "MemberLink"]

# What has been played is heard within two wire frames.
LINGER = 0.05

_sids = itertools.count(1)


class Company:
    """Who is in a room without a server.

    Args:
        name: The room's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, MemberLink] = {}

    def enter(self, member: MemberLink) -> None:
        """Has a member meet the others; its twin, if there is one, is thrown out."""
        if (twin := self.members.get(member.participant.identity)) is not None:
            twin.end(DisconnectReason.DUPLICATE_IDENTITY)
        for other in self.members.values():
            member.meet(other)
        self.members[member.participant.identity] = member
        for hearer in self.hearers(member):
            hearer.meet(member)

    def leave(self, member: MemberLink) -> None:
        identity = member.participant.identity
        if self.members.get(identity) is member:
            del self.members[identity]
            for other in self.members.values():
                other.receiver.roster.leave(identity)

    def hearers(self, member: MemberLink) -> list[MemberLink]:
        """Returns those who hear a member."""
        return [each for each in self.members.values() if each is not member or member.echo]

    def end(self, reason: DisconnectReason) -> None:
        for member in list(self.members.values()):
            member.end(reason)


class MemberLink:
    """A place in a room without a server.

    Args:
        company: Who else is there.
        participant: As which it is known.
        options: The session's.
        log: The session's.
        echo: Whether it hears itself.
    """

    linger = LINGER
    detail = ""

    def __init__(
        self,
        company: Company,
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
        self.receives_only = not options.send
        self.echo = echo
        self._company = company
        self._log = log
        self._ended = anyio.Event()

    @property
    def room(self) -> rtc.Room:
        raise LiveKitError("livekit: a loopback session has no room")

    @property
    def readable(self) -> rtc.LocalTrack | None:
        return None if self.sender.muted else self._audio

    async def join(self, receiver: Receiver, sender: Sender) -> None:
        self.receiver, self.sender = receiver, sender
        self._log.concerns(self.participant.identity, self._company.name)
        if self.receives_only:
            sender.stop()
        else:
            source = (await sender.open()).rtc
            self._audio = rtc.local_track(source)
            self.num_channels = source.num_channels
            self.sid = f"TR_loopback_{next(_sids)}"
        receiver.roster.enter(attrs.evolve(self.participant, is_self=True))
        receiver.subscribe = self._on_wanted
        self._company.enter(self)
        if self.echo:  # also where nobody reads rx
            sender.gate.heard()
        sender.gate.release()

    async def run(self) -> None:
        await self._ended.wait()

    def meet(self, other: MemberLink) -> None:
        """Another member is there, is not as before, or publishes."""
        roster = self.receiver.roster
        roster.enter(other.participant)
        if other.sid is not None:
            roster.publish(
                Track(
                    other.sid,
                    other.participant.identity,
                    muted=other.sender.muted,
                    audio=other.readable,
                    num_channels=other.num_channels,
                )
            )

    def change(self, participant: Participant) -> None:
        """This member is not as before."""
        self.participant = participant
        self.receiver.roster.enter(attrs.evolve(self.participant, is_self=True))
        for hearer in self._company.hearers(self):
            hearer.meet(self)

    def mute(self, muted: bool) -> None:
        """Mutes the track, or no longer; the SDK has no effect here, so it is not read."""
        if self.sid is not None and muted != self.sender.muted:
            self.sender.muted = muted
            self.receiver.roster.mute_self(self.sid, muted)
            for hearer in self._company.hearers(self):
                hearer.receiver.roster.mute(self.sid, muted)
                hearer.receiver.roster.hear(self.sid, self.readable, self.num_channels)

    async def press(self, code: int, digit: str) -> None:
        for hearer in self._company.hearers(self):
            hearer.receiver.roster.press(self.participant.identity, digit)

    async def stop_sending(self) -> None:
        if self.sid is not None:
            sid, self.sid = self.sid, None
            for hearer in self._company.hearers(self):
                hearer.receiver.roster.unpublish(sid)

    def end(self, reason: DisconnectReason) -> None:
        """Throws this member out."""
        self.reason = self.reason or reason
        self._company.leave(self)
        self.sender.gate.hold()
        self._ended.set()

    async def leave(self) -> None:
        self.reason = self.reason or DisconnectReason.CLIENT_INITIATED
        self._company.leave(self)

    def _on_wanted(self) -> None:
        """Lets those who are heard from here know that somebody listens."""
        for member in self._company.members.values():
            if member.sid in self.receiver.wanted:
                member.sender.gate.heard()
