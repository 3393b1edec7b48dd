"""A room without a server, where it differs from one: what it is asked for, and who owns what."""

from __future__ import annotations

import logging

import anyio
import pytest
from support.audio import cut, ended, hear, measure, samples_of, say, tone
from support.rooms import until

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
    Participant,
    ParticipantKind,
    ParticipantStream,
)
from beluga_livekit.testing import LoopbackRoom, loopback_room

pytestmark = pytest.mark.anyio

__all__ = ["loopback_room"]


async def test_the_fixture_is_a_room(loopback_room: LoopbackRoom) -> None:
    async with loopback_room.open("bot"), loopback_room.open("caller"):
        assert [each.identity for each in loopback_room.participants] == ["bot", "caller"]
    assert not loopback_room.participants


async def test_members_hear_each_other_and_not_themselves() -> None:
    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller") as caller:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say, caller.tx, cut(tone(440, 0.5, 16000), 16000))
            frames = await hear(bot.rx)
        assert {frame.participant for frame in frames} == {"caller"}
        heard = measure(samples_of(frames), 16000)
        assert heard.frequency == pytest.approx(440, abs=1)
        assert heard.duration == pytest.approx(0.5, abs=0.04)
        assert not any(frame.samples.any() for frame in await read(caller.receive, 10))


async def read(receive: object, count: int) -> list[AudioFrame]:
    return [await receive() for _ in range(count)]  # type: ignore[operator]


async def test_the_first_word_waits_for_somebody_who_hears() -> None:
    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(say, bot.tx, cut(tone(440, 0.5, 16000), 16000))
        await anyio.sleep(0.2)
        assert bot.statistics().seconds_sent == 0
        async with room.open("deaf", participants="nobody"):
            await anyio.sleep(0.1)
            assert bot.statistics().seconds_sent == 0
            async with room.open("caller") as caller:
                assert measure(samples_of(await hear(caller.rx)), 16000).duration > 0.45


async def test_what_a_member_looks_like() -> None:
    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        room.open("phone", name="Ann", kind="sip", attributes={"a": "b"}, metadata="m"),
    ):
        phone = await bot.wait_for_participant()
        expected = Participant("phone", "Ann", ParticipantKind.SIP, {"a": "b"}, "m")
        assert phone == expected
        with pytest.raises(TypeError):
            phone.attributes["a"] = "c"  # type: ignore[index]


async def test_a_twin_throws_the_first_one_out() -> None:
    async with LoopbackRoom() as room, room.open("bot") as bot:
        with pytest.raises(DisconnectedError, match="duplicate_identity"):
            async with room.open("caller") as first, room.open("caller") as second:
                await ended(first)
                await say(second.tx, cut(tone(440, 0.5, 16000), 16000))
                await hear(bot.rx)
        assert bot.disconnect_reason is None


@pytest.mark.parametrize("how", ["deleted", "removed", "left"])
async def test_the_end_of_the_room_is_no_traceback(how: str) -> None:
    reasons = {
        "deleted": DisconnectReason.ROOM_DELETED,
        "removed": DisconnectReason.PARTICIPANT_REMOVED,
        "left": DisconnectReason.ROOM_DELETED,
    }
    room = LoopbackRoom(absorb=True)
    async with room.open("bot") as bot, room.open("caller") as caller:
        if how == "deleted":
            room.delete()
        elif how == "removed":
            room.remove("bot")
        else:
            async with room:
                pass
        await ended(bot)
        assert bot.disconnect_reason is reasons[how]
        while True:  # what speaks is told so, which ends the block
            await (bot if how != "removed" else caller).send(AudioFrame(bytes(640), 16000))
            if how == "removed":
                break
    assert not room.participants


async def test_a_closed_tx_is_no_track_any_more() -> None:
    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller") as caller:
        await caller.tx.aclose()
        await until(lambda: not bot._runner.room_state.tracks)
        assert "caller" in bot._runner.room_state.participants


async def test_a_handler_that_is_no_coroutine_is_named() -> None:
    def handle(stream: ParticipantStream) -> None: ...

    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller"):
        with pytest.raises(ExceptionGroup) as caught:
            await bot.for_each_participant(handle)  # type: ignore[arg-type]
        assert caught.group_contains(TypeError, match="handle.* must be async")


async def test_the_end_of_a_block_that_is_not_run_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with LoopbackRoom(absorb=True) as room, room.open("bot") as bot:
        room.remove("bot")
        await ended(bot)
        await bot.send(AudioFrame(bytes(640), 16000))
    assert "the block was left by: livekit: disconnected: participant_removed" in caplog.text


async def test_what_is_asked_for_wrongly_is_told_at_once() -> None:
    room = LoopbackRoom()
    with pytest.raises(ConfigError, match="kind must be one of"):
        room.open("bot", kind="robot")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="identity must be"):
        room.open("")
    with pytest.raises(ConfigError, match="attributes must be strings"):
        room.open("bot", attributes={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="did you mean 'sample_rate'"):
        room.open("bot", samplerate=8000)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="sample_rate must be"):
        room.open("bot", sample_rate=1)
    with pytest.raises(ConfigError, match="must be a member's, got 'bot'; members: none"):
        room.remove("bot")
    async with room.open("bot") as bot:
        with pytest.raises(LiveKitError, match="no room"):
            _ = bot.room
