"""Participants, their events, streams and departure.

server/test_participants_in_room.py runs the same tests in a room of the server.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from support.audio import collect_frames, is_loud, play_tone, receive_until_end
from support.events import EventRecorder
from support.leaks import count_pipelines, own_tasks
from support.rooms import RoomUnderTest
from support.waiting import wait_for

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    DisconnectedError,
    DisconnectReason,
    Participant,
    ParticipantKind,
    ParticipantStream,
    TrackSource,
)
from beluga_livekit.events import (
    Disconnected,
    DtmfReceived,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    TrackMuted,
    TrackPublished,
    TrackUnmuted,
    TrackUnpublished,
)

pytestmark = [pytest.mark.anyio]


async def test_predicate_is_applied_again_when_attributes_change(room: RoomUnderTest) -> None:
    """Contract: a changed participant is subscribed or unsubscribed; an error means unselected."""

    def is_vip(participant: Participant) -> bool:
        return participant.attributes["vip"] == "yes"  # Raises KeyError for other participants.

    streams: list[str] = []

    async def handle(stream: ParticipantStream) -> None:
        streams.append(f"{stream.participant.identity} came")
        async for _ in stream:
            pass
        streams.append(f"{stream.participant.identity} was deselected")

    async with (
        room.open("bot", participants=is_vip) as bot,
        room.open("ann", attributes={"vip": "no"}, subscription_timeout=0) as ann,
        room.open("ben", subscription_timeout=0) as ben,
        collect_frames(bot.rx) as received,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, handle)
        tasks.start_soon(play_tone, ann, 440, 30.0)
        tasks.start_soon(play_tone, ben, 700, 30.0)
        await anyio.sleep(0.3)  # Audio of a subscribed track would arrive.
        assert not received.frames
        await room.update_attributes("ann", {"vip": "yes"})
        await wait_for(lambda: received.loud_seconds_from("ann") > 0.2)
        await room.update_attributes("ann", {"vip": "no"})
        await wait_for(
            lambda: len(received.frames) > 10 and not any(map(is_loud, received.frames[-10:]))
        )
        await wait_for(lambda: streams == ["ann came", "ann was deselected"])
        tasks.cancel_scope.cancel()
    assert {frame.participant for frame in received.frames} == {"ann", None}


async def test_events_report_changes_in_order(room: RoomUnderTest) -> None:
    """Contract: each change is one event; a later stream begins with the present state."""
    log, late = EventRecorder(), EventRecorder()
    async with anyio.create_task_group() as tasks:
        async with room.open("bot") as bot:
            tasks.start_soon(log.record, bot)
            async with room.open("ann", attributes={"mood": "good"}) as ann:
                joined = await log.wait_for(ParticipantJoined)
                assert joined.participant.identity == "ann"
                assert joined.participant.kind is ParticipantKind.STANDARD
                assert joined.participant.attributes == {"mood": "good"}
                started = await log.wait_for(TrackPublished)
                assert started.source is TrackSource.MICROPHONE
                ann.mute()
                assert (await log.wait_for(TrackMuted)).sid == started.sid
                tasks.start_soon(late.record, bot)
                await wait_for(lambda: len(late.events) == 3)
                there = [ParticipantJoined, TrackPublished, TrackMuted]
                assert [type(event) for event in late.events] == there
                ann.unmute()
                assert (await log.wait_for(TrackUnmuted)).sid == started.sid
                await room.update_attributes("ann", {"mood": "bad"})
                changed = await log.wait_for(ParticipantUpdated)
                assert changed.previous.attributes["mood"] == "good"
                assert changed.participant.attributes["mood"] == "bad"
                await ann.send_dtmf("1#")
                pressed = [await log.wait_for(DtmfReceived), await log.wait_for(DtmfReceived)]
                assert [each.digit for each in pressed] == ["1", "#"]
                assert {each.participant.identity for each in pressed} == {"ann"}
            await log.wait_for(TrackUnpublished, sid=started.sid)
            await log.wait_for(ParticipantLeft)
        await log.wait_for(Disconnected, reason=DisconnectReason.CLIENT_INITIATED)
    assert not log.events


async def test_disconnected_is_last_event_when_session_is_left(room: RoomUnderTest) -> None:
    """Contract: leaving emits Disconnected, and no departure of the others."""
    log = EventRecorder()
    async with (
        room.open("ann"),
        anyio.create_task_group() as tasks,
        room.open("bot") as bot,
    ):
        tasks.start_soon(log.record, bot)
        await wait_for(lambda: len(log.events) == 2)
    assert [type(event) for event in log.events] == [
        ParticipantJoined,
        TrackPublished,
        Disconnected,
    ]


async def test_participant_stream_ends_when_participant_has_left(
    room: RoomUnderTest,
) -> None:
    """Contract: a return within `rejoin_grace` keeps the stream; a later one starts another."""
    log: list[str] = []
    received: dict[str, int] = {}

    async def handle(stream: ParticipantStream) -> None:
        who = stream.participant.identity
        log.append(f"{who} came")
        async for frame in stream:
            received[who] = received.get(who, 0) + is_loud(frame)
        log.append(f"{who} left")

    async with (
        room.open("bot") as bot,
        room.open("ann"),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: bot.for_each_participant(handle, rejoin_grace=1.0))
        await wait_for(lambda: log == ["ann came"])
        async with room.open("ben") as ben:
            await wait_for(lambda: log[1:] == ["ben came"])
            await play_tone(ben, 700, 0.5)
            await wait_for(lambda: received.get("ben", 0) > 15)
        async with room.open("ben") as ben:  # In time: the same stream.
            await play_tone(ben, 700, 0.5)
            await wait_for(lambda: received["ben"] > 35)
            await anyio.sleep(1.0)  # `rejoin_grace` passes.
            assert log == ["ann came", "ben came"]
        await wait_for(lambda: log[2:] == ["ben left"])
        async with room.open("ben"):  # Too late: another stream.
            await wait_for(lambda: log[3:] == ["ben came"])
            await room.remove("bot")
            # At the session's end the streams end, and the handlers return.
            await wait_for(lambda: len(log) == 6)
            assert set(log[4:]) == {"ann left", "ben left"}


async def test_handler_error_cancels_other_handlers(
    room: RoomUnderTest,
) -> None:
    """Contract: structured concurrency; a handler that returns is not started again."""
    calls: list[str] = []

    async def handle(stream: ParticipantStream) -> None:
        calls.append(stream.participant.identity)
        if stream.participant.identity == "ben":
            raise ZeroDivisionError
        if stream.participant.identity == "ann":
            try:
                await anyio.sleep_forever()
            finally:
                calls.append("ann was cancelled")

    async with room.open("bot") as bot, room.open("cleo"), room.open("ann"):
        async with AsyncExitStack() as stack:
            with pytest.raises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(bot.for_each_participant, handle)
                    await wait_for(lambda: {"ann", "cleo"} <= set(calls))
                    await stack.enter_async_context(room.open("ben"))
                    await anyio.sleep_forever()
        assert caught.group_contains(ZeroDivisionError)
        assert calls.count("cleo") == 1
        assert count_pipelines(bot) == 1
        assert calls[-2:] == ["ben", "ann was cancelled"]
        # rx continues.
        assert isinstance(await bot.receive(), AudioFrame)


async def test_departure_timeout_ends_session_when_alone(room: RoomUnderTest) -> None:
    """Contract: agents do not count, and a return in time keeps the session."""
    async with room.open("bot", departure_timeout=0.5) as bot:
        async with room.open("agent", kind="agent"):
            async with room.open("ann"):
                await bot.wait_for_participant()
            async with room.open("ben"):  # In time.
                assert (await bot.wait_for_participant("ben")).identity == "ben"
                await anyio.sleep(1.0)  # Twice `departure_timeout` passes.
                assert bot.disconnect_reason is None
            await receive_until_end(bot)  # Though an agent is present.
        assert bot.disconnect_reason is DisconnectReason.DEPARTURE_TIMEOUT
        with pytest.raises(DisconnectedError):
            await bot.send(AudioFrame(bytes(640), 16000))
        with pytest.raises(DisconnectedError):
            await bot.wait_for_participant("nobody")


@pytest.mark.parametrize("everyone", [False, True])
async def test_room_of_agents_is_received_by_kind_or_logged(
    room: RoomUnderTest, everyone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: agents are excluded with one log line, which names the way to receive them."""
    keywords: dict[str, Any] = {"participant_kinds": ParticipantKind} if everyone else {}
    log = EventRecorder()
    async with (
        room.open("recorder", publish=False, **keywords) as recorder,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(log.record, recorder)
        for identity in ("agent", "other"):
            async with room.open(identity, kind="agent", subscription_timeout=0):
                await log.wait_for(TrackPublished)
                while everyone and (await recorder.receive()).participant != identity:
                    pass
        tasks.cancel_scope.cancel()
    lines = caplog.text.count("participant_kinds=ParticipantKind receives every kind")
    assert lines == (0 if everyone else 1)


async def test_wait_for_participant_waits_until_phone_has_answered(room: RoomUnderTest) -> None:
    """Contract: a ringing telephone is no participant yet."""
    answered: list[Participant] = []

    async with (
        room.open("bot") as bot,
        room.open("phone", kind="sip", attributes={"sip.callStatus": "ringing"}),
        anyio.create_task_group() as tasks,
    ):

        async def wait() -> None:
            answered.append(await bot.wait_for_participant())

        tasks.start_soon(wait)
        await anyio.sleep(0.3)  # A participant that is present would be returned at once.
        assert not answered
        await room.update_attributes("phone", {"sip.callStatus": "active"})
        await wait_for(lambda: answered)
    assert answered[0].kind is ParticipantKind.SIP
    assert answered[0].attributes["sip.callStatus"] == "active"


async def test_session_methods_reject_wrong_arguments(room: RoomUnderTest) -> None:
    """Contract: wrong arguments raise at the call, and every method raises after the session."""

    async def nothing(stream: ParticipantStream) -> None: ...

    async with room.open("bot", publish=False) as bot:
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("sources must be one", lambda: bot.open_rx(sources="camera")),  # type: ignore[arg-type]
            ("participants must be", lambda: bot.open_rx(participants=5)),  # type: ignore[arg-type]
            ("mix must be", lambda: bot.open_rx(mix="no")),  # type: ignore[arg-type]
            ("sample_rate must be", lambda: bot.open_rx(sample_rate=1)),
            ("digits must be some of", lambda: bot.send_dtmf("12x")),
            ("digits must be some of", lambda: bot.send_dtmf("")),
            ("rejoin_grace must be", lambda: bot.for_each_participant(nothing, rejoin_grace=-1)),
            (
                "rejoin_grace must be",
                lambda: bot.for_each_participant(nothing, rejoin_grace=math.nan),
            ),
        ]
        for message, call in calls:
            with pytest.raises(ConfigError, match=message):
                result = call()
                if isinstance(result, Awaitable):
                    await result
        with pytest.raises(TypeError, match="did you mean 'sample_rate'"):
            bot.open_rx(samplerate=8000)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword 'mix'"):
            await bot.for_each_participant(nothing, mix=True)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="handler must be callable"):
            await bot.for_each_participant(None)  # type: ignore[arg-type]
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            bot.mute()
    for late in (bot.events, bot.open_rx):
        with pytest.raises(anyio.ClosedResourceError):
            late()
    with pytest.raises(anyio.ClosedResourceError):
        await bot.for_each_participant(nothing)
    with pytest.raises(anyio.ClosedResourceError):
        await bot.wait_for_participant()
    assert not own_tasks()


async def test_closed_receive_stream_leaves_nothing_behind(room: RoomUnderTest) -> None:
    """Contract: a closed receive stream ends its tasks and its pipeline."""
    async with room.open("bot") as bot, room.open("ann"):
        await bot.receive()
        tasks = len(asyncio.all_tasks())
        for who in [None, "nobody"] * 10:
            async with bot.open_rx(participants=who):
                await anyio.lowlevel.checkpoint()
        async with bot.open_rx(participants="nobody"):
            pass
        await wait_for(lambda: len(asyncio.all_tasks()) <= tasks + 2)
        assert count_pipelines(bot) <= 2
