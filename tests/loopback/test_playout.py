"""Playing sources, stopping at once, and knowing what was heard."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import numpy as np
import pytest
from conftest import Admin, MakeToken, own_tasks
from numpy.typing import NDArray
from support.audio import (
    DEADLINE,
    Recording,
    calm,
    cut,
    hear,
    measure,
    recorded,
    samples_of,
    say,
    tone,
)
from support.cancellation import cancel_everywhere
from support.livekit_server import Server

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    DisconnectedError,
    LiveKitError,
    LiveKitSession,
    Playout,
    open_livekit,
    open_loopback,
)
from beluga_livekit._sdk import audio_source, event_router

# As in test_room.py: what is played at which moment is measured in real time.
pytestmark = [pytest.mark.anyio, pytest.mark.flaky(reruns=2)]

# At the rate of the wire nothing resamples: what is heard is what was played, bit by bit.
RATE = 48_000
STEP = RATE // 100


def sound_of(frequency: float, seconds: float, level: float = 0.5) -> NDArray[np.int16]:
    """A tone without a zero, so that its beginning and its end can be told from silence."""
    samples = tone(frequency, seconds, RATE, level=level)
    samples[samples == 0] = 1
    return samples


OLD = sound_of(440, 0.6)
NEW = sound_of(660, 0.095, level=0.25)


@attrs.define
class Source:
    """Gives what it has, and notes that it was closed."""

    pieces: list[Any]
    closed: bool = False
    given: int = 0

    def __iter__(self) -> Iterator[Any]:
        for piece in self.pieces:
            self.given += 1
            yield piece

    def close(self) -> None:
        self.closed = True


@attrs.define
class AsyncSource(Source):
    """A generator behind an object: both have to be closed."""

    generator_closed: bool = False
    generator: AsyncIterator[Any] | None = None  # held, or the garbage collector would close it

    def __aiter__(self) -> AsyncIterator[Any]:
        self.generator = self._generate()
        return self.generator

    async def _generate(self) -> AsyncIterator[Any]:
        try:
            for piece in self.pieces:
                await anyio.lowlevel.checkpoint()
                self.given += 1
                yield piece
        finally:
            self.generator_closed = True

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True


def pcm(samples: NDArray[np.int16], *sizes: int) -> list[bytes]:
    """Bytes cut into these sizes in turn."""
    data, pieces = samples.astype("<i2").tobytes(), []
    while data:
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
    return pieces


def frame_of(samples: NDArray[np.int16]) -> AudioFrame:
    return AudioFrame.from_samples(samples, RATE)


def loopback(**keywords: Any) -> Any:
    """In which everything is heard as it was played."""
    return open_loopback(sample_rate=RATE, receive_buffer=30, max_delay=None, **keywords)


async def play_noted(playouts: list[Playout], session: LiveKitSession, source: Any) -> None:
    playouts.append(await session.play(source))


async def in_line() -> None:
    """Lets what was started come as far as it can at once."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def played(session: LiveKitSession, seconds: float) -> None:
    """Waits until this much more has been played."""
    until = spoken(session) + seconds
    with anyio.fail_after(DEADLINE):
        while spoken(session) < until:
            await anyio.sleep(0.001)


def spoken(session: LiveKitSession) -> float:
    """How many seconds have been played: what is left to be played is whole steps."""
    statistics = session.statistics()
    return statistics.seconds_sent - math.ceil(statistics.seconds_queued * 100) / 100


@pytest.mark.parametrize(
    "source",
    [
        frame_of(OLD),
        OLD.tobytes(),
        memoryview(OLD.tobytes()),
        cut(OLD, RATE),
        cut(OLD, RATE, 0.007),
        pcm(OLD, 1, 999, 0, 3001),
        Source(cut(OLD, RATE)),
        AsyncSource(pcm(OLD, 4097)),
        AsyncSource(cut(OLD, RATE, 0.013)),
    ],
    ids=lambda source: type(source).__name__,
)
async def test_play_takes_frames_and_bytes_in_one_piece_or_many(source: Any) -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        playout = await session.play(source, sample_rate=RATE)
        assert attrs.astuple(playout) == pytest.approx((len(OLD) / RATE, 0.0, False))
        assert session.statistics().seconds_queued <= 0.011
        assert np.array_equal(await heard.until_quiet(), OLD)
    if isinstance(source, Source):
        assert source.closed
    if isinstance(source, AsyncSource):
        assert source.generator_closed


