"""What connects a session: a room on a server, or somebody else's room."""

from __future__ import annotations

import inspect
import random
import time
from typing import Any, Protocol

import anyio

from .._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
    display_url,
    scrub,
)
from .._logging import SessionLog
from .._options import SessionOptions
from .._receive.track_readers import TrackReaders
from .._sdk import rtc
from .._send.pump import SendPump
from .._token import Grants, Token, read_token
from .room_adapter import RoomAdapter

__all__ = ["AttachedConnection", "Connection", "ServerConnection"]

# Sound that was played has yet to be encoded, sent, and read out of the far side's jitter buffer.
# Leaving at once cuts off the end of the last word.
LINGER = 0.2

# How long, in seconds, to wait before joining anew: anything up to the first, then up to twice as
# much, and so on up to the last. Everybody whom a server has lost comes back; not at once.
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 5.0
# A connection that held this long was one: the next loss begins with the first backoff again.
STABLE = 30.0

# Whoever owns the room that we are attached to may subscribe to all that is new there, and then
# it is not for us to unsubscribe. It takes them a round trip.
OWNERS_PATIENCE = 0.25


class Connection(Protocol):
    """What a session needs of whatever it is connected to."""

    reason: DisconnectReason | None
    """Why the connection is gone for good, once it is."""
    detail: str
    """What there is to add to that, if anything."""
    receives_only: bool
    """Whether nothing can be sent, by what was asked for or granted."""
    linger: float
    """How long, in seconds, after its sound has left the SDK's queue a pump has to stay."""

    @property
    def room(self) -> rtc.Room: ...

    async def join(self, readers: TrackReaders, pump: SendPump) -> None:
        """Connects the two ends; nothing stays open where it fails."""

    async def run(self) -> None:
        """Stays connected; returns, with a `reason`, when that has ended for good."""

    async def stop_sending(self) -> None: ...

    def mute(self, muted: bool) -> None:
        """Mutes what is sent, or no longer."""

    async def press(self, code: int, digit: str) -> None:
        """Tells the room of a key of a telephone."""

    async def leave(self) -> None:
        """Disconnects, in bounded time."""


class ServerConnection:
    """A place in a room, taken with a token; and taken again where it is lost."""

    linger = LINGER

    def __init__(
        self, url: str, token: Token, room: str | None, options: SessionOptions, log: SessionLog
    ) -> None:
        self._url = url
        self._token = token
        self._room_name = room
        self._options = options
        self._log = log
        self._room: rtc.Room | None = None
        self._wiring: RoomAdapter | None = None
        self._joined = 0.0  # time.monotonic()
        self._backoff = FIRST_BACKOFF
        self.receives_only = False
        self.reason: DisconnectReason | None = None
        self.detail = ""

    @property
    def room(self) -> rtc.Room:
        if self._room is None:
            raise LiveKitError("livekit: the room has not been joined yet")
        return self._room

    @property
    def _current(self) -> RoomAdapter:
        if self._wiring is None:
            raise LiveKitError("livekit: the room has not been joined yet")
        return self._wiring

    async def join(self, readers: TrackReaders, pump: SendPump) -> None:
        self._readers_of_session, self._pump = readers, pump
        try:
            await self._join()
        except DisconnectedError as error:
            raise ConnectError(
                f"livekit: cannot join {display_url(self._url)}: {error.reason}",
                retryable=error.reason.is_retryable,
            ) from None
        self._room_name = self.room.name
        self._log.info("joined")

    async def run(self) -> None:
        while self.reason is None:
            await self._current.ended.wait()
            self.reason = await self._rejoin(self._current.reason or DisconnectReason.UNKNOWN)

    async def stop_sending(self) -> None:
        await self._current.unpublish()

    def mute(self, muted: bool) -> None:
        self._pump.muted = muted
        self._current.apply_mute()

    async def press(self, code: int, digit: str) -> None:
        await rtc.press(self.room, code, digit)

    async def leave(self) -> None:
        if self._wiring is not None:
            await self._wiring.settle()
            self._wiring.undo()
            if not self._wiring.is_interrupted:
                # Left with a track whose connection is still being made, the SDK keeps its threads.
                await self._wiring.unpublish()
            await rtc.leave(self._wiring.room)
            self.reason = self.reason or DisconnectReason.CLIENT_INITIATED

    async def _join(self) -> None:
        """Takes a place in the room, within `connect_timeout`.

        Raises:
            ConnectError: It could not be taken.
            DisconnectedError: The room ended meanwhile.
        """
        timeout = self._options.connect_timeout
        with anyio.move_on_after(timeout) as scope:
            token = self._token if isinstance(self._token, str) else await _fresh(self._token)
            grants = read_token(token, room=self._room_name)
            self._log.concerns(grants.identity, grants.room)
            room = rtc.new_room()
            adapter = RoomAdapter(
                room, self._readers_of_session, self._pump, self._options, self._log
            )
            try:
                await self._enter(adapter, token, grants)
            except BaseException:
                adapter.undo()
                await rtc.leave(room)
                raise
            self._wiring, self._joined = adapter, time.monotonic()
            # What the user has closed meanwhile was closed in the room before this one.
            if self._pump.finished.is_set():
                await adapter.unpublish()
        if scope.cancelled_caught:
            raise ConnectError(
                f"livekit: cannot join {display_url(self._url)}: no answer within {timeout:g} s"
            )

    async def _enter(self, adapter: RoomAdapter, token: str, grants: Grants) -> None:
        room, pump = adapter.room, self._pump
        if self._options.on_room is not None:
            self._options.on_room(room)
        with adapter.joining:
            await rtc.join(room, self._url, token, grants, self._options)
            if room.name != grants.room:
                raise ConnectError(f"livekit: joined {room.name!r} instead of {grants.room!r}")
            self._room = room
            self._readers_of_session.room_state.restored(room.name)
            adapter.scan()
            if self._options.publish and grants.can_publish and not pump.finished.is_set():
                await adapter.publish()
            else:
                self.receives_only = True
                pump.cancel()
        if adapter.ended.is_set():
            reason = adapter.reason or DisconnectReason.UNKNOWN
            raise DisconnectedError(f"livekit: disconnected: {reason}", reason=reason)

    def _lose_room(self) -> None:
        self._readers_of_session.room_state.interrupted()
        self._readers_of_session.room_state.lose_all()

    async def _rejoin(self, lost: DisconnectReason) -> DisconnectReason | None:
        """Joins anew after a loss; returns why that is over, where it is."""
        timeout = self._options.rejoin_timeout
        if not lost.is_retryable or timeout == 0:
            return lost
        self._current.undo()
        self._lose_room()
        self._log.warning("disconnected: %s; rejoining", lost)
        start = time.monotonic()
        if start - self._joined > STABLE:
            self._backoff = FIRST_BACKOFF
        why: Exception | None = None
        with anyio.move_on_after(timeout):
            while True:
                await anyio.sleep(random.uniform(0.0, self._backoff))  # noqa: S311 - no secret
                self._backoff = min(2 * self._backoff, LAST_BACKOFF)
                try:
                    await self._join()
                except (AuthenticationError, ConfigError) as error:  # no other try will mend it
                    self.detail = f"cannot rejoin: {_text(error)}"
                    return lost
                except DisconnectedError as error:
                    if not error.reason.is_retryable:
                        return error.reason
                    why = error
                except Exception as error:  # noqa: BLE001 - the user's callables fail as networks do
                    why = error
                else:
                    self._log.info("rejoined after %.1f s", time.monotonic() - start)
                    return None
                self._lose_room()
                self._log.warning("not rejoined yet: %s", _text(why))
        self.detail = f"could not rejoin within {timeout:g} s"
        if why is not None:
            self.detail += f": {_text(why)}"
        return lost


