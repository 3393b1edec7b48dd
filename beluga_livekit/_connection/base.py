"""`Connection`: what a session is connected through."""

from collections.abc import Collection
from typing import ClassVar, Protocol

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
    """How a session ended: LiveKit's reason, a detail for messages, or the error it failed with."""

    reason: DisconnectReason
    detail: str = ""
    failure: BaseException | None = None

    @property
    def is_loss(self) -> bool:
        """Whether the connection was lost, rather than left or hung up."""
        return not self.reason.is_hangup

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


class Connection(Protocol):
    """Connects the parts of a session to a room.

    The life of a connection: `join`, then `run` until it returns or is cancelled, then `leave`.
    `leave` is also called if `join` fails.
    """

    linger: ClassVar[float]
    """Time that published audio needs to arrive, once it has left the SDK's queue (s)."""

    @property
    def receives_only(self) -> bool:
        """Whether sends fail: nothing is to be published, or the token does not permit it yet."""

    @property
    def room(self) -> rtc.Room:
        """The SDK's room; LiveKitError if there is none."""

    async def join(self) -> None:
        """Connect. Nothing stays open if it fails."""

    async def run(self) -> Outcome:
        """Stay connected; return when the connection has ended for good."""

    def subscribe(self, sids: Collection[str]) -> None:
        """Subscribe to these tracks, and to no others. Called with each new plan."""

    async def unpublish(self) -> None:
        """Unpublish our track; bounded."""

    def set_muted(self, muted: bool) -> None:
        """Mute or unmute our track."""

    async def send_dtmf(self, code: int, digit: str) -> None:
        """Send a telephone key."""

    async def leave(self) -> DisconnectReason:
        """Disconnect, in bounded time; return the reason to report if there was none before."""
