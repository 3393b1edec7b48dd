"""Room events, as `LiveKitSession.events` yields them; named as LiveKit's webhooks and SDK do."""

from ._room.events import (
    Disconnected,
    DtmfReceived,
    EventsDropped,
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

__all__ = [
    "Disconnected",
    "DtmfReceived",
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
