"""`Connection`: what a session is connected through."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

import attrs

from .._errors import DisconnectReason
from .._logging import SessionLog
from .._receive.track_readers import TrackReaders
from .._room.state import RoomState
from .._sdk import rtc
from .._send.pump import SendPump


@attrs.frozen
class SessionParts:
    """The parts of a session that its connection works on."""

    room_state: RoomState
    readers: TrackReaders
    pump: SendPump
    log: SessionLog


@attrs.frozen
class Outcome:
    """How a session ended.

    Attributes:
        reason: LiveKit's reason.
        detail: What to add to it in an error or a log line, if anything.
        failure: An error that the session failed with.
    """

    reason: DisconnectReason
    detail: str = ""
    failure: BaseException | None = None

    @property
    def is_loss(self) -> bool:
        """Whether the connection was lost, rather than left or hung up."""
        return not self.reason.is_hangup

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


class Connection(ABC):
    """Connects the parts of a session to a room.

    The life of a connection: `join`, then `run` until it returns or is cancelled, then `leave`.
    `leave` is also called if `join` fails.

    Attributes:
        receives_only: Whether nothing can be published, as asked for or as the token says.
    """

    linger: ClassVar[float]
    """Time that published audio needs to arrive, once it has left the SDK's queue (s)."""

    def __init__(self, parts: SessionParts) -> None:
        self.receives_only = False
        self._room_state = parts.room_state
        self._readers = parts.readers
        self._pump = parts.pump
        self._log = parts.log

    @property
    @abstractmethod
    def room(self) -> rtc.Room:
        """The SDK's room; LiveKitError if there is none."""

    @abstractmethod
    async def join(self) -> None:
        """Connect. Nothing stays open if it fails."""

    @abstractmethod
    async def run(self) -> Outcome:
        """Stay connected; return when the connection has ended for good."""

    @abstractmethod
    def subscribe(self, sids: Collection[str]) -> None:
        """Subscribe to these tracks, and to no others. Called with each new plan."""

    @abstractmethod
    async def unpublish(self) -> None:
        """Unpublish our track; bounded."""

    @abstractmethod
    def set_muted(self, muted: bool) -> None:
        """Mute or unmute our track."""

    @abstractmethod
    async def send_dtmf(self, code: int, digit: str) -> None:
        """Send a telephone key."""

    @abstractmethod
    async def leave(self) -> DisconnectReason:
        """Disconnect, in bounded time; return the reason to report if there was none before."""
