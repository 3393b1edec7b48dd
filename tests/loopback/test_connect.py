"""Connecting where no LiveKit server answers."""

from __future__ import annotations

import anyio
import pytest
from livekit import rtc
from support.leaks import assert_no_own_tasks
from support.tokens import make_jwt
from support.unresponsive_server import run_unresponsive_server

from beluga_livekit import ConfigError, ConnectError, attach_room, open_livekit

pytestmark = pytest.mark.anyio


async def test_connect_timeout_is_retryable_error() -> None:
    """Contract: `connect_timeout` bounds a join."""
    async with run_unresponsive_server() as url:
        with pytest.raises(
            ConnectError, match=f"joining {url} failed: no answer within 0.5 s"
        ) as caught:
            async with open_livekit(url, make_jwt(), connect_timeout=0.5):
                pass
        assert caught.value.retryable


async def test_cancelled_connect_leaves_no_task() -> None:
    """SDK quirk: unhandled, it ends the process 15 s later; faults/test_exit.py waits for that."""
    async with run_unresponsive_server() as url:
        with anyio.move_on_after(0.2) as scope:
            async with open_livekit(url, make_jwt()):
                pass
        assert scope.cancelled_caught
        await assert_no_own_tasks()


async def test_attach_room_rejects_other_types_and_unconnected_room() -> None:
    """Contract: `attach_room` takes a connected rtc.Room."""
    with pytest.raises(ConfigError, match="room must be an rtc.Room, got str"):
        attach_room("wss://example.com")  # type: ignore[arg-type]
    with pytest.raises(ConnectError, match="is not connected"):
        async with attach_room(rtc.Room()):
            pass
