"""Audio between a LiveKit room and your tasks, as a pair of anyio streams."""

from ._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
)
from ._open import attach_room, open_livekit, open_loopback
from ._playout import Playout
from ._receive.participant_streams import ParticipantStream
from ._room.events import (
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
from ._room.participants import Participant, ParticipantFilter, ParticipantKind, TrackSource
from ._send.play_source import Playable
from ._session import LiveKitSession, SessionStatistics
from .audio.channel_mixer import ChannelMixer
from .audio.converter import Converter
from .audio.frame import AudioFrame
from .audio.resampler import Resampler

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
    "attach_room",
    "open_livekit",
    "open_loopback",
]
