"""play(): accepted sources, order in the send queue, and errors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import attrs
import numpy as np
import pytest
from support.audio import collect_frames, measure, split_into_frames, tone
from support.playback import (
    NEW,
    OLD,
    RATE,
    AsyncIterableSource,
    IterableSource,
    append_playout,
    frame_of,
    open_exact_loopback,
    split_into_bytes,
    tone_without_zeros,
    wait_until_played,
)
from support.waiting import run_until_blocked

from beluga_livekit import AudioFrame, ConfigError, Playout, open_loopback

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "source",
    [
        frame_of(OLD),
        OLD.tobytes(),
        memoryview(OLD.tobytes()),
        split_into_frames(OLD, RATE),
        split_into_frames(OLD, RATE, 0.007),
        split_into_bytes(OLD, 1, 999, 0, 3001),
        IterableSource(split_into_frames(OLD, RATE)),
        AsyncIterableSource(split_into_bytes(OLD, 4097)),
        AsyncIterableSource(split_into_frames(OLD, RATE, 0.013)),
    ],
    ids=lambda source: type(source).__name__,
)
async def test_play_accepts_frames_and_bytes_whole_or_in_pieces(source: Any) -> None:
    """Contract: every kind of source is played bit-exactly and closed."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        playout = await session.play(source, sample_rate=RATE)
        assert attrs.astuple(playout) == pytest.approx((len(OLD) / RATE, 0.0, 0.0, False))
        assert session.statistics().send.seconds_queued <= 0.011
        assert np.array_equal(await received.wait_until_silent(), OLD)
    if isinstance(source, IterableSource):
        assert source.closed
    if isinstance(source, AsyncIterableSource):
        assert source.generator_closed


async def test_play_accepts_stereo_and_other_rates() -> None:
    """Contract: bytes of any format are converted."""
    both = tone(440, 0.5, 24000, channels=2)
    async with open_loopback(num_channels=2) as session, collect_frames(session.rx) as received:
        playout = await session.play(split_into_bytes(both, 777), sample_rate=24000, num_channels=2)
        assert attrs.astuple(playout) == pytest.approx((0.5, 0.0, 0.0, False))
        sound = await received.wait_until_silent()
    assert measure(sound[:, 0].copy(), 16000).frequency == pytest.approx(440, abs=1)
    assert measure(sound[:, 1].copy(), 16000).frequency == pytest.approx(880, abs=1)


async def test_plays_and_sends_are_played_in_call_order() -> None:
    """Contract: FIFO; each in one piece, without a gap, though all wait at the same time."""
    sounds = [tone_without_zeros(300 + 100 * number, 0.2) for number in range(5)]
    async with (
        open_exact_loopback(send_buffer=0.05) as session,
        collect_frames(session.rx) as received,
    ):
        async with anyio.create_task_group() as tasks:
            for number, sound in enumerate(sounds):
                if number % 2:
                    tasks.start_soon(session.send, frame_of(sound))
                else:
                    tasks.start_soon(
                        session.play, AsyncIterableSource(split_into_frames(sound, RATE, 0.01))
                    )
                await run_until_blocked()
        assert np.array_equal(await received.wait_until_silent(), np.concatenate(sounds))


async def test_send_waits_behind_play_with_slow_source() -> None:
    """Contract: a play keeps the send queue until its source is exhausted."""
    wait = anyio.Event()

    async def slow() -> AsyncIterator[AudioFrame]:
        yield frame_of(OLD)
        await wait.wait()
        yield frame_of(NEW)

    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.play, slow())
            await run_until_blocked()
            tasks.start_soon(session.send, frame_of(OLD))
            await received.wait_until_silent()
            assert np.array_equal(received.sound, OLD)
            wait.set()
        sound = await received.wait_until_silent()
    assert np.array_equal(sound[-len(OLD) :], OLD)
    # Less than a block of the play's end is held for the next audio.
    assert np.array_equal(sound[: -len(OLD)][-len(NEW) :], NEW)


