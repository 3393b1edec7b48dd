"""Cancellation of a join leaves no task, and no participant in the room."""

from __future__ import annotations

import anyio
import pytest
from support.cancellation import cancel_at_every_checkpoint
from support.leaks import assert_no_own_tasks
from support.livekit_server import Server
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import wait_for

from beluga_livekit import AudioFrame, open_livekit
from beluga_livekit._sdk import private_names

pytestmark = pytest.mark.anyio


async def test_session_can_be_cancelled_at_every_checkpoint(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: cancelled anywhere, a session leaves no task and no participant."""
    granted = token("bot")

    async def run() -> None:
        async with open_livekit(server.url, granted, subscription_timeout=0) as session:
            await session.tx.send(AudioFrame(bytes(640), 16000))
            await session.wait_for_playout()

    async def check() -> None:
        await assert_no_own_tasks()
        await wait_for(admin.is_empty)

    assert await cancel_at_every_checkpoint(run, check) > 5


async def test_identity_can_join_right_after_cancelled_join(
    server: Server, token: TokenFactory
) -> None:
    """SDK quirk: the native attempt goes on, and would displace the next join of the identity."""
    for milliseconds in range(5, 65, 10):
        with anyio.move_on_after(milliseconds / 1000) as scope:
            async with open_livekit(server.url, token("bot"), publish=False):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with open_livekit(server.url, token("bot"), publish=False) as session:
            await anyio.sleep(0.2)  # The old attempt would land now.
            assert session.disconnect_reason is None


async def test_cancelled_join_is_awaited_when_sdk_private_names_have_moved(
    server: Server, token: TokenFactory, admin: RoomAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDK quirk: private names may move (injected); a join is then awaited, not abandoned."""
    monkeypatch.setattr(private_names, "SUPPORTED", False)
    for milliseconds in (1, 20, 60):
        with anyio.move_on_after(milliseconds / 1000) as scope:
            async with open_livekit(server.url, token(f"bot-{milliseconds}"), publish=False):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        await assert_no_own_tasks()
        await anyio.sleep(0.3)  # A participant would appear now.
        assert await admin.identities() == set()
    async with open_livekit(server.url, token("bot")):
        assert await admin.identities() == {"bot"}
