"""The queue behind rx drops what nobody read in time, and tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import attrs
import numpy as np
import pytest

from beluga_livekit import AudioFrame
from beluga_livekit._logging import SessionLog
from beluga_livekit._receive.frame_buffer import MAX_CONTENT, FrameBuffer

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that goes when it is told to: a second of waiting is otherwise a second of test."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("beluga_livekit._receive.frame_buffer.time", clock)
    return clock


@pytest.fixture
def queue() -> Iterator[FrameBuffer]:
    queue = FrameBuffer(1.0, None, SessionLog())
    yield queue
    queue.close()
    queue.rx.close()


def frame(number: int, track: str = "a", seconds: float = 0.02) -> AudioFrame:
    data = number.to_bytes(2, "little") * round(16000 * seconds)
    return AudioFrame(data, 16000, track_sid=track)


def put(queue: FrameBuffer, frame: AudioFrame) -> None:
    """In a lane of its track."""
    queue.put(frame, frame.track_sid)


def read(queue: FrameBuffer) -> list[AudioFrame]:
    frames = []
    while queue.rx.statistics().current_buffer_used:
        frames.append(queue.rx.receive_nowait())
    return frames


async def test_a_reader_that_keeps_up_loses_nothing(queue: FrameBuffer, clock: Clock) -> None:
    for number in range(500):
        queue.put(frame(number))
        assert queue.rx.receive_nowait() == frame(number)
        clock.now += 0.02
    assert queue.frames_dropped == 0


async def test_what_waited_too_long_is_dropped_counted_and_told(
    queue: FrameBuffer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        queue.put(frame(number))
        clock.now += 0.02
        assert queue.seconds_buffered <= 1.0 + 0.02 + 1e-9
    frames = read(queue)
    lost = 200 - len(frames)
    assert [f.samples[0] for f in frames] == list(range(lost, 200))
    assert frames[0].lost == pytest.approx(lost * 0.02)
    assert all(f.lost == 0 for f in frames[1:])
    assert queue.frames_dropped == lost
    assert queue.seconds_dropped == pytest.approx(lost * 0.02)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [
        "livekit: rx was not read for 1.0 s: dropping the oldest frames; read it, or close it"
    ]


async def test_after_a_stall_a_whole_backlog_at_once_is_kept(
    queue: FrameBuffer, clock: Clock
) -> None:
    clock.now += 3.0
    for number in range(150):
        queue.put(frame(number))
    assert [f.samples[0] for f in read(queue)] == list(range(150))
    assert queue.frames_dropped == 0


async def test_never_more_than_30_s_are_kept(queue: FrameBuffer, clock: Clock) -> None:
    for number in range(2000):
        queue.put(frame(number))
    assert queue.seconds_buffered <= MAX_CONTENT
    assert read(queue)[-1] == frame(1999)


async def test_what_is_lost_is_told_to_the_track_that_lost_it(
    queue: FrameBuffer, clock: Clock
) -> None:
    for number in range(60):
        put(queue, frame(number, "ab"[number % 2]))
        clock.now += 0.02
    frames = read(queue)
    by_track = {track: [f for f in frames if f.track_sid == track] for track in "ab"}
    for kept in by_track.values():
        assert kept[0].lost == pytest.approx((30 - len(kept)) * 0.02)
    assert sum(f.lost for f in frames) == pytest.approx(queue.seconds_dropped)


async def test_a_track_with_nothing_left_in_the_queue_is_told_with_its_next_frame(
    queue: FrameBuffer, clock: Clock
) -> None:
    put(queue, frame(0, "a"))
    clock.now += 5.0
    put(queue, frame(1, "b"))
    assert [f.lost for f in read(queue)] == [0.0]
    put(queue, frame(2, "a"))
    assert [f.lost for f in read(queue)] == [pytest.approx(0.02)]


async def test_a_frame_longer_than_the_bound_still_arrives(
    queue: FrameBuffer, clock: Clock
) -> None:
    queue.put(frame(1, seconds=0.5))
    clock.now += 2.0
    queue.put(frame(2, seconds=0.5))
    assert [f.samples[0] for f in read(queue)] == [2]


async def test_closing_lets_what_waits_be_read(queue: FrameBuffer) -> None:
    queue.put(frame(1))
    queue.close()
    assert (await queue.rx.receive()) == frame(1)
    with pytest.raises(anyio.EndOfStream):
        await queue.rx.receive()


async def test_the_queue_knows_whether_anybody_can_read_it(queue: FrameBuffer) -> None:
    clone = queue.rx.clone()
    queue.rx.close()
    assert queue.has_reader
    clone.close()
    assert not queue.has_reader


@pytest.fixture
def healing() -> Iterator[FrameBuffer]:
    queue = FrameBuffer(1.0, 0.04, SessionLog())
    yield queue
    queue.close()
    queue.rx.close()


def sine(number: int, *, channels: int = 1, track: str = "a") -> AudioFrame:
    """The 20 ms of this number of an endless 440 Hz tone at half scale."""
    at = (number * 320 + np.arange(320)) / 16000
    sound = 0.5 * np.sin(2 * np.pi * 440 * at)
    both = sound if channels == 1 else np.stack([sound, sound], axis=1)
    return attrs.evolve(AudioFrame.from_samples(both, 16000), track_sid=track)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("late", [3, 7, 40, 100])
async def test_a_delay_that_stands_is_shed_without_a_step(
    healing: FrameBuffer, clock: Clock, late: int, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader in real time that is late by so many frames, as after a stall."""
    heard: list[AudioFrame] = []
    for number in range(late):
        healing.put(sine(number, channels=channels))
    for number in range(late, late + 200):
        healing.put(sine(number, channels=channels))
        heard.append(healing.rx.receive_nowait())
        clock.now += 0.02
    assert healing.delay <= 0.02 + 1e-9
    shed = (late - 1) * 0.02 if late <= 50 else None
    if shed is not None:
        assert healing.seconds_trimmed == pytest.approx(shed, abs=0.021)
    assert sum(frame.lost for frame in heard) == pytest.approx(healing.seconds_dropped)
    sound = np.concatenate([frame.samples for frame in heard]).astype(np.float64)
    steps = np.abs(np.diff(sound, axis=0))
    assert steps.max() <= 1.02 * 32767 * 0.5 * 2 * np.sin(np.pi * 440 / 16000)
    assert len(caplog.records) == 1


