"""Audio between a session and other participants of a room."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import AsyncExitStack, aclosing

import anyio
import numpy as np
import pytest
from support.audio import (
    FORMATS,
    LOUD,
    assert_is_tone,
    frames_of_tone,
    frames_of_tone_in_changing_formats,
    measure,
    measure_coded,
    receive_and_measure,
    receive_until_silent,
    samples_of,
    send_frames,
    split_into_frames,
    tone,
)
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.raw_participant import join_raw
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_for, wait_until_idle

from beluga_livekit import AudioFrame, LiveKitSession, open_livekit

pytestmark = [pytest.mark.anyio, measures_network_audio]


async def test_two_sessions_receive_each_other(server: Server, token: TokenFactory) -> None:
    """Contract: full duplex; frames carry participant, track and timestamp."""
    async with (
        open_livekit(server.url, token("ann")) as ann,
        open_livekit(server.url, token("ben")) as ben,
        anyio.create_task_group() as tasks,
    ):
        await wait_until_idle()
        tasks.start_soon(send_frames, ann.tx, frames_of_tone(440, 1.0, 16000))
        tasks.start_soon(send_frames, ben.tx, frames_of_tone(700, 1.0, 16000))

        async def check(session: LiveKitSession, frequency: float, who: str) -> None:
            frames = await receive_until_silent(session.rx)
            assert_is_tone(measure_coded(samples_of(frames), 16000), frequency)
            assert {frame.participant for frame in frames} == {who}
            assert all(frame.track_sid for frame in frames)
            assert all(frame.timestamp for frame in frames)

        tasks.start_soon(check, ann, 700, "ben")
        tasks.start_soon(check, ben, 440, "ann")


@pytest.mark.slow_audio
async def test_rx_frames_have_requested_format(server: Server, token: TokenFactory) -> None:
    """Contract: ten sessions, each with its own format, receive one track."""
    async with AsyncExitStack() as stack:
        sessions = {}
        for rate, channels in FORMATS:
            context = open_livekit(
                server.url,
                token(f"receiver-{rate}-{channels}"),
                sample_rate=rate,
                num_channels=channels,
                publish=False,
            )
            sessions[rate, channels] = await stack.enter_async_context(context)
        peer = await stack.enter_async_context(join_raw(server.url, token("peer")))
        await peer.publish()
        await wait_for(lambda: len(peer.room.remote_participants) == len(FORMATS))

        async def check(session: LiveKitSession, rate: int, channels: int) -> None:
            frames = await receive_until_silent(session.rx)
            sound = samples_of(frames)
            assert {(f.sample_rate, f.num_channels) for f in frames} == {(rate, channels)}
            if channels == 2:  # The track is mono: both channels are equal.
                assert np.array_equal(sound[:, 0], sound[:, 1])
                sound = sound[:, 0].copy()
            assert_is_tone(measure_coded(sound, rate), 500)

        async with anyio.create_task_group() as tasks:
            for (rate, channels), session in sessions.items():
                tasks.start_soon(check, session, rate, channels)
            await wait_until_idle()
            await peer.play(tone(500, 1.0, 48000))


@pytest.mark.slow_audio
async def test_tx_accepts_any_format(server: Server, token: TokenFactory) -> None:
    """SDK quirk: stereo is received as its mean, as it is encoded mono (livekit/rust-sdks#1018)."""
    async with (
        join_raw(server.url, token("peer")) as peer,
        open_livekit(server.url, token("bot"), num_channels=2) as (_, tx),
        aclosing(peer.frames()) as frames,
    ):
        await wait_until_idle()
        for rate, channels in [
            (8000, 1),
            (16000, 1),
            (16000, 2),
            (24000, 1),
            (44100, 1),
            (48000, 2),
        ]:
            sound = tone(500, 1.0, rate)
            samples = sound if channels == 1 else np.stack([sound, sound], axis=1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_frames, tx, split_into_frames(samples, rate))
                assert_is_tone(await receive_and_measure(frames), 500)


@pytest.mark.slow_audio
@pytest.mark.parametrize("how", ["7 ms frames", "one frame", "another format every 20 ms"])
async def test_frames_of_any_kind_arrive_whole(
    server: Server, token: TokenFactory, how: str
) -> None:
    """Contract: short, long and changing frames are one continuous tone."""
    seconds = 5.0 if how == "one frame" else 1.0
    if how == "another format every 20 ms":
        frames = frames_of_tone_in_changing_formats(500, seconds)
    else:
        frames = split_into_frames(
            tone(500, seconds, 24000), 24000, 0.007 if how == "7 ms frames" else seconds
        )
    async with (
        join_raw(server.url, token("peer")) as peer,
        open_livekit(server.url, token("bot")) as (_, tx),
        aclosing(peer.frames()) as received,
        anyio.create_task_group() as tasks,
    ):
        await wait_until_idle()
        tasks.start_soon(send_frames, tx, frames)
        assert_is_tone(await receive_and_measure(received), 500, seconds)


async def test_audio_shorter_than_block_arrives_at_once(
    server: Server, token: TokenFactory
) -> None:
    """Contract: audio shorter than a block of 10 ms is padded, not held."""
    async with (
        join_raw(server.url, token("peer")) as peer,
        open_livekit(server.url, token("bot")) as (_, tx),
        aclosing(peer.frames()) as received,
        anyio.create_task_group() as tasks,
    ):
        await wait_until_idle()
        tasks.start_soon(send_frames, tx, frames_of_tone(1000, 0.006, 16000, level=0.5))
        frames = await receive_until_silent(received)
        assert measure(samples_of(frames), 48000, onset=0).duration < 0.06
        tasks.start_soon(send_frames, tx, frames_of_tone(500, 1.0, 16000))
        assert_is_tone(await receive_and_measure(received), 500)


@pytest.mark.slow_audio
async def test_participants_before_and_after_join_are_received(
    server: Server, token: TokenFactory
) -> None:
    """Contract: the order of joins does not matter."""
    async with join_raw(server.url, token("before")) as before:
        await before.publish()
        async with open_livekit(server.url, token("bot"), mix=False) as (rx, tx):
            await wait_until_idle()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(before.play, tone(440, 1.0, 48000))
                assert_is_tone(await receive_and_measure(rx), 440)
            async with join_raw(server.url, token("later")) as later:
                await later.publish()
                await wait_until_idle()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(later.play, tone(600, 1.0, 48000))
                    assert_is_tone(await receive_and_measure(frames_from(rx, "later")), 600)
                for peer in (before, later):
                    async with (
                        anyio.create_task_group() as tasks,
                        aclosing(peer.frames()) as received,
                    ):
                        tasks.start_soon(send_frames, tx, frames_of_tone(500, 1.0, 16000))
                        assert_is_tone(await receive_and_measure(received), 500)


async def frames_from(rx: AsyncIterable[AudioFrame], who: str) -> AsyncIterable[AudioFrame]:
    async for frame in rx:
        if frame.participant == who:
            yield frame


@pytest.mark.slow_audio
async def test_unmixed_speakers_keep_their_identity(server: Server, token: TokenFactory) -> None:
    """Contract: `mix=False` yields each participant's frames, tagged."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        rx, _ = await enter(open_livekit(server.url, token("bot"), mix=False))
        speakers = {}
        for who, frequency in [("ann", 400), ("ben", 600), ("cleo", 900)]:
            _, tx = await enter(open_livekit(server.url, token(who)))
            speakers[who] = (tx, frequency)
        received: dict[str | None, list[AudioFrame]] = {}
        await wait_until_idle()
        async with anyio.create_task_group() as tasks:
            for tx, frequency in speakers.values():
                tasks.start_soon(send_frames, tx, frames_of_tone(frequency, 1.0, 16000))
            with anyio.fail_after(DEADLINE):
                async for frame in rx:
                    received.setdefault(frame.participant, []).append(frame)
                    if all(who in received and has_ended(received[who]) for who in speakers):
                        break
        for who, (_, frequency) in speakers.items():
            sound = measure_coded(samples_of(received[who]), 16000)
            assert_is_tone(sound, frequency, within=0.15)  # Three senders share the process.


def has_ended(frames: list[AudioFrame]) -> bool:
    sound = samples_of(frames)
    return bool((np.abs(sound) > LOUD).any() and (np.abs(sound[-8000:]) <= LOUD).all())


async def test_first_frame_waits_for_subscriber(server: Server, token: TokenFactory) -> None:
    """Contract: no audio is lost before the first subscription."""
    async with (
        open_livekit(server.url, token("bot")) as (_, tx),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send_frames, tx, frames_of_tone(440, 1.0, 16000))
        await anyio.sleep(1.0)  # As long as the audio: none of it is played meanwhile.
        async with join_raw(server.url, token("late")) as peer, aclosing(peer.frames()) as received:
            # No audio is missing; a jitter buffer that has just begun stretches it a little.
            assert 0.98 <= (await receive_and_measure(received)).duration <= 1.2


async def test_last_frame_is_received_when_session_drains(
    server: Server, token: TokenFactory
) -> None:
    """Contract: the drain waits until a subscriber has the last frame.

    Without it a subscriber misses 40 ms.
    """
    async with (
        open_livekit(server.url, token("receiver"), publish=False) as (rx, _),
        anyio.create_task_group() as tasks,
    ):

        async def send_and_leave() -> None:
            async with open_livekit(server.url, token("bot")) as (_, tx):
                await wait_until_idle()
                await send_frames(tx, frames_of_tone(440, 1.0, 16000))

        tasks.start_soon(send_and_leave)
        received = await receive_until_silent(rx)
    assert measure_coded(samples_of(received), 16000).duration >= 1.0 - 0.02


@pytest.mark.slow_audio
async def test_sessions_in_one_process_do_not_interfere(
    server: Server, token: TokenFactory, room_name: str
) -> None:
    """Contract: four rooms in one process."""

    async def pair(number: int) -> None:
        name = f"{room_name}-{number}"
        async with (
            open_livekit(server.url, token("ann", room=name), room=name) as ann,
            open_livekit(server.url, token("ben", room=name), room=name) as ben,
            anyio.create_task_group() as tasks,
        ):
            assert ann.room.name == name
            await wait_until_idle()
            tasks.start_soon(send_frames, ann.tx, frames_of_tone(400 + 50 * number, 1.0, 16000))
            # Eight connections keep two cores busy: jitter buffers stretch late audio.
            assert_is_tone(await receive_and_measure(ben.rx), 400 + 50 * number, within=0.15)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(pair, number)


@pytest.mark.slow_audio
async def test_session_only_receives_without_permission_or_publish(
    server: Server, token: TokenFactory
) -> None:
    """Contract: without the grant or with `publish=False`, tx raises and nothing is published."""
    for can_publish, send in [(False, True), (True, False)]:
        granted = token("bot", can_publish=can_publish)
        async with (
            open_livekit(server.url, granted, publish=send) as (rx, tx),
            join_raw(server.url, token("peer")) as peer,
        ):
            with pytest.raises(anyio.ClosedResourceError, match="only receives"):
                await tx.send(AudioFrame(bytes(640), 16000))
            await peer.publish()
            await wait_until_idle()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(peer.play, tone(440, 1.0, 48000))
                assert_is_tone(await receive_and_measure(rx), 440)
            (bot,) = peer.room.remote_participants.values()
            assert not bot.track_publications
