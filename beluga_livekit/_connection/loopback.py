"""`LoopbackConnection`: a room without a server, over the SDK's own native audio."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import anyio
import attrs

from .._errors import DisconnectReason, LiveKitError
from .._options import SessionOptions
from .._room.participants import Participant
from .._room.state import Track
from .._sdk import rtc
from .base import Connection, Outcome, SessionParts
from .first_subscriber import FirstSubscriber

_sids = itertools.count(1)


class LoopbackHub:
    """The connections of a room without a server; with `echo` each also receives itself."""

    def __init__(self, name: str, *, echo: bool = False) -> None:
        self.name = name
        self.echo = echo
        self.connections: dict[str, LoopbackConnection] = {}  # by identity
        self.undecryptable: set[str] = set()  # identities whose tracks the others cannot decrypt

    def join(self, joining: LoopbackConnection) -> None:
        """Add a connection; remove an earlier one of the same identity, as a server does."""
        identity = joining.participant.identity
        if (earlier := self.connections.get(identity)) is not None:
            earlier.end(DisconnectReason.DUPLICATE_IDENTITY)
        for other in self.connections.values():
            other.show_to(joining)
        self.connections[identity] = joining
        for receiver in self.receivers_of(joining):
            joining.show_to(receiver)

    def leave(self, leaving: LoopbackConnection) -> None:
        identity = leaving.participant.identity
        if self.connections.get(identity) is leaving:
            del self.connections[identity]
            for other in self.connections.values():
                other.room_state.remove_participant(identity)

    def receivers_of(self, connection: LoopbackConnection) -> list[LoopbackConnection]:
        each = self.connections.values()
        return [other for other in each if self.echo or other is not connection]


class LoopbackConnection(Connection):
    """A connection to the other connections of a hub."""

    linger = 0.05  # published audio arrives within two frames

    def __init__(
        self, hub: LoopbackHub, member: Participant, options: SessionOptions, parts: SessionParts
    ) -> None:
        self.first_subscriber = FirstSubscriber(
            options, parts.room_state, parts.pump.gate, restricts=False
        )
        self.participant = member
        self.room_state = parts.room_state
        self.pump = parts.pump
        self.sid: str | None = None  # of our track while it is published
        self.muted = False
        self._log = parts.log
        self._options = options
        self._hub = hub
        self._audio: rtc.LocalTrack | None = None
        self._reason: DisconnectReason | None = None
        self._ended = anyio.Event()

    @property
    def receives_only(self) -> bool:
        return not self._options.publish

    @property
    def room(self) -> rtc.Room:
        raise LiveKitError("livekit: a loopback session has no room")

    async def join(self) -> None:
        self._log.bind(self.participant.identity, self._hub.name)
        if self.receives_only:
            self.pump.cancel()
        else:
            self._audio = rtc.local_track((await self.pump.source.open()).rtc)
            self.sid = f"TR_loopback_{next(_sids)}"
        self.room_state.update_participant(attrs.evolve(self.participant, is_self=True))
        self._hub.join(self)
        if self._hub.echo:  # also if rx is not read
            self.pump.gate.subscribed()
        self.pump.gate.resume()

    async def run(self) -> Outcome:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.first_subscriber.run)
            await self._ended.wait()
            tasks.cancel_scope.cancel()
        return Outcome(self._reason or DisconnectReason.UNKNOWN)

    def subscribe(self, sids: Collection[str]) -> None:
        for other in self._hub.connections.values():
            if other.sid in sids:
                other.first_subscriber.subscribed(self.participant)

    def show_to(self, receiver: LoopbackConnection) -> None:
        """Add this participant and its track to another connection's room state, or update them."""
        receiver.room_state.update_participant(self.participant)
        if self.sid is not None:
            track = Track(self.sid, self.participant.identity, muted=self.muted)
            track.audio, track.num_channels = self._readable, self._num_channels
            track.can_decrypt = lambda: self.participant.identity not in self._hub.undecryptable
            receiver.room_state.add_track(track)

    def update(self, participant: Participant) -> None:
        self.participant = participant
        self.room_state.update_participant(attrs.evolve(participant, is_self=True))
        for receiver in self._hub.receivers_of(self):
            self.show_to(receiver)

    def set_muted(self, muted: bool) -> None:
        if self.sid is None or muted == self.muted:
            return
        self.muted = muted
        self.pump.set_muted(muted)
        self.room_state.set_local_muted(self.sid, muted)
        for receiver in self._hub.receivers_of(self):
            receiver.room_state.set_muted(self.sid, muted)
            # Muting has no effect on a track that is not published: stop reading it.
            receiver.room_state.set_audio(self.sid, self._readable, self._num_channels)

    async def send_dtmf(self, code: int, digit: str) -> None:
        for receiver in self._hub.receivers_of(self):
            receiver.room_state.add_dtmf(self.participant.identity, digit)

    async def unpublish(self) -> None:
        if self.sid is not None:
            sid, self.sid = self.sid, None
            for receiver in self._hub.receivers_of(self):
                receiver.room_state.remove_track(sid)

    def end(self, reason: DisconnectReason) -> None:
        self._reason = self._reason or reason
        self._hub.leave(self)
        self.pump.gate.pause("the session has ended")
        self._ended.set()

    async def leave(self) -> DisconnectReason:
        self._hub.leave(self)
        return self._reason or DisconnectReason.CLIENT_INITIATED

    @property
    def _num_channels(self) -> int:
        return rtc.wire_channels(self._options.num_channels)

    @property
    def _readable(self) -> rtc.LocalTrack | None:
        return None if self.muted else self._audio