async def test_play_with_an_sdk_whose_private_names_have_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fake change of the SDK's: captures are its own then."""
    monkeypatch.setattr(event_router, "SUPPORTED", False)
    async with loopback() as session, recorded(session.rx) as heard:
        await session.play(frame_of(OLD))
        assert np.array_equal(await heard.until_quiet(), OLD)
        await session.send(frame_of(OLD))
        await played(session, 0.05)
        await session.interrupt()
        again = np.trim_zeros((await heard.until_quiet())[len(OLD) :])
        ends_in_a_fade(again, OLD)


async def test_what_the_sdk_does_not_take_is_an_error() -> None:
    source = audio_source.AudioSource(RATE, 1, 20)
    await source.capture(OLD[: 2 * STEP])
    await source.capture(OLD[: 2 * STEP])  # is answered when a tick has made room
    other = audio_source.AudioSource.__new__(audio_source.AudioSource)
    other.__dict__.update(source.__dict__, _unanswered={})
    await other.capture(OLD[:STEP])  # while that waits, the SDK refuses all others
    with pytest.raises(LiveKitError, match="audio capture failed: .*failed to capture frame"):
        await other.wait_until_answered()
    await source.wait_until_answered()
    await source.aclose()


async def test_a_source_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake: the answer is lost."""
    monkeypatch.setattr(audio_source, "CAPTURE_TIMEOUT", 0.05)
    monkeypatch.setattr(audio_source.AudioSource, "_answer", lambda *_: None)
    with pytest.raises(LiveKitError, match="audio capture failed: no answer within 0.05 s"):
        async with loopback():
            pass


async def test_play_takes_stereo_and_other_rates() -> None:
    both = tone(440, 0.5, 24000, channels=2)
    async with open_loopback(num_channels=2) as session, recorded(session.rx) as heard:
        playout = await session.play(pcm(both, 777), sample_rate=24000, num_channels=2)
        assert attrs.astuple(playout) == pytest.approx((0.5, 0.0, False))
        sound = await heard.until_quiet()
    assert measure(sound[:, 0].copy(), 16000).frequency == pytest.approx(440, abs=1)
    assert measure(sound[:, 1].copy(), 16000).frequency == pytest.approx(880, abs=1)


async def test_plays_and_sends_take_turns_in_the_order_in_which_they_came() -> None:
    """Each in one piece, though all of them wait at the same time, and without a gap."""
    sounds = [sound_of(300 + 100 * number, 0.2) for number in range(5)]
    async with loopback(send_buffer=0.05) as session, recorded(session.rx) as heard:
        async with anyio.create_task_group() as tasks:
            for number, sound in enumerate(sounds):
                if number % 2:
                    tasks.start_soon(session.send, frame_of(sound))
                else:
                    tasks.start_soon(session.play, AsyncSource(cut(sound, RATE, 0.01)))
                await in_line()
        assert np.array_equal(await heard.until_quiet(), np.concatenate(sounds))


async def test_a_play_gives_the_line_free_though_its_source_is_slow() -> None:
    """It has the pump to itself; who waits behind it is served when it is over."""
    wait = anyio.Event()

    async def slow() -> AsyncIterator[AudioFrame]:
        yield frame_of(OLD)
        await wait.wait()
        yield frame_of(NEW)

    async with loopback() as session, recorded(session.rx) as heard:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.play, slow())
            await in_line()
            tasks.start_soon(session.send, frame_of(OLD))
            await heard.until_quiet()
            assert np.array_equal(heard.sound, OLD)
            wait.set()
        sound = await heard.until_quiet()
    assert np.array_equal(sound[-len(OLD) :], OLD)
    # What is less than a step of the play's end waits for what comes next.
    assert np.array_equal(sound[: -len(OLD)][-len(NEW) :], NEW)


async def test_what_a_source_raises_leaves_play_and_the_line_goes_on() -> None:
    """Also what a broken session of our own would raise."""

    def broken() -> Iterator[AudioFrame]:
        yield frame_of(OLD)
        raise anyio.BrokenResourceError("the synthesis broke")

    async with loopback() as session, recorded(session.rx) as heard:
        with pytest.raises(anyio.BrokenResourceError, match="the synthesis broke"):
            await session.play(broken())
        await session.play(frame_of(NEW))
        sound = await heard.until_quiet()
    assert np.array_equal(sound, np.concatenate([OLD, NEW]))  # what it gave before was accepted


@pytest.mark.parametrize(
    ("source", "keywords", "error", "message"),
    [
        (7, {}, TypeError, "play takes an AudioFrame, bytes of PCM, or an iterable .*, got int"),
        ("hello", {}, TypeError, "got str"),
        (np.zeros(480), {}, TypeError, "got ndarray; use AudioFrame.from_samples for arrays"),
        ([OLD], {}, TypeError, "its source gave ndarray; use AudioFrame.from_samples"),
        ([None], {}, TypeError, "its source gave NoneType"),
        (in_line, {}, TypeError, "got function; call it"),
        (b"1234", {}, ConfigError, "bytes have no sample rate; pass sample_rate="),
        ([b"123"], {"sample_rate": 16000}, ConfigError, "within a sample: 1 of 2 bytes"),
        ([b"12"], {"sample_rate": 50}, ConfigError, "sample_rate must be 8000 to"),
        ([b"12"], {"sample_rate": 16000, "num_channels": 0}, ConfigError, "num_channels must be"),
    ],
)
async def test_what_cannot_be_played_is_told_at_once(
    source: Any, keywords: Any, error: type[Exception], message: str
) -> None:
    async with loopback() as session:
        with pytest.raises(error, match=message):
            await session.play(source, **keywords)
        # ... and nothing is left in the line.
        assert await session.play(frame_of(NEW)) == Playout(len(NEW) / RATE, 0.0, interrupted=False)


async def test_a_coroutine_that_was_not_awaited_is_closed() -> None:
    async with loopback() as session:
        with pytest.raises(TypeError, match="got coroutine; await it"):
            await session.play(in_line())


async def test_an_empty_source_is_played_at_once() -> None:
    async with loopback() as session:
        for source in ([], b"", [b""], AudioFrame(b"", RATE)):
            assert await session.play(source, sample_rate=RATE) == Playout(0.0, 0.0, False)


async def test_a_source_is_closed_also_when_its_turn_never_came() -> None:
    first, second = AsyncSource(cut(OLD, RATE)), AsyncSource(cut(OLD, RATE))
    async with loopback() as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.play, first)
            tasks.start_soon(session.play, second)
            await played(session, 0.05)  # the first one's next frame waits for room
            tasks.cancel_scope.cancel()
        assert first.closed
        assert first.generator_closed
        assert second.closed
        assert second.given == 0
    third = AsyncSource([])
    with pytest.raises(anyio.ClosedResourceError):
        await session.play(third)
    assert third.closed


async def test_a_cancelled_play_falls_silent_and_nothing_else_does() -> None:
    """What was sent before it is played to its end, what was sent after it follows at once."""
    before, after = OLD[: 6 * STEP + 100], NEW[: 9 * STEP]
    async with loopback() as session, recorded(session.rx) as heard:
        async with anyio.create_task_group() as tasks:
            await session.send(frame_of(before))
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(session.play, frame_of(OLD))
                    await in_line()
                    tasks.start_soon(session.play, frame_of(after))
                    await in_line()
                    await played(session, 0.1)
                    scope.cancel()
        sound = await heard.until_quiet()
    assert np.array_equal(sound[: len(before)], before)
    assert np.array_equal(sound[-len(after) :], after)
    rest = sound[len(before) : -len(after)]
    came = ends_in_a_fade(rest, OLD)
    assert came < 0.5 * RATE


async def test_a_play_that_is_cancelled_at_its_very_end_leaves_what_follows() -> None:
    """All of it has been handed over by then, and some of what follows."""
    first, second = OLD[: 10 * STEP + 100], NEW[: 8 * STEP - 100]
    async with loopback() as session, recorded(session.rx) as heard:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(session.play, frame_of(first))
                    await in_line()
                    tasks.start_soon(session.play, frame_of(second))
                    with anyio.fail_after(DEADLINE):
                        while session.statistics().seconds_sent < 0.18:
                            await anyio.sleep(0.001)
                    scope.cancel()
        sound = await heard.until_quiet()
    assert np.array_equal(sound[-len(second) :], second)
    assert ends_in_a_fade(sound[: -len(second)], first) < 9 * STEP


def ends_in_a_fade(sound: NDArray[np.int16], whole: NDArray[np.int16]) -> int:
    """Checks that a sound is the beginning of `whole`, faded out; returns where that begins."""
    same = min(len(sound), len(whole))
    came = int(np.append(np.flatnonzero(sound[:same] != whole[:same]), same)[0])
    faded = sound[came:].astype(np.int32)
    assert len(np.trim_zeros(faded, "b")) <= STEP
    steps = np.abs(np.diff(sound[max(0, came - STEP) :].astype(np.int32), append=0))
    assert steps.max() <= 0.03 * 32768
    return came


async def test_interrupt_silences_a_play_and_says_what_was_heard() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        playouts: dict[str, Playout] = {}

        async def play(name: str) -> None:
            playouts[name] = await session.play(AsyncSource(cut(OLD, RATE)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play, "running")
            await in_line()
            tasks.start_soon(play, "waiting")
            await played(session, 0.2)
            await session.interrupt()
        sound = await heard.until_quiet()
        running, waiting = playouts["running"], playouts["waiting"]
        assert running.interrupted
        assert running.played == pytest.approx(len(sound) / RATE, abs=0.02)
        assert running.played + running.dropped < len(OLD) / RATE + 1e-9
        assert running.dropped > 0.1
        assert waiting == Playout(0.0, 0.0, interrupted=True)
        ends_in_a_fade(sound, OLD)
        # The next one is played at once, and whole.
        assert await session.play(frame_of(NEW)) == Playout(len(NEW) / RATE, 0.0, interrupted=False)
        assert np.array_equal((await heard.until_quiet())[-len(NEW) :], NEW)


@pytest.mark.parametrize("rate", [48000, 24000])
async def test_pauses_of_a_source_do_not_count_as_played(rate: int) -> None:
    """In each the sound is padded, by half a step, and a new resampler begins 2.5 ms late."""

    async def with_pauses() -> AsyncIterator[AudioFrame]:
        for frame in cut(tone(440, 0.4, rate, level=0.5), rate, 0.025):
            yield frame
            await anyio.sleep(0.06)
        yield AudioFrame.from_samples(tone(440, 0.6, rate, level=0.5), rate)

    async with loopback() as session, recorded(session.rx) as heard:
        playouts: list[Playout] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play_noted, playouts, session, with_pauses())
            await played(session, 0.7)
            await session.interrupt()
        sound = await heard.until_quiet()
    (playout,) = playouts
    assert playout.dropped > 0.1
    assert playout.played == pytest.approx(np.count_nonzero(np.abs(sound) > 3) / RATE, abs=0.02)


@pytest.mark.once
async def test_what_is_played_is_never_shed() -> None:
    """Not even of a source that gives in real time what is late by now."""
    frames = cut(sound_of(440, 2.6), RATE)
    frames[50:] = [attrs.evolve(frame, timestamp=1.0) for frame in frames[50:]]  # a recording

    async def late() -> AsyncIterator[AudioFrame]:
        start = time.monotonic()
        for number, frame in enumerate(frames):
            await anyio.sleep(max(0.0, start + (number - 6) * 0.02 - time.monotonic()))
            yield frame

    async with loopback() as session, recorded(session.rx) as heard:
        assert (await session.play(late())).dropped == 0
        assert session.statistics().seconds_trimmed_sending == 0
        assert len(await heard.until_quiet()) == 2.6 * RATE


@pytest.mark.once
@pytest.mark.parametrize(
    ("tries", "within"),
    # Where others have the processor, what takes 1 to 7 ms can take 30: the promise is for a soak.
    [(25, 0.06), pytest.param(100, 0.02, marks=[pytest.mark.soak, pytest.mark.timeout(300)])],
)
async def test_interrupt_at_any_moment(tries: int, within: float) -> None:
    """Soon silent, without a click, in whatever state; nothing old later, and all of the new."""
    chance = random.Random(4)
    async with loopback() as session, recorded(session.rx) as heard:
        for number in range(tries):
            await check_interrupt(session, heard, chance, WAYS[number % len(WAYS)], within)
            heard.frames.clear()


async def play_whole(session: LiveKitSession) -> None:
    await session.play(frame_of(OLD))


async def send_cut(session: LiveKitSession) -> None:
    await say(session.tx, cut(OLD, RATE))


async def send_from_three(session: LiveKitSession) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            # 11 periods each: they go together in any order.
            tasks.start_soon(say, session.tx, cut(OLD, RATE, 0.025))


async def send_in_real_time(session: LiveKitSession) -> None:
    start = time.monotonic()
    for number, frame in enumerate(cut(OLD, RATE)):
        await anyio.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
        await session.send(frame)


async def send_once(session: LiveKitSession) -> None:
    """After which the pump is idle."""
    await session.send(frame_of(OLD[: 10 * STEP]))


WAYS = [play_whole, send_cut, send_from_three, send_in_real_time, send_once]


async def check_interrupt(
    session: LiveKitSession,
    heard: Recording,
    chance: random.Random,
    way: Callable[[LiveKitSession], Any],
    within: float,
) -> None:
    sent = session.statistics().seconds_sent
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(way, session)
        await played(session, 0.01)
        await anyio.sleep(chance.uniform(0.0, 0.15))
        if way is not play_whole:
            tasks.cancel_scope.cancel()
        at = spoken(session) - sent
        with anyio.CancelScope(shield=True):
            await session.interrupt()
            assert session.statistics().seconds_queued <= 0.011
            await session.send(frame_of(NEW))
            sound = await heard.until_quiet()
    assert np.array_equal(sound[-len(NEW) :], NEW)
    old = np.trim_zeros(sound[: -len(NEW)])
    if way in (play_whole, send_cut, send_once):
        assert ends_in_a_fade(old, OLD) / RATE <= at + 0.01 + 9 / RATE  # not faded much
    if way is send_in_real_time:  # in which there may be gaps
        silent = np.convolve(old == 0, np.ones(STEP // 2), "valid") == STEP // 2
        old = old[np.append(np.flatnonzero(silent), -1)[-2] + STEP // 2 :] if silent.any() else old
    else:
        assert len(old) / RATE <= at + within + 1 / RATE
    end = old[-2 * STEP :].astype(np.int32)
    assert np.abs(np.diff(end, append=0)).max() <= 0.03 * 32768, way


async def test_everything_sent_before_interrupt_returned_is_dropped_and_nothing_later() -> None:
    """With senders that never stop: each frame has its number as the value of its samples."""
    async with loopback(send_buffer=0.05) as session, recorded(session.rx) as heard:
        begun = 0

        async def send_for_ever() -> None:
            nonlocal begun
            while True:
                begun += 1
                await session.send(frame_of(np.full(STEP, begun, np.int16)))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(send_for_ever)
            for _ in range(20):
                await played(session, 0.03)
                last = begun  # nobody else runs between this and the call
                heard.frames.clear()
                await session.interrupt()
                first_new = begun + 1
                with anyio.fail_after(DEADLINE):
                    while not len(heard.sound) or heard.sound[-1] < first_new:
                        await anyio.sleep(0.005)
                values = np.unique(heard.sound)
                assert not ((values > last) & (values < first_new)).any()
                assert first_new in values
            tasks.cancel_scope.cancel()


async def test_what_has_not_come_to_the_line_yet_is_dropped_too() -> None:
    """At every turn of the loop another send begins, in whose first moment interrupt returns."""
    async with loopback() as session, recorded(session.rx) as heard:
        for first in range(1000, 9000, 1000):  # what is still to be heard has other values
            heard.frames.clear()
            begun = first

            async def send(number: int) -> None:
                nonlocal begun
                begun = number
                await session.send(frame_of(np.full(STEP, number, np.int16)))

            async def send_anew(start: int) -> None:
                for number in range(start, start + 999):
                    tasks.start_soon(send, number)
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_anew, first + 1)
                await anyio.sleep(0.002)
                before = begun
                await session.interrupt()
                last = begun
                with anyio.fail_after(DEADLINE):
                    while not len(heard.sound) or heard.sound.max() <= last:
                        await heard_more(heard)
                tasks.cancel_scope.cancel()
            if last > before:  # or else it may have been played before; and in a fade is any value
                assert np.count_nonzero(heard.sound == last) < STEP
            await session.interrupt()


async def test_interrupts_at_the_same_time_and_when_nothing_is_played() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        await session.interrupt()
        for _ in range(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.play, frame_of(OLD))
                await played(session, 0.05)
                for _ in range(3):
                    tasks.start_soon(session.interrupt)
                await in_line()
                await session.interrupt()  # the last to return
                await session.send(frame_of(NEW))
            assert np.array_equal((await heard.until_quiet())[-len(NEW) :], NEW)


async def test_what_is_sent_right_after_an_interrupt_of_nothing_is_played() -> None:
    """The pump was waiting for a frame when it was interrupted, and must not lose the next one."""
    async with loopback(send_buffer=1.0) as session, recorded(session.rx) as heard:
        numbers = range(1, 41)
        for number in numbers:
            frame = frame_of(np.full(STEP, number, np.int16))
            await session.interrupt()
            try:
                session.tx.send_nowait(frame)
            except anyio.WouldBlock:  # the pump is not back yet
                await session.send(frame)
            await session.wait_for_playout()
        await heard.until_quiet()
        assert set(numbers) <= set(np.unique(heard.sound).tolist())


async def test_interrupt_inside_the_source_that_is_played() -> None:
    async with loopback() as session:

        async def changes_its_mind() -> AsyncIterator[AudioFrame]:
            yield frame_of(OLD)
            await session.interrupt()
            yield frame_of(OLD)

        playout = await session.play(changes_its_mind())
        assert playout.interrupted
        assert playout.played <= len(OLD) / RATE
        assert playout.played + playout.dropped == pytest.approx(2 * len(OLD) / RATE)
        assert not (await session.play(frame_of(NEW))).interrupted


async def test_interrupt_while_the_session_plays_out() -> None:
    """The block has been left: what is left to play is silenced, and so the exit is quick."""
    async with anyio.create_task_group() as tasks:
        session: LiveKitSession

        async def interrupt() -> None:
            await played(session, 0.05)
            await session.interrupt()
            await session.interrupt()

        async with loopback(drain_timeout=60) as session:
            await session.send(frame_of(OLD))
            tasks.start_soon(interrupt)
        assert session.statistics().seconds_sent < 0.5


@pytest.mark.parametrize("native", [True, False])
async def test_an_interrupt_that_is_cancelled_has_been_made(native: bool) -> None:
    """By a scope, or as asyncio's own tasks and timeouts do."""
    async with loopback() as session, recorded(session.rx) as heard:
        await session.send(frame_of(OLD))
        await played(session, 0.05)
        if native:
            task = asyncio.create_task(session.interrupt())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        else:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await session.interrupt()
        assert session.statistics().seconds_queued <= 0.011
        await session.send(frame_of(NEW))
        assert np.array_equal((await heard.until_quiet())[-len(NEW) :], NEW)


