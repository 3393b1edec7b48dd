"""Fixtures for pytest: `from beluga_livekit.testing import loopback_room` in your `conftest.py`."""

from __future__ import annotations

import pytest

from ._loopback_room import LoopbackRoom

__all__ = ["loopback_room"]


@pytest.fixture
def loopback_room() -> LoopbackRoom:
    """A room without a server: `async with loopback_room.open("caller") as caller`."""
    return LoopbackRoom()
