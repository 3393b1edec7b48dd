"""LoopbackRoom: its own arguments, participants and ends."""

from __future__ import annotations

import logging

import anyio
import pytest
from support.audio import (
    collect_frames,
    frames_of_tone,
    measure,
    play_tone,
    receive_until_end,
    receive_until_silent,
    samples_of,
    send_frames,
)
from support.events import EventRecorder
from support.waiting import wait_for

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
from beluga_livekit.events import TrackPublished, TrackUndecryptable, TrackUnpublished
from beluga_livekit.testing import LoopbackRoom, loopback_room

pytestmark = pytest.mark.anyio

__all__ = ["loopback_room"]


async def test_fixture_is_open_room(loopback_room: LoopbackRoom) -> None:
    """Contract: the `loopback_room` fixture is ready for sessions."""
    async with loopback_room.open("bot"), loopback_room.open("caller"):
        assert [each.identity for each in loopback_room.participants] == ["bot", "caller"]
    assert not loopback_room.participants


async def test_sessions_receive_each_other_but_not_themselves() -> None:
    """Contract: audio of one session arrives at the others only."""
    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller") as caller:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_frames, caller.tx, frames_of_tone(440, 0.5, 16000))
            frames = await receive_until_silent(bot.rx)
        assert {frame.participant for frame in frames} == {"caller"}
        received = measure(samples_of(frames), 16000)
        assert received.frequency == pytest.approx(440, abs=1)
        assert received.duration == pytest.approx(0.5, abs=0.04)
        assert not any([(await caller.receive()).samples.any() for _ in range(10)])


async def test_first_frame_waits_for_subscriber() -> None:
    """Contract: playback starts when a participant subscribes to the track."""
    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send_frames, bot.tx, frames_of_tone(440, 0.5, 16000))
        await anyio.sleep(0.2)  # 20 blocks would be played.
        assert bot.statistics().send.seconds == 0
        async with room.open("deaf", participants="nobody"):
            await anyio.sleep(0.1)  # 10 blocks would be played.
            assert bot.statistics().send.seconds == 0
            async with room.open("caller") as caller:
                frames = await receive_until_silent(caller.rx)
                assert measure(samples_of(frames), 16000).duration > 0.45


async def test_participant_has_given_fields() -> None:
    """Contract: name, kind, attributes and metadata reach the other sessions."""
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


async def test_duplicate_identity_disconnects_first_session() -> None:
    """Contract: as on a server, the second session of an identity replaces the first."""
    async with LoopbackRoom() as room, room.open("bot") as bot:
        with pytest.raises(DisconnectedError, match="duplicate_identity"):
            async with room.open("caller") as first, room.open("caller") as second:
                await receive_until_end(first)
                await send_frames(second.tx, frames_of_tone(440, 0.5, 16000))
                await receive_until_silent(bot.rx)
        assert bot.disconnect_reason is None


@pytest.mark.parametrize("how", ["deleted", "removed", "left"])
async def test_hangup_leaves_block_without_error(how: str) -> None:
    """Contract: rx ends and the session's own DisconnectedError is absorbed."""
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
        await receive_until_end(bot)
        assert bot.disconnect_reason is reasons[how]
        while True:  # The send raises, which ends the block.
            await (bot if how != "removed" else caller).send(AudioFrame(bytes(640), 16000))
            if how == "removed":
                break
    assert not room.participants


async def test_closed_tx_unpublishes_track() -> None:
    """Contract: closing tx unpublishes; the participant stays."""
    events = EventRecorder()
    async with (
        anyio.create_task_group() as tasks,
        LoopbackRoom() as room,
        room.open("bot") as bot,
        room.open("caller") as caller,
    ):
        tasks.start_soon(events.record, bot)
        await events.wait_for(TrackPublished)
        await caller.tx.aclose()
        await events.wait_for(TrackUnpublished)
        assert "caller" in bot.participants


async def test_handler_that_is_not_async_is_rejected() -> None:
    """Contract: a synchronous handler is a TypeError that names it."""

    def handle(stream: ParticipantStream) -> None: ...

    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller"):
        with pytest.raises(ExceptionGroup) as caught:
            await bot.for_each_participant(handle)  # type: ignore[arg-type]
        assert caught.group_contains(TypeError, match="handle.* must be async")


async def test_absorbed_disconnect_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: a block ended by an absorbed error leaves a log line."""
    caplog.set_level(logging.INFO)
    async with LoopbackRoom(absorb=True) as room, room.open("bot") as bot:
        room.remove("bot")
        await receive_until_end(bot)
        await bot.send(AudioFrame(bytes(640), 16000))
    assert "the block was left by: livekit: disconnected: participant_removed" in caplog.text


async def test_encrypted_member_is_received_as_silence_until_it_is_decrypted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: audio without a key never reaches rx; one event and one warning say so."""
    log = EventRecorder()
    async with (
        LoopbackRoom() as room,
        room.open("bot") as bot,
        room.open("ann") as ann,
        anyio.create_task_group() as tasks,
        collect_frames(bot.rx) as received,
    ):
        tasks.start_soon(log.record, bot)
        room.encrypt("ann")
        await play_tone(ann, 440, 0.5)
        assert (await log.wait_for(TrackUndecryptable)).participant.identity == "ann"
        assert {frame.participant for frame in received.frames} == {"ann"}
        assert not any(frame.samples.any() for frame in received.frames[1:])
        room.decrypt("ann")
        await play_tone(ann, 440, 0.3)
        await wait_for(lambda: received.loud_seconds_from("ann") > 0.2)
        tasks.cancel_scope.cancel()
    assert caplog.text.count("of 'ann' failed: the session has no key") == 1
    assert not [each for each in log.events if isinstance(each, TrackUndecryptable)]


async def test_loopback_room_rejects_wrong_arguments() -> None:
    """Contract: wrong arguments raise at the call."""
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
