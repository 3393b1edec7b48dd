"""`beluga_livekit.testing`: what its rooms raise, how they update, and its fixture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest
from support.audio import receive_until_end

from beluga_livekit import (
    AudioFrame,
    DisconnectedError,
    DisconnectReason,
    Participant,
)
from beluga_livekit.testing import LoopbackRoom, loopback_room

pytestmark = pytest.mark.anyio

__all__ = ["loopback_room"]


async def test_loopback_room_raises_disconnected_error_of_send_unless_absorb() -> None:
    """Contract: a test must not pass because the rest of its block was skipped."""
    async with LoopbackRoom() as room:
        with pytest.raises(DisconnectedError, match="participant_removed") as caught:
            async with room.open("bot") as bot:
                room.remove("bot")
                await receive_until_end(bot)
                await bot.send(AudioFrame(bytes(640), 16000))
        assert caught.value.reason is DisconnectReason.PARTICIPANT_REMOVED


async def test_loopback_room_group_of_disconnected_errors_leaves_the_block() -> None:
    """Contract: a group of nothing but the session's own errors is not absorbed either."""
    async with LoopbackRoom() as room:
        with pytest.raises(ExceptionGroup) as caught:
            async with room.open("bot") as bot, anyio.create_task_group() as tasks:
                room.remove("bot")
                await receive_until_end(bot)
                tasks.start_soon(bot.send, AudioFrame(bytes(640), 16000))
        assert caught.group_contains(DisconnectedError, match="participant_removed")


@pytest.mark.parametrize("absorb", [False, True])
async def test_loopback_room_block_is_left_cleanly_after_hangup_without_send(absorb: bool) -> None:
    """Contract: a hang-up is no error by itself, with and without `absorb`."""
    async with LoopbackRoom(absorb=absorb) as room, room.open("bot") as bot:
        room.remove("bot")
        await receive_until_end(bot)
        assert bot.disconnect_reason is DisconnectReason.PARTICIPANT_REMOVED


async def test_loopback_room_update_merges_attributes_and_removes_empty_ones() -> None:
    """Contract: an update of a member acts as LiveKit's UpdateParticipant does."""
    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        room.open("caller", attributes={"a": "1", "b": "2"}),
    ):
        room.update("caller", name="Ann", attributes={"a": "", "c": "3"}, metadata="m")
        expected = Participant("caller", "Ann", attributes={"b": "2", "c": "3"}, metadata="m")
        assert await bot.wait_for_participant() == expected


@pytest.fixture
def deleted_rooms(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LoopbackRoom]]:
    """The rooms deleted so far. A test requests it first: it is torn down last."""
    deleted: list[LoopbackRoom] = []

    def delete(room: LoopbackRoom) -> None:
        deleted.append(room)

    monkeypatch.setattr(LoopbackRoom, "delete", delete)
    yield deleted
    assert len(deleted) == 1


def test_loopback_room_fixture_deletes_its_room_on_teardown(
    deleted_rooms: list[LoopbackRoom], loopback_room: LoopbackRoom
) -> None:
    """Contract: the teardown of `deleted_rooms` asserts that of `loopback_room`."""
    assert not loopback_room.participants
    assert not deleted_rooms


def test_testing_imports_without_pytest() -> None:
    """Contract: a program can use a `LoopbackRoom` where pytest is not installed."""
    code = (
        "import sys\n"
        "sys.modules['pytest'] = None\n"
        "from beluga_livekit import testing\n"
        "assert testing.__all__ == ['LoopbackRoom']\n"
        "testing.LoopbackRoom().open('bot')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