@pytest.mark.parametrize(("rate", "length"), [(48000, 0.205), (24000, 0.2), (16000, 0.207)])
async def test_a_cancelled_play_leaves_nothing_to_be_heard_later(rate: int, length: float) -> None:
    """Not what was too short for a step, either, nor what was inside the resampler."""
    frame = AudioFrame.from_samples(tone(440, length, rate), rate)
    async with loopback() as session, recorded(session.rx) as heard:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.play, frame)
                await played(session, 0.1)
                scope.cancel()
        await heard.until_quiet(after=0.3)
        assert len(heard.sound) / RATE < 0.15
        await session.play(frame_of(NEW))
        assert np.array_equal((await heard.until_quiet())[-len(NEW) :], NEW)
    assert not np.trim_zeros(heard.sound[: -len(NEW)])[round(0.15 * RATE) :].any()


async def test_a_play_cancelled_before_it_has_given_anything_takes_nothing_away() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        await session.send(frame_of(OLD[:5000]))
        with anyio.move_on_after(0.02):
            await session.play(never())
        assert np.array_equal(await heard.until_quiet(), OLD[:5000])


async def never() -> AsyncIterator[AudioFrame]:
    await anyio.sleep_forever()
    yield frame_of(NEW)


async def test_a_play_cancelled_before_it_is_heard_is_not_heard_at_all() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        await session.send(frame_of(OLD[: 15 * STEP]))
        with anyio.move_on_after(0.03):
            await session.play(frame_of(NEW))
        assert np.array_equal(await heard.until_quiet(), OLD[: 15 * STEP])


