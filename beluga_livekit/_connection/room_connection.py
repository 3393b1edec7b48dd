"""`RoomConnection`: what connections to a server's room share; an adapter of each room."""

from collections.abc import Collection

from .._errors import LiveKitError
from .._options import SessionOptions
from .._sdk import rtc
from .base import Connection, SessionParts
from .microphone import Microphone
from .room_adapter import RoomAdapter


class RoomConnection(Connection):
    """A connection through the adapter of the current room; there is none before the join."""

    # Encoding, the network, and the far jitter buffer: leaving at once cuts off the last word.
    linger = 0.2

    def __init__(self, options: SessionOptions, parts: SessionParts) -> None:
        self.receives_only = False
        self._options = options
        self._parts = parts
        self._microphone = Microphone(parts.pump, options)
        self._adapter: RoomAdapter | None = None
        self._room: rtc.Room | None = None  # the last one that was joined

    @property
    def adapter(self) -> RoomAdapter:
        if self._adapter is None:
            raise LiveKitError("livekit: the room has not been joined yet")
        return self._adapter

    @property
    def room(self) -> rtc.Room:
        return self._room or self.adapter.room

    def subscribe(self, sids: Collection[str]) -> None:
        if self._adapter is not None:
            self._adapter.subscriptions.apply(sids)

    async def unpublish(self) -> None:
        await self._microphone.unpublish(self.room)

    def set_muted(self, muted: bool) -> None:
        self._microphone.set_muted(muted)

    async def send_dtmf(self, code: int, digit: str) -> None:
        await rtc.send_dtmf(self.room, code, digit)

    async def _begin(self, adapter: RoomAdapter, *, may_publish: bool) -> None:
        """Add what is in a joined room, and publish our track if that is wanted and allowed."""
        adapter.scan()
        if self._options.publish and may_publish:
            await adapter.publish()
        else:
            self.receives_only = True
            self._parts.pump.cancel()
