"""Audio between a LiveKit room and your tasks, as a pair of anyio streams."""

from ._config import TransportConfig
from ._converter import Converter
from ._each import ParticipantStream
from ._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
)
from ._events import (
    Disconnected,
    DtmfReceived,
    Event,
    EventsDropped,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    Reconnected,
    Reconnecting,
    Rejoined,
    TrackMuted,
    TrackStarted,
    TrackStopped,
    TrackUnmuted,
)
from ._frame import AudioFrame
from ._loopback_room import LoopbackRoom
from ._mixer import ChannelMixer
from ._open import attach_room, open_livekit, open_loopback
from ._people import Participant, ParticipantFilter, ParticipantKind, TrackSource
from ._playout import Playable, Playout
from ._resampler import Resampler
from ._session import LiveKitSession, SessionStatistics

__version__ = "0.1.0"

__all__ = [
    "AudioFrame",
    "AuthenticationError",
    "ChannelMixer",
    "ConfigError",
    "ConnectError",
    "Converter",
    "DisconnectReason",
    "Disconnected",
    "DisconnectedError",
    "DtmfReceived",
    "Event",
    "EventsDropped",
    "LiveKitError",
    "LiveKitSession",
    "LoopbackRoom",
    "Participant",
    "ParticipantChanged",
    "ParticipantFilter",
    "ParticipantJoined",
    "ParticipantKind",
    "ParticipantLeft",
    "ParticipantStream",
    "Playable",
    "Playout",
    "Reconnected",
    "Reconnecting",
    "Rejoined",
    "Resampler",
    "SessionStatistics",
    "TrackMuted",
    "TrackSource",
    "TrackStarted",
    "TrackStopped",
    "TrackUnmuted",
    "TransportConfig",
    "attach_room",
    "open_livekit",
    "open_loopback",
]