async def test_an_interrupt_right_after_another_adds_nothing() -> None:
    chance = random.Random(2)
    async with loopback() as session, recorded(session.rx) as heard:
        for _ in range(12):
            heard.frames.clear()
            await session.send(frame_of(OLD))
            await played(session, 0.03)
            await session.interrupt()
            await anyio.sleep(chance.uniform(0, 0.015))
            await session.interrupt()
            ends_in_a_fade(await heard.until_quiet(), OLD)


async def test_what_was_heard_of_a_play_stays_though_its_source_takes_its_time_to_end() -> None:
    async def slow_to_end() -> AsyncIterator[AudioFrame]:
        yield frame_of(OLD)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)

    async with loopback() as session, recorded(session.rx):
        playouts: list[Playout] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play_noted, playouts, session, slow_to_end())
            await played(session, 0.1)
            await session.interrupt()
            await session.send(frame_of(NEW))
            await played(session, 0.05)
            await session.interrupt()
    assert playouts[0].played < 0.15


async def test_interrupt_while_the_session_is_torn_down() -> None:
    """The SDK's source is closed while it may be about to be cleared."""
    for _ in range(12):
        async with anyio.create_task_group() as tasks, loopback(drain_timeout=0) as session:
            await session.send(frame_of(OLD))
            await played(session, 0.02)
            tasks.start_soon(session.interrupt)
            await in_line()