class AttachedConnection:
    """A room that somebody else has joined, and will leave: it is left as it was found."""

    linger = LINGER

    def __init__(self, room: rtc.Room, options: SessionOptions, log: SessionLog) -> None:
        self.room = room
        self._options = options
        self._log = log
        self._wiring: RoomAdapter | None = None
        self.receives_only = False
        self.reason: DisconnectReason | None = None
        self.detail = ""

    async def join(self, readers: TrackReaders, pump: SendPump) -> None:
        self._pump = pump
        if not self.room.isconnected():
            raise ConnectError("livekit: the room to attach to is not connected", retryable=False)
        self._log.concerns(self.room.local_participant.identity, self.room.name)
        adapter = self._wiring = RoomAdapter(
            self.room, readers, pump, self._options, self._log, patience=OWNERS_PATIENCE
        )
        adapter.scan()
        if self._options.publish and rtc.may_publish(self.room):
            timeout = self._options.connect_timeout
            with anyio.move_on_after(timeout) as scope, adapter.joining:
                await adapter.publish()
            if adapter.ended.is_set():
                why = adapter.reason or "the room has ended"
                raise ConnectError(f"livekit: cannot attach: {why}", retryable=False)
            if scope.cancelled_caught:
                raise ConnectError(f"livekit: cannot attach: no answer within {timeout:g} s")
        else:
            self.receives_only = True
            pump.cancel()
        self._log.info("attached")

    async def run(self) -> None:
        assert self._wiring is not None  # noqa: S101 - for the type checker: it has been joined
        await self._wiring.ended.wait()
        # Where nobody says why, the owner has left, which is the owner's business.
        self.reason = self._wiring.reason or DisconnectReason.CLIENT_INITIATED

    async def stop_sending(self) -> None:
        if self._wiring is not None:
            await self._wiring.unpublish()

    def mute(self, muted: bool) -> None:
        if self._wiring is not None:
            self._pump.muted = muted
            self._wiring.apply_mute()

    async def press(self, code: int, digit: str) -> None:
        await rtc.press(self.room, code, digit)

    async def leave(self) -> None:
        if self._wiring is None:
            return
        await self._wiring.settle()
        with anyio.move_on_after(rtc.CLOSE_TIMEOUT):
            await self._wiring.unsubscribe()
        self._wiring.undo()
        await self._wiring.unpublish()
        self.reason = self.reason or self._wiring.reason or DisconnectReason.CLIENT_INITIATED


async def _fresh(token: Any) -> str:
    """Asks the user's callable for a token."""
    fresh = token()
    if inspect.isawaitable(fresh):
        fresh = await fresh
    if not isinstance(fresh, str):
        raise ConfigError(f"livekit: the token callable returned {type(fresh).__name__}, not str")
    return fresh


def _text(error: Exception) -> str:
    return scrub(str(error)).removeprefix("livekit: ") or type(error).__name__
