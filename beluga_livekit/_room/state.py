"""`RoomState`: participants and tracks of the current room, kept across reconnects and rejoins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from .._errors import DisconnectReason
from .events import (
    Disconnected,
    DtmfReceived,
    EventStream,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    Reconnected,
    Reconnecting,
    Rejoined,
    RoomEvent,
    TrackMuted,
    TrackPublished,
    TrackUnmuted,
    TrackUnpublished,
)
from .participants import Participant, TrackSource

__all__ = ["RoomState", "Track"]

# When the SDK reconnects anew it reports everybody as gone, at times before it says that it
# reconnects; and somebody who comes back under the same identity is reported as gone first.
LEAVING = 0.25
# After a reconnect, how long whoever is not back may still be on the way: a server that was
# restarted is found again by each at another time.
RETURNING = 10.0


@attrs.define(eq=False)
class Track:
    """Sound that somebody publishes.

    Attributes:
        sid: Its id, which is another one each time it is published.
        participant: The identity of whose it is.
        source: What it is of.
        muted: Whether it is.
        audio: What can be read, while it is subscribed to.
        num_channels: 1 or 2.
        has_preconnect_audio: Whether what was said before it was published comes separately.
        publication: The SDK's.
    """

    sid: str
    participant: str
    source: TrackSource = TrackSource.MICROPHONE
    muted: bool = False
    audio: Any = None
    num_channels: int = 1
    has_preconnect_audio: bool = False
    publication: Any = None


class RoomState:
    """Is told what happens in one room after another; tells events, and that something changed.

    Attributes:
        me: This session, once it has joined.
        participants: Who is here, by identity; also those who are about to come back.
        tracks: What they publish, by track SID.
        is_interrupted: Whether the connection is away.
        ended: Whether it is all over.
        on_change: Called after every change.
    """

    def __init__(self) -> None:
        self.me: Participant | None = None
        self.participants: dict[str, Participant] = {}
        self.tracks: dict[str, Track] = {}
        self.ended = False
        self.on_change: Callable[[], None] | None = None
        self.is_interrupted = False
        self._muted: str | None = None  # our track, while it is
        self._reason: DisconnectReason | None = None
        self._leaving: dict[str, asyncio.TimerHandle | None] = {}  # None: until we are back
        self._queues: list[EventStream] = []
        self._changed = anyio.Event()

    def present(self) -> Iterator[Participant]:
        """Gives those who are here for certain."""
        for identity, participant in self.participants.items():
            if identity not in self._leaving:
                yield participant

    async def wait_until_changed(self) -> None:
        """Waits for the next change, or the end."""
        if not self.ended:
            await self._changed.wait()

    def events(self) -> MemoryObjectReceiveStream[RoomEvent]:
        """Returns what happens from now on, after who and what is there."""
        if self._reason is not None:
            queue = EventStream([Disconnected(self._reason)])
            queue.close()
            return queue.rx
        there: list[RoomEvent] = [Reconnecting()] if self.is_interrupted else []
        there += [ParticipantJoined(participant) for participant in self.participants.values()]
        for track in self.tracks.values():
            there.append(self._told(TrackPublished, track))
            if track.muted:
                there.append(self._told(TrackMuted, track))
        if self.me is not None and self._muted is not None:
            there.append(TrackMuted(self.me, TrackSource.MICROPHONE, self._muted))
        queue = EventStream(there)
        self._queues.append(queue)
        return queue.rx

    def enter(self, participant: Participant) -> None:
        """Somebody is here, or is not as before."""
        if participant.is_self:
            before, self.me = self.me, participant
        else:
            before = self.participants.get(participant.identity)
            self.participants[participant.identity] = participant
            self._stay(participant.identity)
            if before is None:
                self._tell(ParticipantJoined(participant))
        if before is not None and before != participant:
            self._tell(ParticipantUpdated(participant, before))
        self._notify()

    def leave(self, identity: str) -> None:
        """Somebody is no longer here, and may be back in a moment."""
        for track in [each for each in self.tracks.values() if each.participant == identity]:
            self.unpublish(track.sid)
        if identity in self.participants and identity not in self._leaving:
            self._leaving[identity] = None
            if not self.is_interrupted:
                self._leave_within(LEAVING, identity)

    def publish(self, track: Track) -> None:
        """Somebody who is here publishes a track; a second time under one SID does nothing."""
        if track.sid not in self.tracks and track.participant in self.participants:
            self._stay(track.participant)
            self.tracks[track.sid] = track
            self._tell(self._told(TrackPublished, track))
            if track.muted:
                self._tell(self._told(TrackMuted, track))
            self._notify()

    def unpublish(self, sid: str) -> None:
        if (track := self.tracks.pop(sid, None)) is not None:
            self._tell(self._told(TrackUnpublished, track))
            self._notify()

    def mute(self, sid: str, muted: bool) -> None:
        """A track is muted, or not any more."""
        if (track := self.tracks.get(sid)) is not None and track.muted != muted:
            track.muted = muted
            self._tell(self._told(TrackMuted if muted else TrackUnmuted, track))

    def mute_self(self, sid: str, muted: bool) -> None:
        """The same for our own track."""
        if self.me is not None and muted != (self._muted is not None):
            self._muted = sid if muted else None
            kind = TrackMuted if muted else TrackUnmuted
            self._tell(kind(self.me, TrackSource.MICROPHONE, sid))

    def hear(self, sid: str, audio: Any, num_channels: int = 1) -> None:
        """A track can be read, or cannot any more (`audio` is None)."""
        if (track := self.tracks.get(sid)) is not None:
            track.audio, track.num_channels = audio, num_channels
            self._notify()

    def press(self, identity: str | None, digit: str) -> None:
        """Somebody has pressed a key."""
        self._tell(DtmfReceived(self.participants.get(identity or ""), digit))

    def interrupted(self) -> None:
        """The connection is away: whoever leaves now may only have been lost with it."""
        if not self.is_interrupted and not self.ended:
            self.is_interrupted = True
            for timer in self._leaving.values():
                if timer is not None:
                    timer.cancel()
            self._tell(Reconnecting())

    def restored(self, room: str | None = None) -> None:
        """The connection is back; or, where a room's name is given, there is a new one."""
        if self.is_interrupted:
            self.is_interrupted = False
            self._tell(Reconnected() if room is None else Rejoined(room))
            for identity in self._leaving:
                self._leave_within(RETURNING, identity)
            self._notify()

    def lose_all(self) -> None:
        """The room is not there any more; another one may come."""
        for identity in list(self.participants):
            self.leave(identity)

    def end(self, reason: DisconnectReason) -> None:
        """There will be no other room."""
        if self.ended:
            return
        self.ended, self._reason = True, reason
        for timer in self._leaving.values():
            if timer is not None:
                timer.cancel()
        self._tell(Disconnected(reason))
        for queue in self._queues:
            queue.close()
        self._notify()

    def _stay(self, identity: str) -> None:
        if (timer := self._leaving.pop(identity, None)) is not None:
            timer.cancel()

    def _leave_within(self, seconds: float, identity: str) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._left, identity)
        self._leaving[identity] = timer

    def _left(self, identity: str) -> None:
        del self._leaving[identity]
        self._tell(ParticipantLeft(self.participants.pop(identity)))
        self._notify()

    def _told(
        self,
        kind: type[TrackPublished | TrackUnpublished | TrackMuted | TrackUnmuted],
        track: Track,
    ) -> RoomEvent:
        return kind(self.participants[track.participant], track.source, track.sid)

    def _tell(self, event: RoomEvent) -> None:
        for queue in list(self._queues):
            if queue.has_reader:
                queue.put(event)
            else:
                queue.close()
                self._queues.remove(queue)

    def _notify(self) -> None:
        if self.on_change is not None:
            self.on_change()
        self._changed.set()
        self._changed = anyio.Event()