async def test_play_and_interrupt_can_be_cancelled_anywhere() -> None:
    async with loopback(send_buffer=0.02) as session:

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.send, frame_of(NEW))
                tasks.start_soon(session.play, AsyncSource(pcm(NEW, 1111)))
                tasks.start_soon(session.wait_for_playout)
            await session.play(AsyncSource(cut(NEW, RATE)))
            await session.interrupt()
            await session.wait_for_playout()

        async def run_serially() -> None:
            source = AsyncSource(pcm(NEW, 1111))
            try:
                await session.play(source, sample_rate=RATE)
            finally:
                assert source.closed
            await session.interrupt()
            await session.wait_for_playout()

        async def check() -> None:
            with anyio.fail_after(DEADLINE):
                playout = await session.play(frame_of(NEW[:STEP]))
            assert playout == Playout(0.01, 0.0, interrupted=False)

        assert await cancel_everywhere(run_serially, check) > 5


async def test_wait_for_playout_waits_for_what_was_sent_before_and_no_longer() -> None:
    """A pump who never stops does not make it wait for ever."""
    async with loopback(send_buffer=0.1) as session, anyio.create_task_group() as tasks:

        async def send_for_ever() -> None:
            while True:
                await session.send(frame_of(OLD[: 2 * STEP]))

        tasks.start_soon(send_for_ever)
        await played(session, 0.1)
        sent = session.statistics().seconds_sent
        with anyio.fail_after(DEADLINE):
            await session.wait_for_playout()
        assert spoken(session) >= sent - 1e-9
        assert session.statistics().seconds_queued > 0
        tasks.cancel_scope.cancel()


