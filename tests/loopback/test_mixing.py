"""Audio of several participants: mixed, separated, selected.

server/test_mixing_in_room.py runs the same tests in a room of the server.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial

import anyio
import numpy as np
import pytest
from support.audio import (
    Recording,
    collect_frames,
    is_loud,
    level_of,
    levels_of,
    play_tone,
    samples_of,
    seconds_of_tone,
    tone,
)
from support.events import EventRecorder
from support.leaks import count_pipelines, count_track_readers
from support.rooms import RoomUnderTest
from support.waiting import wait_for, wait_until_idle

from beluga_livekit import AudioFrame, ParticipantKind, ParticipantStream, TrackSource
from beluga_livekit.events import TrackMuted

pytestmark = [pytest.mark.anyio]


async def test_simultaneous_speakers_are_mixed_and_separated(room: RoomUnderTest) -> None:
    """Contract: rx has the sum; `mix=False` and participant streams have each alone."""
    each: dict[str, Recording] = {}

    async def record(stream: ParticipantStream) -> None:
        assert stream.source is TrackSource.MICROPHONE
        recording = each[stream.participant.identity] = Recording()
        await recording.receive(stream)

    async with (
        room.open("bot") as bot,
        room.open("ann") as ann,
        room.open("ben") as ben,
        bot.open_rx(mix=False) as apart,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, record)
        async with (
            collect_frames(bot.rx) as mixed,
            collect_frames(apart) as separate,
            anyio.create_task_group() as speaking,
        ):
            await wait_for(lambda: each.keys() == {"ann", "ben"})
            await wait_until_idle()
            speaking.start_soon(play_tone, ann, 440, 2.0)
            speaking.start_soon(play_tone, ben, 700, 2.0)
            await wait_for(
                lambda: (
                    separate.loud_seconds_from("ann") > 1.8
                    and separate.loud_seconds_from("ben") > 1.8
                )
            )
        tasks.cancel_scope.cancel()
    together = mixed.samples_from(None)
    assert level_of(together, 440) == pytest.approx(0.25, rel=0.08)
    assert level_of(together, 700) == pytest.approx(0.25, rel=0.08)
    for who, own, other in (("ann", 440, 700), ("ben", 700, 440)):
        for sound in (separate.samples_from(who), samples_of(each[who].frames)):
            assert level_of(sound, own) == pytest.approx(0.25, rel=0.08)
            assert level_of(sound, other) < 0.01


async def test_single_speaker_passes_through_with_identity(
    room: RoomUnderTest,
) -> None:
    """Contract: a single speaker is unchanged, `frame.participant` is set, rx is continuous."""
    async with (
        room.open("bot") as bot,
        room.open("ann") as ann,
        room.open("ben") as ben,
        collect_frames(bot.rx) as received,
    ):
        await wait_until_idle()
        for speaker, who, frequency in ((ann, "ann", 440), (ben, "ben", 700)):
            await play_tone(speaker, frequency)
            await wait_for(partial(lambda who: received.loud_seconds_from(who) > 0.9, who))
            await wait_for(lambda: not any(map(is_loud, received.frames[-15:])))
            assert level_of(received.samples_from(who), frequency) == pytest.approx(0.25, rel=0.08)
    # Mixed frames are short: where the end of one codec overlaps the beginning of the other.
    assert received.loud_seconds_from(None) < 0.1
    first, last = received.frames[0].timestamp, received.frames[-1].timestamp
    assert first is not None
    assert last is not None
    assert sum(frame.duration for frame in received.frames) == pytest.approx(last - first, abs=0.1)


async def test_agents_are_received_only_when_selected(room: RoomUnderTest) -> None:
    """Contract: agents are excluded by default, and selected by identity or predicate."""
    async with (
        room.open("bot") as bot,
        room.open("agent", kind="agent") as agent,
        room.open("ann") as ann,
        bot.open_rx(participants="agent") as by_name,
        bot.open_rx(participants=lambda p: p.kind is ParticipantKind.AGENT) as by_kind,
        collect_frames(bot.rx) as default,
        collect_frames(by_name) as named,
        collect_frames(by_kind) as predicted,
    ):
        await wait_until_idle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play_tone, agent, 440)
            tasks.start_soon(play_tone, ann, 700)
        await wait_for(
            lambda: (
                default.loud_seconds_from("ann") > 0.9
                and named.loud_seconds_from("agent") > 0.9
                and predicted.loud_seconds_from("agent") > 0.9
            )
        )
    assert level_of(samples_of(default.frames), 440) < 0.01
    assert level_of(samples_of(named.frames), 700) < 0.01


async def test_server_mute_of_own_track_emits_event_and_silences(room: RoomUnderTest) -> None:
    """Contract: a mute by the server is an event of this session, and `unmute` ends it."""
    log = EventRecorder()
    async with (
        room.open("bot") as bot,
        room.open("ann") as ann,
        collect_frames(ann.rx) as received,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(log.record, bot)
        await play_tone(bot, 440, 0.5)
        await wait_for(lambda: received.loud_seconds_from("bot") > 0.4)
        await room.mute("bot")
        muted = await log.wait_for(TrackMuted)
        assert muted.participant.is_self
        assert muted.participant.identity == "bot"
        await anyio.sleep(0.3)  # Audio that was on its way has arrived.
        before = received.loud_seconds_from("bot")
        await play_tone(bot, 440, 0.5)
        await bot.wait_for_playout()
        await anyio.sleep(0.3)  # Audio that was on its way has arrived.
        assert received.loud_seconds_from("bot") == before
        bot.unmute()
        await play_tone(bot, 440, 0.5)
        await wait_for(lambda: received.loud_seconds_from("bot") > before + 0.4)
        tasks.cancel_scope.cancel()


async def test_second_receive_stream_is_independent_of_rx(room: RoomUnderTest) -> None:
    """Contract: each stream has its own format and frame size; closing one keeps the other."""
    async with (
        room.open("bot") as bot,
        room.open("ann") as ann,
        bot.open_rx(sample_rate=48000, frame_size=4800, max_delay=None) as recorder,
        collect_frames(recorder) as received,
    ):
        await wait_until_idle()
        await bot.receive()
        await bot.rx.aclose()
        await play_tone(ann, 440)
        await wait_for(lambda: received.loud_seconds_from("ann") > 0.9)
        frames = received.frames
        assert {(f.sample_rate, f.samples_per_channel) for f in frames} == {(48000, 4800)}


@pytest.mark.slow_audio
async def test_participants_join_and_leave_without_loss(room: RoomUnderTest) -> None:
    """Contract: each has its own tone; none is lost, or received as another participant's."""
    await check_participants_that_join_and_leave(room, count=10, seconds=8)


