"""Audio between a LiveKit room and your tasks, as a pair of anyio streams."""

from ._config import TransportConfig
from ._converter import Converter
from ._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
)
from ._frame import AudioFrame
from ._mixer import ChannelMixer
from ._open import attach_room, open_livekit, open_loopback
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
    "DisconnectedError",
    "LiveKitError",
    "LiveKitSession",
    "Playable",
    "Playout",
    "Resampler",
    "SessionStatistics",
    "TransportConfig",
    "attach_room",
    "open_livekit",
    "open_loopback",
]
