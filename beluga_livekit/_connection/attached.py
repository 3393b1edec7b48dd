"""`AttachedConnection`: a connected room that other code owns. It is left as it was."""

from collections.abc import Collection

import anyio

from .._errors import ConnectError, DisconnectReason
from .._options import SessionOptions
from .._sdk import rtc
from .base import Connection, Outcome, SessionParts
from .microphone import Microphone
from .room_adapter import RoomAdapter

# Time that the owner of the room has to subscribe to a new track before we do (s). What the owner
# has subscribed to is not ours to release. It takes a round trip.
OWNER_GRACE = 0.25


class AttachedConnection(Connection):
    """Publishes and subscribes in the owner's room; never rejoins."""

    linger = 0.2  # as for a room of our own

    def __init__(self, room: rtc.Room, options: SessionOptions, parts: SessionParts) -> None:
        super().__init__(parts)
        self._room = room
        self._options = options
        self._parts = parts
        self._microphone = Microphone(parts.pump, options)
        self._adapter: RoomAdapter | None = None

    @property
    def room(self) -> rtc.Room:
        return self._room

    async def join(self) -> None:
        if not self._room.isconnected():
            raise ConnectError(
                "livekit: attaching failed: the room is not connected", retryable=False
            )
        self._log.bind(self._room.local_participant.identity, self._room.name)
        adapter = self._adapter = RoomAdapter(
            self._room, self._parts, self._microphone, owner_grace=OWNER_GRACE
        )
        adapter.scan()
        if self._options.publish and rtc.may_publish(self._room):
            timeout = self._options.connect_timeout
            with anyio.move_on_after(timeout) as scope, adapter.joining:
                await adapter.publish()
            if adapter.ended.is_set():
                reason = adapter.reason or "the room has ended"
                raise ConnectError(f"livekit: attaching failed: {reason}", retryable=False)
            if scope.cancelled_caught:
                raise ConnectError(f"livekit: attaching failed: no answer within {timeout:g} s")
        else:
            self.receives_only = True
            self._pump.cancel()
        self._log.info("attached")

    async def run(self) -> Outcome:
        if self._adapter is not None:
            await self._adapter.ended.wait()
        return Outcome(self._reason)

    def subscribe(self, sids: Collection[str]) -> None:
        if self._adapter is not None:
            self._adapter.subscriptions.apply(sids)

    async def unpublish(self) -> None:
        await self._microphone.unpublish(self._room)

    def set_muted(self, muted: bool) -> None:
        self._microphone.muted = muted
        self._microphone.apply_mute()

    async def send_dtmf(self, code: int, digit: str) -> None:
        await rtc.send_dtmf(self._room, code, digit)

    async def leave(self) -> DisconnectReason:
        if (adapter := self._adapter) is not None:
            await adapter.settle()
            with anyio.move_on_after(rtc.CLOSE_TIMEOUT):
                await adapter.subscriptions.release_all(adapter.ended)
            adapter.close()
            await self._microphone.unpublish(self._room)
        return self._reason

    @property
    def _reason(self) -> DisconnectReason:
        """The room's reason; without one the owner has left, or we have."""
        reason = self._adapter.reason if self._adapter is not None else None
        return reason or DisconnectReason.CLIENT_INITIATED