async def check_participants_that_join_and_leave(
    room: RoomUnderTest, *, count: int, seconds: float
) -> None:
    tones = {f"p{number}": 400.0 + 100 * number for number in range(count)}
    played = dict.fromkeys(tones, 0)
    received: dict[str, list[AudioFrame]] = {name: [] for name in tones}
    rng = random.Random(7)

    async def record(stream: ParticipantStream) -> None:
        async for frame in stream:
            received[stream.participant.identity].append(frame)

    async def come_and_go(name: str) -> None:
        end = anyio.current_time() + seconds
        while anyio.current_time() < end:
            await anyio.sleep(rng.uniform(0.2, 3))
            async with room.open_source(name) as play_once:
                for _ in range(rng.randint(1, 2)):
                    await play_once(tone(tones[name], 1.0, 48000, level=0.05))
                    played[name] += 1

    async with room.open("bot", publish=False, max_delay=None) as bot:
        tasks_before = len(asyncio.all_tasks())
        async with anyio.create_task_group() as serving, collect_frames(bot.rx) as mixed:
            serving.start_soon(partial(bot.for_each_participant, record, rejoin_grace=0.5))
            async with anyio.create_task_group() as tasks:
                for name in tones:
                    tasks.start_soon(come_and_go, name)
            await wait_for(lambda: not bot.participants)
            serving.cancel_scope.cancel()
        await wait_for(lambda: len(asyncio.all_tasks()) <= tasks_before)
        assert not count_track_readers(bot)
        assert count_pipelines(bot) == 1
    whole = samples_of(mixed.frames)
    for name, frequency in tones.items():
        sound = samples_of(received[name])
        for each in (sound, whole):
            assert seconds_of_tone(each, frequency) == pytest.approx(played[name], rel=0.2, abs=0.5)
        for other in tones.keys() - {name}:
            assert level_of(sound, tones[other]) < 0.01
        there = levels_of(whole, frequency)
        # The upper quartile, as a tone that begins or ends within a tenth of a second lowers it.
        typical = float(np.percentile(there[there > 0.02], 75))
        assert typical == pytest.approx(0.05, rel=0.25)  # Neither lost nor doubled.
