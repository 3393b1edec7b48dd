"""What every test stands on: the event loop, the real server, and a look for what was left."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from livekit import api
from livekit.rtc._ffi_client import FfiClient
from support import livekit_server
from support.livekit_server import Server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.addoption("--require-server", action="store_true", help="fail without, never skip")


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    uvloop = request.config.getoption("--loop") == "uvloop"
    return "asyncio", {"debug": True, "use_uvloop": uvloop}


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if livekit_server.given() is None and livekit_server.find() is None:
        message = "needs the LiveKit server: python tests/support/livekit_server.py builds it"
        if request.config.getoption("--require-server"):
            pytest.fail(message)
        pytest.skip(message)
    with livekit_server.serve() as running:
        yield running


@pytest.fixture
def room() -> str:
    """The name of a room that no other test is in."""
    return f"test-{secrets.token_hex(6)}"


def mint(
    server: Server,
    room: str,
    identity: str,
    *,
    ttl: float = 600.0,
    secret: str = "",
    kind: Any = "standard",
    attributes: dict[str, str] | None = None,
    **grants: Any,
) -> str:
    """Mints a token; it may join, and what else `grants` says."""
    granted = api.VideoGrants(**{"room_join": True, "room": room, **grants})
    access = api.AccessToken(server.api_key, secret or server.api_secret)
    access = access.with_identity(identity).with_grants(granted).with_kind(kind)
    if attributes is not None:
        access = access.with_attributes(attributes)
    return access.with_ttl(dt.timedelta(seconds=ttl)).to_jwt()


MakeToken = Callable[..., str]


@pytest.fixture
def token(server: Server, room: str) -> MakeToken:
    """Mints tokens for this test's room."""

    def mint_here(identity: str, **grants: Any) -> str:
        return mint(server, grants.pop("room", room), identity, **grants)

    return mint_here


@pytest.fixture
async def admin(server: Server, room: str) -> AsyncIterator[Admin]:
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        yield Admin(client, room)


class Admin:
    """The server's side of a room."""

    def __init__(self, client: api.LiveKitAPI, room: str) -> None:
        self._client = client
        self._room = room

    async def identities(self, *, connected: bool = False) -> set[str]:
        """Who is in the room; or only those whose connection is complete."""
        request = api.ListParticipantsRequest(room=self._room)
        listed = (await self._client.room.list_participants(request)).participants
        active = api.ParticipantInfo.State.ACTIVE
        return {each.identity for each in listed if each.state == active or not connected}

    async def remove(self, identity: str) -> None:
        request = api.RoomParticipantIdentity(room=self._room, identity=identity)
        await self._client.room.remove_participant(request)

    async def change(self, identity: str, attributes: dict[str, str]) -> None:
        """Sets attributes of a participant."""
        await self._client.room.update_participant(
            api.UpdateParticipantRequest(room=self._room, identity=identity, attributes=attributes)
        )

    async def mute(self, identity: str) -> None:
        """Mutes all tracks of a participant, once the server knows of one."""
        request = api.ListParticipantsRequest(room=self._room)
        sids: list[str] = []
        while not sids:
            listed = (await self._client.room.list_participants(request)).participants
            sids = [track.sid for who in listed if who.identity == identity for track in who.tracks]
        for sid in sids:
            await self._client.room.mute_published_track(
                api.MuteRoomTrackRequest(
                    room=self._room, identity=identity, track_sid=sid, muted=True
                )
            )

    async def delete_room(self) -> None:
        await self._client.room.delete_room(api.DeleteRoomRequest(room=self._room))


def own_tasks() -> set[str]:
    """The names of the tasks of ours that run in this event loop."""
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if "beluga" in name}


def subscribers() -> int:
    """How many listeners the SDK's native events have in this process."""
    client = FfiClient._instance
    return 0 if client is None else len(client.queue._subscribers)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread of ours, no subscription to native events, and nothing unclosed (as a warning)."""
    threads = set(threading.enumerate())
    before = subscribers()
    yield
    gc.collect()
    left = [thread for thread in set(threading.enumerate()) - threads if not thread.daemon]
    names = [thread.name for thread in left if "asyncio" not in thread.name]
    assert not names
    # One subscriber is ours and stays: it answers connects whose callers have given up.
    assert subscribers() <= max(before, 1)
