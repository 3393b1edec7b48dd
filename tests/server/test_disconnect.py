"""The end of a session: hang-ups, errors, and the session that absorbs them."""

from __future__ import annotations

import anyio
import pytest
from support.audio import receive_until_end
from support.livekit_server import Server
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import DEADLINE

from beluga_livekit import AudioFrame, DisconnectedError, DisconnectReason, open_livekit

pytestmark = pytest.mark.anyio


async def test_own_exit_has_client_initiated_reason(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: leaving the block leaves the room."""
    async with open_livekit(server.url, token("bot")) as session:
        assert await admin.identities() == {"bot"}
    assert session.disconnect_reason is DisconnectReason.CLIENT_INITIATED
    assert await admin.identities() == set()


async def test_removed_participant_ends_rx_without_error(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: a hang-up ends rx, sends raise, and the block absorbs its own error."""
    async with open_livekit(server.url, token("bot")) as session:
        await admin.remove("bot")
        await receive_until_end(session)
        with pytest.raises(DisconnectedError) as caught:
            await session.send(AudioFrame(bytes(640), 16000))
        assert caught.value.reason is DisconnectReason.PARTICIPANT_REMOVED
    assert session.disconnect_reason is DisconnectReason.PARTICIPANT_REMOVED


@pytest.mark.parametrize("in_a_group", [True, False])
async def test_send_ends_block_without_error_when_room_is_deleted(
    server: Server, token: TokenFactory, admin: RoomAdmin, in_a_group: bool
) -> None:
    """Contract: the session's own DisconnectedError is absorbed, in an ExceptionGroup too."""

    async def send_forever(tx: anyio.abc.ObjectSendStream[AudioFrame]) -> None:
        while True:
            await tx.send(AudioFrame(bytes(640), 16000))

    with anyio.fail_after(DEADLINE):
        async with open_livekit(server.url, token("bot"), subscription_timeout=0) as session:
            await session.send(AudioFrame(bytes(640), 16000))
            await admin.delete_room()
            if in_a_group:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send_forever, session.tx)
                    tasks.start_soon(send_forever, session.tx)
            else:
                await send_forever(session.tx)
    assert session.disconnect_reason is DisconnectReason.ROOM_DELETED


async def test_other_error_is_raised_with_disconnect_note(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: other exceptions propagate, with a note of the disconnect."""
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_livekit(server.url, token("bot")) as session:
            await admin.remove("bot")
            await receive_until_end(session)
            1 / 0  # noqa: B018
    assert caught.value.__notes__ == [
        "livekit: the session had been disconnected: participant_removed"
    ]


async def test_duplicate_identity_raises(server: Server, token: TokenFactory) -> None:
    """Contract: a second session of the identity is no hang-up."""
    with pytest.raises(DisconnectedError, match="duplicate_identity") as caught:
        async with (
            open_livekit(server.url, token("bot")) as first,
            open_livekit(server.url, token("bot")),
        ):
            await receive_until_end(first)
    assert caught.value.reason is DisconnectReason.DUPLICATE_IDENTITY


async def test_nested_session_does_not_absorb_outer_disconnect(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: each session absorbs only its own error."""
    passed_inner_session = False
    async with open_livekit(server.url, token("outer")) as outer:
        try:
            async with open_livekit(server.url, token("inner")):
                await admin.remove("outer")
                await receive_until_end(outer)
                await outer.send(AudioFrame(bytes(640), 16000))
        except DisconnectedError:
            passed_inner_session = True
            raise
    assert passed_inner_session
