"""The queue behind rx drops what nobody read in time, and tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import pytest

from beluga_livekit import AudioFrame
from beluga_livekit._log import SessionLog
from beluga_livekit._queue import MAX_CONTENT, FrameQueue

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
    monkeypatch.setattr("beluga_livekit._queue.time", clock)
    return clock


@pytest.fixture
def queue() -> Iterator[FrameQueue]:
    queue = FrameQueue(1.0, SessionLog())
    yield queue
    queue.close()
    queue.rx.close()


def frame(number: int, track: str = "a", seconds: float = 0.02) -> AudioFrame:
    data = number.to_bytes(2, "little") * round(16000 * seconds)
    return AudioFrame(data, 16000, track_sid=track)


def read(queue: FrameQueue) -> list[AudioFrame]:
    frames = []
    while queue.rx.statistics().current_buffer_used:
        frames.append(queue.rx.receive_nowait())
    return frames


async def test_a_reader_that_keeps_up_loses_nothing(queue: FrameQueue, clock: Clock) -> None:
    for number in range(500):
        queue.put(frame(number))
        assert queue.rx.receive_nowait() == frame(number)
        clock.now += 0.02
    assert queue.frames_dropped == 0


async def test_what_waited_too_long_is_dropped_counted_and_told(
    queue: FrameQueue, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        queue.put(frame(number))
        clock.now += 0.02
        assert queue.seconds_waiting <= 1.0 + 0.02 + 1e-9
    frames = read(queue)
    lost = 200 - len(frames)
    assert [f.samples[0] for f in frames] == list(range(lost, 200))
    assert frames[0].lost == pytest.approx(lost * 0.02)
    assert all(f.lost == 0 for f in frames[1:])
    assert queue.frames_dropped == lost
    assert queue.seconds_dropped == pytest.approx(lost * 0.02)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == ["livekit: rx was not read for 1.0 s, dropping the oldest"]


async def test_after_a_stall_a_whole_backlog_at_once_is_kept(
    queue: FrameQueue, clock: Clock
) -> None:
    clock.now += 3.0
    for number in range(150):
        queue.put(frame(number))
    assert [f.samples[0] for f in read(queue)] == list(range(150))
    assert queue.frames_dropped == 0


async def test_never_more_than_30_s_are_kept(queue: FrameQueue, clock: Clock) -> None:
    for number in range(2000):
        queue.put(frame(number))
    assert queue.seconds_waiting <= MAX_CONTENT
    assert read(queue)[-1] == frame(1999)


async def test_what_is_lost_is_told_to_the_track_that_lost_it(
    queue: FrameQueue, clock: Clock
) -> None:
    for number in range(60):
        queue.put(frame(number, "ab"[number % 2]))
        clock.now += 0.02
    frames = read(queue)
    by_track = {track: [f for f in frames if f.track_sid == track] for track in "ab"}
    for kept in by_track.values():
        assert kept[0].lost == pytest.approx((30 - len(kept)) * 0.02)
    assert sum(f.lost for f in frames) == pytest.approx(queue.seconds_dropped)


async def test_a_track_with_nothing_left_in_the_queue_is_told_with_its_next_frame(
    queue: FrameQueue, clock: Clock
) -> None:
    queue.put(frame(0, "a"))
    clock.now += 5.0
    queue.put(frame(1, "b"))
    assert [f.lost for f in read(queue)] == [0.0]
    queue.put(frame(2, "a"))
    assert [f.lost for f in read(queue)] == [pytest.approx(0.02)]


async def test_a_frame_longer_than_the_bound_still_arrives(queue: FrameQueue, clock: Clock) -> None:
    queue.put(frame(1, seconds=0.5))
    clock.now += 2.0
    queue.put(frame(2, seconds=0.5))
    assert [f.samples[0] for f in read(queue)] == [2]


async def test_closing_lets_what_waits_be_read(queue: FrameQueue) -> None:
    queue.put(frame(1))
    queue.close()
    assert (await queue.rx.receive()) == frame(1)
    with pytest.raises(anyio.EndOfStream):
        await queue.rx.receive()


async def test_the_queue_knows_whether_anybody_can_read_it(queue: FrameQueue) -> None:
    clone = queue.rx.clone()
    queue.rx.close()
    assert queue.has_reader
    clone.close()
    assert not queue.has_reader
