"""The event loop, the server, and a check that each test leaves nothing behind."""

from __future__ import annotations

import gc
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from livekit import api
from support import livekit_server
from support.leaks import native_event_subscribers
from support.livekit_server import Server
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory, mint_token


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.addoption("--require-server", action="store_true", help="fail without, never skip")


def pytest_collection_finish() -> None:
    """Exempt the imported modules from the garbage collection after each test."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Undo the exemption: hypothesis looks for referrers when it writes its summary."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    uvloop = request.config.getoption("--loop") == "uvloop"
    return "asyncio", {"debug": True, "use_uvloop": uvloop}


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if livekit_server.server_from_environment() is None and livekit_server.find_binary() is None:
        message = "needs the LiveKit server: python tests/support/livekit_server.py builds it"
        if request.config.getoption("--require-server"):
            pytest.fail(message)
        pytest.skip(message)
    with livekit_server.serve() as running:
        yield running


@pytest.fixture
def room_name() -> str:
    """The name of a room that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def token(server: Server, room_name: str) -> TokenFactory:
    """Mints tokens for this test's room."""

    def mint(identity: str, **grants: Any) -> str:
        return mint_token(server, grants.pop("room", room_name), identity, **grants)

    return mint


@pytest.fixture
async def admin(server: Server, room_name: str) -> AsyncIterator[RoomAdmin]:
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        yield RoomAdmin(client, room_name)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Reject threads and native event subscribers that remain; unclosed objects warn by `gc`."""
    threads = set(threading.enumerate())
    before = native_event_subscribers()
    yield
    gc.collect()
    left = [thread for thread in set(threading.enumerate()) - threads if not thread.daemon]
    names = [thread.name for thread in left if "asyncio" not in thread.name]
    assert not names
    # One subscriber is the package's and stays: it answers connects whose callers were cancelled.
    assert native_event_subscribers() <= max(before, 1)
