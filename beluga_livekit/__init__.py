"""Audio between a LiveKit room and your tasks, as a pair of anyio streams."""

from ._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
)
from ._open import SessionContextManager, attach_room, open_livekit, open_loopback
from ._playout import Playout
from ._receive.frame_buffer import ReceiveStream
from ._receive.participant_streams import ParticipantStream
from ._room.participants import Participant, ParticipantFilter, ParticipantKind, TrackSource
from ._send.play_source import PlaySource
from ._session import LiveKitSession, SessionStatistics
from .audio.frame import AudioFrame

__version__ = "0.1.0"

__all__ = [
    "AudioFrame",
    "AuthenticationError",
    "ConfigError",
    "ConnectError",
    "DisconnectReason",
    "DisconnectedError",
    "LiveKitError",
    "LiveKitSession",
    "Participant",
    "ParticipantFilter",
    "ParticipantKind",
    "ParticipantStream",
    "PlaySource",
    "Playout",
    "ReceiveStream",
    "SessionContextManager",
    "SessionStatistics",
    "TrackSource",
    "attach_room",
    "open_livekit",
    "open_loopback",
]