async def test_a_reader_that_catches_up_loses_nothing(healing: FrameBuffer, clock: Clock) -> None:
    """It was blocked for 3 s, the whole backlog came at once, and it reads at twice the speed."""
    heard: list[AudioFrame] = []
    for number in range(150):
        healing.put(sine(number))
    for number in range(150, 400):
        healing.put(sine(number))
        for _ in range(6):
            if healing.rx.statistics().current_buffer_used:
                heard.append(healing.rx.receive_nowait())
        clock.now += 0.02
    assert heard == [sine(number) for number in range(400)]


async def test_without_a_bound_nothing_is_shed(queue: FrameBuffer, clock: Clock) -> None:
    for number in range(40):
        queue.put(sine(number))
    for number in range(40, 400):
        queue.put(sine(number))
        assert queue.rx.receive_nowait() == sine(number - 40)
        clock.now += 0.02


async def test_of_several_speakers_each_keeps_at_most_one_frame(
    healing: FrameBuffer, clock: Clock
) -> None:
    for number in range(101):
        for track in "abc":
            healing.put(sine(number, track=track))
        for _ in range(3 if number >= 10 else 0):
            healing.rx.receive_nowait()
        clock.now += 0.02
    left = [frame.track_sid for frame in read(healing)]
    assert len(left) == len(set(left)) <= 3
    assert healing.seconds_trimmed == pytest.approx(3 * 9 * 0.02, abs=3 * 0.021)


async def test_a_reader_that_is_away_for_a_while_and_then_fast_is_not_taken_for_late(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = FrameBuffer(5.0, 0.04, SessionLog())
    for number in range(400):
        queue.put(frame(number))
        clock.now += 0.02
        if not 50 <= number < 200:
            frames = read(queue)
            assert {frame.lost for frame in frames} <= {0.0}
    assert queue.seconds_dropped == 0
    assert not caplog.text
    queue.close()
    queue.rx.close()


async def test_a_reader_that_is_late_all_the_time_heals_though_it_reads_in_pieces(
    clock: Clock,
) -> None:
    queue = FrameBuffer(1.0, 0.04, SessionLog())
    for number in range(300):
        queue.put(frame(number))
        clock.now += 0.02
        if number >= 30 and number % 10 == 0:  # 0.2 s at a time, and 0.6 s late
            for _ in range(min(10, queue.rx.statistics().current_buffer_used)):
                queue.rx.receive_nowait()
    assert 0.3 < queue.seconds_trimmed < 1.5
    assert queue.delay <= 0.25
    queue.close()
    queue.rx.close()


async def test_one_that_is_never_read_is_told_of_as_what_it_is(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = FrameBuffer(1.0, 0.04, SessionLog(), "the spare")
    for number in range(400):
        queue.put(frame(number))
        clock.now += 0.02
    assert queue.seconds_trimmed == 0
    assert caplog.text.count("the spare was not read for 1.0 s") == 1
    assert "close it" in caplog.text
    queue.close()
    queue.rx.close()


async def test_frame_buffer_without_backlog_never_trims_when_max_delay_is_zero(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: a reader in time was reported as late, by 0.00 s, once a second."""
    queue = FrameBuffer(1.0, 0.0, SessionLog())
    for number in range(200):
        queue.put(frame(number))
        assert queue.rx.receive_nowait() == frame(number)
        clock.now += 0.02
    assert not caplog.text
    queue.close()
    queue.rx.close()


async def test_frame_buffer_trims_after_the_window_of_a_long_receive_buffer(clock: Clock) -> None:
    """Contract: the backlog must outlast `receive_buffer`, not only MIN_STANDING."""
    queue = FrameBuffer(3.0, 0.04, SessionLog())
    trimmed_after = 0.0
    for number in range(10):
        queue.put(frame(number))
    for number in range(10, 300):
        queue.put(frame(number))
        queue.rx.receive_nowait()
        if not queue.seconds_trimmed:
            trimmed_after = clock.now - 100.0
        clock.now += 0.02
    assert trimmed_after == pytest.approx(3.0, abs=0.05)
    assert queue.seconds_trimmed == pytest.approx(10 * 0.02)
    queue.close()
    queue.rx.close()
