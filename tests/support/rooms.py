"""A room for several sessions, on the real server or without one: the same tests run in both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import numpy as np
from conftest import Admin, MakeToken
from numpy.typing import NDArray

from beluga_livekit import LiveKitSession, open_livekit
from beluga_livekit.testing import LoopbackRoom
from support import peers
from support.audio import DEADLINE
from support.livekit_server import Server

Say = Callable[[NDArray[np.int16]], Awaitable[None]]


class Gathering(Protocol):
    def open(
        self,
        identity: str,
        *,
        kind: str = "standard",
        attributes: dict[str, str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[LiveKitSession]:
        """Returns a session that is yet to join."""

    def visit(self, identity: str) -> AbstractAsyncContextManager[Say]:
        """Returns somebody who is yet to join, says 48 kHz samples and hears nothing."""

    async def change(self, identity: str, attributes: dict[str, str]) -> None: ...

    async def mute(self, identity: str) -> None:
        """As a server does."""

    async def remove(self, identity: str) -> None: ...

    async def delete(self) -> None: ...


class ServerGathering:
    def __init__(self, server: Server, token: MakeToken, admin: Admin) -> None:
        self._url = server.url
        self._token = token
        self._admin = admin

    def open(
        self,
        identity: str,
        *,
        kind: str = "standard",
        attributes: dict[str, str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[LiveKitSession]:
        token = self._token(identity, kind=kind, attributes=attributes)
        return open_livekit(self._url, token, **options)

    @asynccontextmanager
    async def visit(self, identity: str) -> AsyncGenerator[Say, None]:
        async with peers.join(self._url, self._token(identity), auto_subscribe=False) as peer:

            async def speak_up(samples: NDArray[np.int16]) -> None:
                await peer.publish("MICROPHONE")
                await peer.say(samples)
                await anyio.sleep(0.2)  # what is on its way is lost with the track
                await peer.unpublish()

            yield speak_up

    async def change(self, identity: str, attributes: dict[str, str]) -> None:
        await self._admin.change(identity, attributes)

    async def mute(self, identity: str) -> None:
        await self._admin.mute(identity)

    async def remove(self, identity: str) -> None:
        await self._admin.remove(identity)

    async def delete(self) -> None:
        await self._admin.delete_room()


class LoopbackGathering:
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
    async def visit(self, identity: str) -> AsyncGenerator[Say, None]:
        async with self._room.open(identity, participants=()) as member:

            async def speak_up(samples: NDArray[np.int16]) -> None:
                await member.play(samples.tobytes(), sample_rate=48000)

            yield speak_up

    async def change(self, identity: str, attributes: dict[str, str]) -> None:
        self._room.update(identity, attributes=attributes)

    async def mute(self, identity: str) -> None:
        self._room.mute(identity)

    async def remove(self, identity: str) -> None:
        self._room.remove(identity)

    async def delete(self) -> None:
        self._room.delete()


async def until(condition: Any) -> None:
    """Waits until something has come true."""
    with anyio.fail_after(DEADLINE):
        while not condition():
            await anyio.sleep(0.01)
