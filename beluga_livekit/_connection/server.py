"""`ServerConnection`: a room on a server, joined with a token, and rejoined when it is lost."""

import inspect
import time
from typing import Any

import anyio

from .._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    display_url,
    scrub,
)
from .._options import SessionOptions
from .._sdk import rtc
from .._token import Grants, Token, read_token
from .base import Outcome, SessionParts
from .rejoin import Backoff
from .room_adapter import RoomAdapter
from .room_connection import RoomConnection


class ServerConnection(RoomConnection):
    """Joins a room, and rejoins it under the same rx and tx."""

    def __init__(
        self, url: str, token: Token, room: str | None, options: SessionOptions, parts: SessionParts
    ) -> None:
        super().__init__(options, parts)
        self._url = url
        self._token = token
        self._room_name = room
        self._backoff = Backoff()

    async def join(self) -> None:
        try:
            await self._join()
        except DisconnectedError as error:
            raise ConnectError(
                f"livekit: joining {display_url(self._url)} failed: {error.reason}",
                retryable=error.reason.is_retryable,
            ) from None
        self._room_name = self.room.name
        self._parts.log.info("joined")

    async def _stay(self) -> Outcome:
        while True:
            await self.adapter.ended.wait()
            if (outcome := await self._rejoin(self.adapter)) is not None:
                return outcome

    async def leave(self) -> DisconnectReason:
        if (adapter := self._adapter) is not None:
            await adapter.settle()
            adapter.close()
            if not adapter.is_reconnecting:
                # Left while a track is being connected, the SDK leaks its threads.
                await self._microphone.unpublish(adapter.room)
            await rtc.leave(adapter.room)
        return DisconnectReason.CLIENT_INITIATED

    async def _join(self) -> None:
        """Join within `connect_timeout`; DisconnectedError if the room ended meanwhile."""
        timeout = self._options.connect_timeout
        with anyio.move_on_after(timeout):
            token = self._token if isinstance(self._token, str) else await _fresh(self._token)
            grants = read_token(token, room=self._room_name)
            self._parts.log.bind(grants.identity, grants.room)
            previous = self._adapter
            adapter = RoomAdapter(rtc.new_room(), self._parts, self._microphone)
            try:
                await self._enter(adapter, token, grants)
            except BaseException:
                self._adapter = previous
                adapter.close()
                await rtc.leave(adapter.room)
                raise
            self._backoff.connected()
            if self._parts.pump.finished.is_set():  # tx was closed in the room before this one
                await self.unpublish()
            return
        raise ConnectError(
            f"livekit: joining {display_url(self._url)} failed: no answer within {timeout:g} s"
        )

    async def _enter(self, adapter: RoomAdapter, token: str, grants: Grants) -> None:
        room, parts, options = adapter.room, self._parts, self._options
        if options.on_room is not None:
            options.on_room(room)
        with adapter.joining:
            await rtc.join(room, self._url, token, grants, options)
            if room.name != grants.room:
                raise ConnectError(
                    f"livekit: joining {grants.room!r} failed: the server chose {room.name!r}"
                )
            self._adapter, self._room = adapter, room
            parts.room_state.set_connected(rejoined=room.name)
            await self._begin(adapter, may_publish=grants.can_publish)
        if adapter.ended.is_set():
            reason = adapter.reason or DisconnectReason.UNKNOWN
            raise DisconnectedError(f"livekit: disconnected: {reason}", reason=reason)

    async def _rejoin(self, adapter: RoomAdapter) -> Outcome | None:
        """Rejoin after a loss; return the outcome of the session if that fails."""
        parts = self._parts
        timeout, lost = self._options.rejoin_timeout, adapter.reason or DisconnectReason.UNKNOWN
        if not lost.is_retryable or timeout == 0:
            return Outcome(lost)
        adapter.close()
        parts.room_state.set_rejoining()
        parts.log.warning("disconnected: %s; rejoining", lost)
        start = time.monotonic()
        self._backoff.lost()
        error: Exception | None = None
        with anyio.move_on_after(timeout):
            while True:
                await self._backoff.wait()
                try:
                    await self._join()
                except (AuthenticationError, ConfigError) as final:
                    return Outcome(lost, f"rejoining failed: {_text(final)}")
                except Exception as failed:  # noqa: BLE001 - the user's callables fail as networks do
                    if isinstance(failed, DisconnectedError) and not failed.reason.is_retryable:
                        return Outcome(failed.reason)
                    error = failed
                else:
                    parts.log.info("rejoined after %.1f s", time.monotonic() - start)
                    return None
                parts.room_state.set_rejoining()
                parts.log.warning("rejoining failed: %s; trying again", _text(error))
        detail = f"rejoining failed: not within {timeout:g} s"
        return Outcome(lost, detail if error is None else f"{detail}: {_text(error)}")


async def _fresh(token: Any) -> str:
    """Call the user's callable for a token."""
    fresh = token()
    if inspect.isawaitable(fresh):
        fresh = await fresh
    if not isinstance(fresh, str):
        raise ConfigError(f"livekit: the token callable returned {type(fresh).__name__}, not str")
    return fresh


def _text(error: Exception) -> str:
    return scrub(str(error)).removeprefix("livekit: ") or type(error).__name__
