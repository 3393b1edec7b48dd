"""`AttachedConnection`: a connected room that other code owns. It is left as it was."""

import anyio

from .._errors import ConnectError, DisconnectReason
from .._options import SessionOptions
from .._sdk import rtc
from .base import Outcome, SessionParts
from .room_adapter import RoomAdapter
from .room_connection import RoomConnection

# Time that the owner of the room has to subscribe to a new track before we do (s). What the owner
# has subscribed to is not ours to release. It takes a round trip.
OWNER_GRACE = 0.25


class AttachedConnection(RoomConnection):
    """Publishes and subscribes in the owner's room; never rejoins."""

    def __init__(self, room: rtc.Room, options: SessionOptions, parts: SessionParts) -> None:
        super().__init__(options, parts, owns_room=False)
        self._room = room

    async def join(self) -> None:
        room, timeout = self.room, self._options.connect_timeout
        if not room.isconnected():
            raise ConnectError(
                "livekit: attaching failed: the room is not connected", retryable=False
            )
        self._parts.log.bind(room.local_participant.identity, room.name)
        adapter = self._adapter = RoomAdapter(room, self._parts, self._microphone, OWNER_GRACE)
        with anyio.move_on_after(timeout) as scope, adapter.joining:
            await self._begin(adapter, may_publish=rtc.may_publish(room))
        if adapter.ended.is_set():
            reason = adapter.reason or "the room has ended"
            raise ConnectError(f"livekit: attaching failed: {reason}", retryable=False)
        if scope.cancelled_caught:
            raise ConnectError(f"livekit: attaching failed: no answer within {timeout:g} s")
        self._parts.log.info("attached")

    async def _stay(self) -> Outcome:
        await self.adapter.ended.wait()
        return Outcome(self._reason)

    async def leave(self) -> DisconnectReason:
        if (adapter := self._adapter) is not None:
            await adapter.settle()
            with anyio.move_on_after(rtc.CLOSE_TIMEOUT):
                await adapter.subscriptions.release_all(adapter.ended)
            adapter.close()
            await self.unpublish()
        return self._reason

    @property
    def _reason(self) -> DisconnectReason:
        """The room's reason; without one the owner has left, or we have."""
        reason = self._adapter.reason if self._adapter is not None else None
        return reason or DisconnectReason.CLIENT_INITIATED