async def test_wait_for_playout_of_what_is_sent_in_one_long_frame() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        await session.send(frame_of(OLD))
        await session.wait_for_playout()
        assert spoken(session) == pytest.approx(0.6, abs=0.011)
        # It is in the SDK's hands; what was not in time for this frame of 20 ms is in the next.
        with anyio.fail_after(DEADLINE):
            while len(heard.sound) < len(OLD):
                await heard_more(heard)
        await session.send(frame_of(OLD))
        with anyio.move_on_after(0.1) as scope:
            await session.wait_for_playout()
        assert scope.cancelled_caught
        assert np.array_equal((await heard.until_quiet())[-len(OLD) :], OLD)  # not silenced


async def heard_more(heard: Recording) -> None:
    before = len(heard.frames)
    while len(heard.frames) == before:
        await anyio.sleep(0.001)


async def test_play_after_tx_was_closed_and_wait_for_what_was_sent() -> None:
    async with loopback() as session, recorded(session.rx) as heard:
        await session.send(frame_of(OLD))
        await session.tx.aclose()
        with pytest.raises(anyio.ClosedResourceError, match="tx is closed"):
            await session.play(frame_of(NEW))
        await session.wait_for_playout()
        assert np.array_equal(await heard.until_quiet(), OLD)
        await session.interrupt()
        await session.wait_for_playout()
    for use in (session.interrupt, lambda: session.play(frame_of(NEW))):
        with pytest.raises(anyio.ClosedResourceError, match="livekit: transport is closed"):
            await use()