async def test_error_of_source_is_raised_by_play_and_queue_continues() -> None:
    """Contract: play raises its source's error unchanged, even an anyio error."""

    def broken() -> Iterator[AudioFrame]:
        yield frame_of(OLD)
        raise anyio.BrokenResourceError("the synthesis broke")

    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        with pytest.raises(anyio.BrokenResourceError, match="the synthesis broke"):
            await session.play(broken())
        await session.play(frame_of(NEW))
        sound = await received.wait_until_silent()
    assert np.array_equal(sound, np.concatenate([OLD, NEW]))  # Frames before the error are played.


@pytest.mark.parametrize(
    ("source", "keywords", "error", "message"),
    [
        (7, {}, TypeError, "play takes an AudioFrame, bytes of PCM, or an iterable .*, got int"),
        ("hello", {}, TypeError, "got str"),
        (np.zeros(480), {}, TypeError, "got ndarray; use AudioFrame.from_samples for arrays"),
        ([OLD], {}, TypeError, "its source gave ndarray; use AudioFrame.from_samples"),
        ([None], {}, TypeError, "its source gave NoneType"),
        (run_until_blocked, {}, TypeError, "got function; call it"),
        (b"1234", {}, ConfigError, "bytes have no sample rate; pass sample_rate="),
        ([b"RIFF....WA", b"VEfmt "], {"sample_rate": 16000}, ConfigError, "a file .WAV., not raw"),
        ([b"12"], {"sample_rate": 50}, ConfigError, "sample_rate must be 8000 to"),
        ([b"12"], {"sample_rate": 16000, "num_channels": 0}, ConfigError, "num_channels must be"),
    ],
)
async def test_play_rejects_wrong_source_and_queue_continues(
    source: Any, keywords: Any, error: type[Exception], message: str
) -> None:
    """Contract: a wrong source is rejected with the remedy, and nothing stays queued."""
    async with open_exact_loopback() as session:
        with pytest.raises(error, match=message):
            await session.play(source, **keywords)
        # The queue is empty.
        assert await session.play(frame_of(NEW)) == Playout(
            len(NEW) / RATE, 0.0, 0.0, interrupted=False
        )


async def test_play_drops_incomplete_last_sample(caplog: pytest.LogCaptureFixture) -> None:
    """Contract: PCM that ends within a sample is played, with one warning."""
    async with open_exact_loopback() as session:
        pcm = [OLD.tobytes()[:-1]]
        playout = await session.play(pcm, sample_rate=RATE)
    assert playout.played == pytest.approx((len(OLD) - 1) / RATE)
    assert caplog.text.count("PCM decoding dropped 1 of 2 bytes of a sample") == 1


async def test_play_closes_coroutine_that_was_not_awaited() -> None:
    """Contract: a forgotten await is a TypeError, without a warning afterwards."""
    async with open_exact_loopback() as session:
        with pytest.raises(TypeError, match="got coroutine; await it"):
            await session.play(run_until_blocked())


async def test_play_of_empty_source_returns_at_once() -> None:
    """Contract: nothing to play is no error."""
    async with open_exact_loopback() as session:
        for source in ([], b"", [b""], AudioFrame(b"", RATE)):
            assert await session.play(source, sample_rate=RATE) == Playout(0.0, 0.0, 0.0, False)


async def test_play_closes_source_that_was_never_started() -> None:
    """Contract: a source is closed whatever happens to its play."""
    first, second = (
        AsyncIterableSource(split_into_frames(OLD, RATE)),
        AsyncIterableSource(split_into_frames(OLD, RATE)),
    )
    async with open_exact_loopback() as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.play, first)
            tasks.start_soon(session.play, second)
            await wait_until_played(session, 0.05)  # The next frame of `first` waits for room.
            tasks.cancel_scope.cancel()
        assert first.closed
        assert first.generator_closed
        assert second.closed
        assert second.given == 0
    third = AsyncIterableSource([])
    with pytest.raises(anyio.ClosedResourceError):
        await session.play(third)
    assert third.closed


