"""`RoomConnection`: what connections to a server's room share; an adapter of each room."""

from abc import abstractmethod
from collections.abc import Collection

import anyio

from .._errors import LiveKitError
from .._options import SessionOptions
from .._sdk import rtc
from .base import Connection, Outcome, SessionParts
from .microphone import Microphone
from .room_adapter import RoomAdapter


class RoomConnection(Connection):
    """A connection through the adapter of the current room; there is none before the join."""

    # Encoding, the network, and the far jitter buffer: leaving at once cuts off the last word.
    linger = 0.2

    def __init__(
        self, options: SessionOptions, parts: SessionParts, *, owns_room: bool = True
    ) -> None:
        self._options = options
        self._parts = parts
        # The user may publish tracks of its own in a room that is not ours, or that it was given.
        restricts = owns_room and options.on_room is None
        self._microphone = Microphone(options, parts, restricts=restricts)
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

    @property
    def receives_only(self) -> bool:
        return not self._options.publish or self._parts.pump.is_refusing

    async def run(self) -> Outcome:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._microphone.run)
            outcome = await self._stay()
            tasks.cancel_scope.cancel()
        return outcome

    @abstractmethod
    async def _stay(self) -> Outcome:
        """Return when the connection has ended for good."""

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
        """Add what is in a joined room, and publish our track if that is wanted and permitted."""
        adapter.scan()
        if not self._options.publish:
            self._parts.pump.cancel()
        elif may_publish:
            await adapter.publish()
        else:
            self._microphone.refuse(adapter.room)