async def test_a_play_when_the_session_is_left_is_told_and_what_it_gave_is_played() -> None:
    errors: list[Exception] = []
    source = AsyncSource(cut(OLD, RATE))

    async def play(session: LiveKitSession) -> None:
        try:
            await session.play(source)
        except anyio.ClosedResourceError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks, loopback() as session:
        tasks.start_soon(play, session)
        await played(session, 0.05)
    assert len(errors) == 1
    assert source.closed
    assert source.given < len(source.pieces)
    assert not own_tasks()


async def test_a_play_whose_source_never_gives_again_ends_with_the_session() -> None:
    errors: list[Exception] = []
    given = anyio.Event()

    async def hangs() -> AsyncIterator[AudioFrame]:
        yield frame_of(NEW)
        given.set()
        await anyio.sleep_forever()

    async def play(session: LiveKitSession) -> None:
        try:
            await session.play(hangs())
        except anyio.ClosedResourceError as error:
            errors.append(error)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks, loopback() as session:
            tasks.start_soon(play, session)
            tasks.start_soon(play, session)  # waits in line
            await given.wait()
    assert [str(error) for error in errors] == ["livekit: transport is closed"] * 2


async def test_a_play_that_has_given_all_is_played_to_its_end_when_the_session_is_left() -> None:
    playouts: list[Playout] = []
    async with anyio.create_task_group() as tasks, loopback() as session:
        tasks.start_soon(play_noted, playouts, session, frame_of(OLD))
        await played(session, 0.01)
    assert playouts == [Playout(len(OLD) / RATE, 0.0, interrupted=False)]


