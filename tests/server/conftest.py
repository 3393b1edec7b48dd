"""Fixtures of the real server."""

from __future__ import annotations

import pytest
from support.livekit_server import Server
from support.room_admin import RoomAdmin
from support.rooms import RoomUnderTest, ServerRoomUnderTest
from support.tokens import TokenFactory


@pytest.fixture
def room(server: Server, token: TokenFactory, admin: RoomAdmin) -> RoomUnderTest:
    """A room of the server; loopback/conftest.py has its counterpart."""
    return ServerRoomUnderTest(server, token, admin)