@pytest.mark.parametrize("rate", [48000, 24000])
async def test_played_seconds_exclude_pauses_of_source(rate: int) -> None:
    """Regression: `played` counts the source's audio, without the padding of pauses.

    Each pause pads half a block, and a new resampler begins 2.5 ms late.
    """

    async def with_pauses() -> AsyncIterator[AudioFrame]:
        for frame in split_into_frames(tone(440, 0.4, rate, level=0.5), rate, 0.025):
            yield frame
            await anyio.sleep(0.06)
        yield AudioFrame.from_samples(tone(440, 0.6, rate, level=0.5), rate)

    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        playouts: list[Playout] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append_playout, playouts, session, with_pauses())
            await wait_until_played(session, 0.7)
            await session.interrupt()
        sound = await received.wait_until_silent()
    (playout,) = playouts
    assert playout.dropped > 0.1
    assert playout.played == pytest.approx(np.count_nonzero(np.abs(sound) > 3) / RATE, abs=0.02)


@pytest.mark.slow_audio
async def test_play_is_never_trimmed() -> None:
    """Contract: trimming concerns tx only, even where a source yields late audio in real time."""
    frames = split_into_frames(tone_without_zeros(440, 2.6), RATE)
    frames[50:] = [
        attrs.evolve(frame, timestamp=1.0) for frame in frames[50:]
    ]  # As in a recording.

    async def late() -> AsyncIterator[AudioFrame]:
        start = time.monotonic()
        for number, frame in enumerate(frames):
            await anyio.sleep(max(0.0, start + (number - 6) * 0.02 - time.monotonic()))
            yield frame

    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        assert (await session.play(late())).dropped == 0
        assert session.statistics().send.seconds_trimmed == 0
        assert len(await received.wait_until_silent()) == 2.6 * RATE


async def test_play_raises_after_tx_is_closed() -> None:
    """Contract: a closed tx takes no play; accepted audio is still played and awaited."""
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.send(frame_of(OLD))
        await session.tx.aclose()
        with pytest.raises(anyio.ClosedResourceError, match="tx is closed"):
            await session.play(frame_of(NEW))
        await session.wait_for_playout()
        assert np.array_equal(await received.wait_until_silent(), OLD)
        await session.interrupt()
        await session.wait_for_playout()
    for use in (session.interrupt, lambda: session.play(frame_of(NEW))):
        with pytest.raises(anyio.ClosedResourceError, match="livekit: transport is closed"):
            await use()


async def test_playout_reports_what_was_muted() -> None:
    """Contract: `played` was received; what was played while muted was not."""
    async with open_exact_loopback() as session, anyio.create_task_group() as tasks:
        playouts: list[Playout] = []

        async def play() -> None:
            playouts.append(await session.play(frame_of(OLD)))

        tasks.start_soon(play)
        await wait_until_played(session, 0.2)
        session.mute()
        await wait_until_played(session, 0.2)
        session.unmute()
    assert playouts[0].played + playouts[0].muted == pytest.approx(len(OLD) / RATE)
    assert playouts[0].muted == pytest.approx(0.2, abs=0.06)


async def test_kept_frames_are_played_whole() -> None:
    """Contract: frames of rx that a program kept for 2 s lose nothing, though they are old."""
    sound = tone_without_zeros(440, 2.0)
    kept_since = time.monotonic() - 2.0
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        for number, frame in enumerate(split_into_frames(sound, RATE, 0.02)):
            await session.send(attrs.evolve(frame, timestamp=kept_since + 0.02 * number))
        assert np.array_equal(await received.wait_until_silent(), sound)
        assert session.statistics().send.seconds_trimmed == 0