async def test_a_play_in_a_room_is_heard_and_interrupted(server: Server, token: MakeToken) -> None:
    async with (
        open_livekit(server.url, token("ann")) as ann,
        open_livekit(server.url, token("ben")) as ben,
    ):
        await calm()
        playouts: list[Playout] = []

        async def play() -> None:
            playouts.append(await ann.play(tone(440, 5.0, 24000).tobytes(), sample_rate=24000))

        async def interrupt() -> None:
            await played(ann, 0.8)
            await ann.interrupt()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            tasks.start_soon(interrupt)
            frames = await hear(ben.rx)
        (playout,) = playouts
        assert playout.interrupted
        heard = measure(samples_of(frames), 16000, onset=0.5)
        assert heard.frequency == pytest.approx(440, abs=1)
        # Jitter buffers and the codec's beginnings and ends.
        assert heard.duration == pytest.approx(playout.played, abs=0.08)


@pytest.mark.parametrize(("seconds", "piece"), [(30.0, 0.02), (30.0, 30.0), (0.9, 0.9)])
async def test_a_play_when_the_room_is_deleted(
    server: Server, token: MakeToken, admin: Admin, seconds: float, piece: float
) -> None:
    """While its source gives frames, or all of it is with the pump already, or with the SDK."""
    source = AsyncSource(cut(tone(440, seconds, RATE), RATE, piece))
    async with open_livekit(
        server.url, token("bot"), subscription_timeout=0, send_buffer=1.0
    ) as session:

        async def delete() -> None:
            await played(session, 0.1)
            await admin.delete_room()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete)
            with pytest.raises(DisconnectedError):
                await session.play(source)
        assert source.closed
        with pytest.raises(DisconnectedError):
            await session.play(frame_of(NEW))
        with pytest.raises(DisconnectedError):
            await session.wait_for_playout()


async def test_a_room_that_is_deleted_while_the_last_is_waited_for(
    server: Server, token: MakeToken, admin: Admin
) -> None:
    """Tx is closed, and what was accepted cannot be played any more."""
    async with open_livekit(server.url, token("bot"), subscription_timeout=0) as session:
        await session.send(AudioFrame.from_samples(tone(440, 30.0, 16000), 16000))
        await session.send_eof()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(admin.delete_room)
            with pytest.raises(DisconnectedError):
                await session.wait_for_playout()


async def test_a_session_that_only_receives_plays_nothing(server: Server, token: MakeToken) -> None:
    async with open_livekit(server.url, token("bot"), publish=False) as session:
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.play(frame_of(NEW))
        await session.interrupt()
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.wait_for_playout()
