"""A room for several sessions, on the server or as a `LoopbackRoom`: one interface for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import numpy as np
from numpy.typing import NDArray

from beluga_livekit import LiveKitSession, open_livekit
from beluga_livekit.testing import LoopbackRoom
from support.livekit_server import Server
from support.raw_participant import join_raw
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory

PlayOnce = Callable[[NDArray[np.int16]], Awaitable[None]]


class RoomUnderTest(Protocol):
    def open(
        self,
        identity: str,
        *,
        kind: Any = "standard",
        attributes: dict[str, str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[LiveKitSession]:
        """Return the context manager of a session in this room."""

    def open_source(self, identity: str) -> AbstractAsyncContextManager[PlayOnce]:
        """Return a participant without subscriptions; it publishes, plays and unpublishes."""

    async def update_attributes(self, identity: str, attributes: dict[str, str]) -> None: ...

    async def mute(self, identity: str) -> None:
        """Mute a participant from the server's side."""

    async def remove(self, identity: str) -> None: ...


class ServerRoomUnderTest:
    """A room of the real server."""

    def __init__(self, server: Server, token: TokenFactory, admin: RoomAdmin) -> None:
        self._url = server.url
        self._token = token
        self._admin = admin

    def open(
        self,
        identity: str,
        *,
        kind: Any = "standard",
        attributes: dict[str, str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[LiveKitSession]:
        token = self._token(identity, kind=kind, attributes=attributes)
        return open_livekit(self._url, token, **options)

    @asynccontextmanager
    async def open_source(self, identity: str) -> AsyncGenerator[PlayOnce, None]:
        async with join_raw(self._url, self._token(identity), auto_subscribe=False) as raw:

            async def play_once(samples: NDArray[np.int16]) -> None:
                await raw.publish("MICROPHONE")
                await raw.play(samples)
                # The track's end discards audio that is still on its way (up to 0.2 s).
                await anyio.sleep(0.2)
                await raw.unpublish()

            yield play_once

    async def update_attributes(self, identity: str, attributes: dict[str, str]) -> None:
        await self._admin.update_attributes(identity, attributes)

    async def mute(self, identity: str) -> None:
        await self._admin.mute(identity)

    async def remove(self, identity: str) -> None:
        await self._admin.remove(identity)


class LoopbackRoomUnderTest:
    """A room without a server."""

    def __init__(self) -> None:
        self._room = LoopbackRoom(absorb=True)

    def open(
        self,
        identity: str,
        *,
        kind: Any = "standard",
        attributes: dict[str, str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[LiveKitSession]:
        return self._room.open(identity, kind=kind, attributes=attributes or {}, **options)

    @asynccontextmanager
    async def open_source(self, identity: str) -> AsyncGenerator[PlayOnce, None]:
        async with self._room.open(identity, participants=()) as session:

            async def play_once(samples: NDArray[np.int16]) -> None:
                await session.play(samples.tobytes(), sample_rate=48000)

            yield play_once

    async def update_attributes(self, identity: str, attributes: dict[str, str]) -> None:
        self._room.update(identity, attributes=attributes)

    async def mute(self, identity: str) -> None:
        self._room.mute(identity)

    async def remove(self, identity: str) -> None:
        self._room.remove(identity)
