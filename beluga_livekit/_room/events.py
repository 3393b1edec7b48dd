"""Room events, and the stream that delivers them."""

from collections.abc import Iterable

import attrs

from .._errors import DisconnectReason
from .._streams import LossyStream
from .participants import Participant, TrackSource

# Limit of unread events: about those of 400 participants who join and publish.
MAX_EVENTS = 1000
SLACK = 0.1  # share of the limit that is dropped at once, as a drop rewrites the stream


@attrs.frozen
class Reconnecting:
    """The connection is lost, and the SDK reconnects."""


@attrs.frozen
class Reconnected:
    """The SDK has reconnected."""


@attrs.frozen
class Rejoined:
    """The session has joined the room again: `session.room` is another object.

    Attributes:
        room: The room's name.
    """

    room: str


@attrs.frozen
class Disconnected:
    """The session has ended; the last event.

    Attributes:
        reason: Why it has ended.
    """

    reason: DisconnectReason


@attrs.frozen
class _ParticipantEvent:
    participant: Participant


class ParticipantJoined(_ParticipantEvent):
    """A participant has joined, or is in the room where the stream begins."""


class ParticipantLeft(_ParticipantEvent):
    """A participant has left."""


@attrs.frozen
class ParticipantUpdated:
    """A participant's name, attributes or metadata have changed.

    Attributes:
        participant: The participant now.
        previous: The participant in the event before.
    """

    participant: Participant
    previous: Participant


@attrs.frozen
class PermissionsChanged(_ParticipantEvent):
    """A participant's permissions have changed; with `participant.is_self` ours.

    While publishing is not permitted, sends wait, and nothing counts as played.

    Attributes:
        can_publish: Whether it may publish tracks.
        can_subscribe: Whether it may subscribe to tracks.
    """

    can_publish: bool
    can_subscribe: bool


@attrs.frozen
class _TrackEvent(_ParticipantEvent):
    source: TrackSource
    sid: str


class TrackPublished(_TrackEvent):
    """A participant has published an audio track, selected or not."""


class TrackUnpublished(_TrackEvent):
    """A participant no longer publishes an audio track."""


class TrackMuted(_TrackEvent):
    """A track is muted. With `participant.is_self` it is ours, muted by the server or by us."""


class TrackUnmuted(_TrackEvent):
    """A track is no longer muted."""


class TrackUndecryptable(_TrackEvent):
    """A selected track is encrypted, and the session has no key for it or another one.

    rx has silence in its place. The event comes once for each track.
    """


@attrs.frozen
class DtmfReceived:
    """A participant has pressed a telephone key.

    Attributes:
        participant: The participant; None if it has left already.
        digit: "0" to "9", "*", "#", or "A" to "D".
    """

    participant: Participant | None
    digit: str


@attrs.frozen
class EventsDropped:
    """Replaces the oldest events, which were dropped because they were not read.

    Attributes:
        count: Number of events dropped.
    """

    count: int


RoomEvent = (
    Reconnecting | Reconnected | Rejoined | Disconnected
    | ParticipantJoined | ParticipantLeft | ParticipantUpdated | PermissionsChanged
    | TrackPublished | TrackUnpublished | TrackMuted | TrackUnmuted
    | TrackUndecryptable | DtmfReceived | EventsDropped
)  # fmt: skip


class EventStream(LossyStream[RoomEvent]):
    """Events on their way to a reader. Beyond MAX_EVENTS the oldest are dropped, and counted."""

    def __init__(self, events: Iterable[RoomEvent]) -> None:
        super().__init__()
        for event in events:
            self.put(event)

    def put(self, item: RoomEvent) -> None:
        super().put(item)
        if self.unread > MAX_EVENTS:
            self.rewrite(_without_oldest)


def _without_oldest(events: list[RoomEvent]) -> list[RoomEvent]:
    dropped = int(len(events) * SLACK)
    count = sum(e.count if isinstance(e, EventsDropped) else 1 for e in events[:dropped])
    return [EventsDropped(count), *events[dropped:]]
