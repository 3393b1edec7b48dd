"""Room events, as `LiveKitSession.events` yields them; named as LiveKit's webhooks and SDK do."""

from ._room.events import *  # noqa: F403 - those of `__all__`

__all__ = [  # noqa: F405 - as above
    "Disconnected", "DtmfReceived", "EventsDropped", "ParticipantJoined", "ParticipantLeft",
    "ParticipantUpdated", "PermissionsChanged", "Reconnected", "Reconnecting", "Rejoined",
    "RoomEvent", "TrackMuted", "TrackPublished", "TrackUndecryptable", "TrackUnmuted",
    "TrackUnpublished",
]  # fmt: skip
