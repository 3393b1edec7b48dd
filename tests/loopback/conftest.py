"""Fixtures without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.rooms import LoopbackRoomUnderTest, RoomUnderTest

from beluga_livekit import LiveKitSession, open_loopback


@pytest.fixture
async def session() -> AsyncIterator[LiveKitSession]:
    async with open_loopback() as session:
        yield session


@pytest.fixture
def room() -> RoomUnderTest:
    """A room without a server; server/conftest.py has its counterpart."""
    return LoopbackRoomUnderTest()
