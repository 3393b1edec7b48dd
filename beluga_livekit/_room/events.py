"""What happens in a room, as a stream of events."""

from __future__ import annotations

import math
from collections.abc import Iterable

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from .._errors import DisconnectReason
from .participants import Participant, TrackSource

__all__ = [
    "Disconnected",
    "DtmfReceived",
    "EventStream",
    "EventsDropped",
    "ParticipantJoined",
    "ParticipantLeft",
    "ParticipantUpdated",
    "Reconnected",
    "Reconnecting",
    "Rejoined",
    "RoomEvent",
    "TrackMuted",
    "TrackPublished",
    "TrackUnmuted",
    "TrackUnpublished",
]

# A reader that is later than this has lost touch: 400 people have come in and spoken.
MAX_EVENTS = 1000
# Dropping replaces the head of the queue, so a tenth goes at once.
SLACK = 0.1


@attrs.frozen
class Reconnecting:
    """The connection is lost, and being mended."""


@attrs.frozen
class Reconnected:
    """The connection is back."""


@attrs.frozen
class Rejoined:
    """The room was joined anew: `session.room` is another object.

    Attributes:
        room: The room's name.
    """

    room: str


@attrs.frozen
class Disconnected:
    """The session has ended; the last event.

    Attributes:
        reason: Why.
    """

    reason: DisconnectReason


@attrs.frozen
class ParticipantJoined:
    """Somebody is here."""

    participant: Participant


@attrs.frozen
class ParticipantLeft:
    """Somebody has left."""

    participant: Participant


@attrs.frozen
class ParticipantUpdated:
    """Somebody's name, attributes or metadata are others now.

    Attributes:
        participant: As of now.
        previous: As of the event before.
    """

    participant: Participant
    previous: Participant


@attrs.frozen
class TrackPublished:
    """Somebody has published sound, be it wanted or not."""

    participant: Participant
    source: TrackSource
    sid: str


@attrs.frozen
class TrackUnpublished:
    """Somebody no longer publishes a track."""

    participant: Participant
    source: TrackSource
    sid: str


@attrs.frozen
class TrackMuted:
    """A track is muted; where `participant.is_self`, ours is, by the server or by us."""

    participant: Participant
    source: TrackSource
    sid: str


@attrs.frozen
class TrackUnmuted:
    """A track is no longer muted."""

    participant: Participant
    source: TrackSource
    sid: str


@attrs.frozen
class DtmfReceived:
    """Somebody has pressed a key.

    Attributes:
        participant: Who; None if they have left already.
        digit: "0" to "9", "*", "#", or "A" to "D".
    """

    participant: Participant | None
    digit: str


@attrs.frozen
class EventsDropped:
    """Here the oldest events were dropped, as nobody read them.

    Attributes:
        count: How many.
    """

    count: int


RoomEvent = (
    Reconnecting | Reconnected | Rejoined | Disconnected
    | ParticipantJoined | ParticipantLeft | ParticipantUpdated
    | TrackPublished | TrackUnpublished | TrackMuted | TrackUnmuted
    | DtmfReceived | EventsDropped
)  # fmt: skip


class EventStream:
    """Events on their way to a reader that may be slow: the oldest are dropped, and counted.

    Args:
        events: What it begins with.
    """

    def __init__(self, events: Iterable[RoomEvent]) -> None:
        send, receive = anyio.create_memory_object_stream[RoomEvent](math.inf)
        self._send = send
        self._own = receive.clone()
        self.reader: MemoryObjectReceiveStream[RoomEvent] = receive
        for event in events:
            self.put(event)

    @property
    def has_reader(self) -> bool:
        return self._own.statistics().open_receive_streams > 1

    def put(self, event: RoomEvent) -> None:
        self._send.send_nowait(event)
        waiting = self._own.statistics().current_buffer_used
        if waiting > MAX_EVENTS:
            # All of it in one synchronous step; a buffer that is not empty has no waiter.
            events = [self._own.receive_nowait() for _ in range(waiting)]
            dropped = int(waiting * SLACK)
            count = sum(e.count if isinstance(e, EventsDropped) else 1 for e in events[:dropped])
            for kept in (EventsDropped(count), *events[dropped:]):
                self._send.send_nowait(kept)

    def close(self) -> None:
        """Ends the stream: what waits can still be read."""
        self._send.close()
        self._own.close()
