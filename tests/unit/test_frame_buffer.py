"""FrameBuffer: the bounds and the latency of rx."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import attrs
import numpy as np
import pytest
from support.clock import Clock, replace_time

from beluga_livekit import AudioFrame
from beluga_livekit._logging import SessionLog
from beluga_livekit._receive import frame_buffer
from beluga_livekit._receive.frame_buffer import MAX_CONTENT, FrameBuffer

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return replace_time(monkeypatch, frame_buffer)


@pytest.fixture
def buffer() -> Iterator[FrameBuffer]:
    buffer = FrameBuffer(1.0, None, SessionLog())
    yield buffer
    buffer.close()
    buffer.rx.close()


def frame(number: int, track: str = "a", seconds: float = 0.02) -> AudioFrame:
    data = number.to_bytes(2, "little") * round(16000 * seconds)
    return AudioFrame(data, 16000, track_sid=track)


def put(buffer: FrameBuffer, frame: AudioFrame) -> None:
    """Put a frame that is ordered within its own track."""
    buffer.put(frame, frame.track_sid)


def read(buffer: FrameBuffer) -> list[AudioFrame]:
    frames = []
    while buffer.rx.statistics().current_buffer_used:
        frames.append(buffer.rx.receive_nowait())
    return frames


async def test_buffer_drops_nothing_when_reader_keeps_up(buffer: FrameBuffer, clock: Clock) -> None:
    """Contract: a reader in real time receives every frame."""
    for number in range(500):
        buffer.put(frame(number))
        assert buffer.rx.receive_nowait() == frame(number)
        clock.now += 0.02
    assert buffer.counters.frames_dropped == 0


async def test_frames_older_than_receive_buffer_are_dropped_and_counted(
    buffer: FrameBuffer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: the oldest frames are dropped, counted, reported in `lost`, and logged once."""
    for number in range(200):
        buffer.put(frame(number))
        clock.now += 0.02
        assert buffer.seconds_buffered <= 1.0 + 0.02 + 1e-9
    frames = read(buffer)
    lost = 200 - len(frames)
    assert [f.samples[0] for f in frames] == list(range(lost, 200))
    assert frames[0].lost == pytest.approx(lost * 0.02)
    assert all(f.lost == 0 for f in frames[1:])
    assert buffer.counters.frames_dropped == lost
    assert buffer.counters.seconds_dropped == pytest.approx(lost * 0.02)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [
        "livekit: rx was not read for 1.0 s: dropping the oldest frames; read it, or close it"
    ]


async def test_burst_after_stall_is_kept_whole(buffer: FrameBuffer, clock: Clock) -> None:
    """Contract: `receive_buffer` bounds age, so a burst after a stall of the event loop is kept."""
    clock.now += 3.0
    for number in range(150):
        buffer.put(frame(number))
    assert [f.samples[0] for f in read(buffer)] == list(range(150))
    assert buffer.counters.frames_dropped == 0


async def test_buffer_holds_at_most_30_s(buffer: FrameBuffer, clock: Clock) -> None:
    """Contract: content is bounded too, however young it is."""
    for number in range(2000):
        buffer.put(frame(number))
    assert buffer.seconds_buffered <= MAX_CONTENT
    assert read(buffer)[-1] == frame(1999)


async def test_loss_is_reported_to_track_that_lost_it(buffer: FrameBuffer, clock: Clock) -> None:
    """Contract: `lost` counts the dropped audio of the frame's own track."""
    for number in range(60):
        put(buffer, frame(number, "ab"[number % 2]))
        clock.now += 0.02
    frames = read(buffer)
    by_track = {track: [f for f in frames if f.track_sid == track] for track in "ab"}
    for kept in by_track.values():
        assert kept[0].lost == pytest.approx((30 - len(kept)) * 0.02)
    assert sum(f.lost for f in frames) == pytest.approx(buffer.counters.seconds_dropped)


async def test_loss_is_reported_with_next_frame_when_track_has_none_buffered(
    buffer: FrameBuffer, clock: Clock
) -> None:
    """Contract: no loss goes unreported."""
    put(buffer, frame(0, "a"))
    clock.now += 5.0
    put(buffer, frame(1, "b"))
    assert [f.lost for f in read(buffer)] == [0.0]
    put(buffer, frame(2, "a"))
    assert [f.lost for f in read(buffer)] == [pytest.approx(0.02)]


async def test_newest_long_frame_is_kept_when_older_one_is_dropped(
    buffer: FrameBuffer, clock: Clock
) -> None:
    """Contract: the newest frame always arrives."""
    buffer.put(frame(1, seconds=0.5))
    clock.now += 2.0
    buffer.put(frame(2, seconds=0.5))
    assert [f.samples[0] for f in read(buffer)] == [2]


async def test_closed_buffer_can_be_read_to_its_end(buffer: FrameBuffer) -> None:
    """Contract: buffered frames precede EndOfStream."""
    buffer.put(frame(1))
    buffer.close()
    assert (await buffer.rx.receive()) == frame(1)
    with pytest.raises(anyio.EndOfStream):
        await buffer.rx.receive()


async def test_buffer_has_reader_until_last_clone_closes(buffer: FrameBuffer) -> None:
    """Contract: clones of rx keep the stream alive."""
    clone = buffer.rx.clone()
    buffer.rx.close()
    assert buffer.has_reader
    clone.close()
    assert not buffer.has_reader


@pytest.fixture
def trimming_buffer() -> Iterator[FrameBuffer]:
    buffer = FrameBuffer(1.0, 0.04, SessionLog())
    yield buffer
    buffer.close()
    buffer.rx.close()


def sine(number: int, *, channels: int = 1, track: str = "a") -> AudioFrame:
    """The 20 ms of this number of an endless 440 Hz tone at half scale."""
    at = (number * 320 + np.arange(320)) / 16000
    sound = 0.5 * np.sin(2 * np.pi * 440 * at)
    both = sound if channels == 1 else np.stack([sound, sound], axis=1)
    return attrs.evolve(AudioFrame.from_samples(both, 16000), track_sid=track)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("late", [3, 7, 40, 100])
async def test_excess_latency_is_trimmed_without_click(
    trimming_buffer: FrameBuffer,
    clock: Clock,
    late: int,
    channels: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Contract: a backlog that never drains is trimmed with a crossfade and logged once."""
    received: list[AudioFrame] = []
    for number in range(late):
        trimming_buffer.put(sine(number, channels=channels))
    for number in range(late, late + 200):
        trimming_buffer.put(sine(number, channels=channels))
        received.append(trimming_buffer.rx.receive_nowait())
        clock.now += 0.02
    assert trimming_buffer.delay <= 0.02 + 1e-9
    trimmed = (late - 1) * 0.02 if late <= 50 else None
    if trimmed is not None:
        assert trimming_buffer.counters.seconds_trimmed == pytest.approx(trimmed, abs=0.021)
    assert sum(frame.lost for frame in received) == pytest.approx(
        trimming_buffer.counters.seconds_dropped
    )
    sound = np.concatenate([frame.samples for frame in received]).astype(np.float64)
    steps = np.abs(np.diff(sound, axis=0))
    assert steps.max() <= 1.02 * 32767 * 0.5 * 2 * np.sin(np.pi * 440 / 16000)
    assert len(caplog.records) == 1


async def test_nothing_is_trimmed_when_reader_catches_up(
    trimming_buffer: FrameBuffer, clock: Clock
) -> None:
    """Contract: a reader blocked for 3 s that then reads at twice the speed loses nothing."""
    received: list[AudioFrame] = []
    for number in range(150):
        trimming_buffer.put(sine(number))
    for number in range(150, 400):
        trimming_buffer.put(sine(number))
        for _ in range(6):
            if trimming_buffer.rx.statistics().current_buffer_used:
                received.append(trimming_buffer.rx.receive_nowait())
        clock.now += 0.02
    assert received == [sine(number) for number in range(400)]


async def test_nothing_is_trimmed_without_max_delay(buffer: FrameBuffer, clock: Clock) -> None:
    """Contract: `max_delay=None` trims nothing."""
    for number in range(40):
        buffer.put(sine(number))
    for number in range(40, 400):
        buffer.put(sine(number))
        assert buffer.rx.receive_nowait() == sine(number - 40)
        clock.now += 0.02


async def test_trim_leaves_one_frame_per_track_when_unmixed(
    trimming_buffer: FrameBuffer, clock: Clock
) -> None:
    """Contract: with `mix=False` each track is trimmed by itself."""
    for number in range(101):
        for track in "abc":
            trimming_buffer.put(sine(number, track=track))
        for _ in range(3 if number >= 10 else 0):
            trimming_buffer.rx.receive_nowait()
        clock.now += 0.02
    left = [frame.track_sid for frame in read(trimming_buffer)]
    assert len(left) == len(set(left)) <= 3
    assert trimming_buffer.counters.seconds_trimmed == pytest.approx(3 * 9 * 0.02, abs=3 * 0.021)


async def test_nothing_is_trimmed_when_reader_pauses_and_catches_up(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a pause is no excess latency."""
    buffer = FrameBuffer(5.0, 0.04, SessionLog())
    for number in range(400):
        buffer.put(frame(number))
        clock.now += 0.02
        if not 50 <= number < 200:
            frames = read(buffer)
            assert {frame.lost for frame in frames} <= {0.0}
    assert buffer.counters.seconds_dropped == 0
    assert not caplog.text
    buffer.close()
    buffer.rx.close()


async def test_backlog_is_trimmed_when_reader_reads_in_bursts(
    clock: Clock,
) -> None:
    """Contract: a reader that takes 0.2 s at a time, 0.6 s late, is in real time and is trimmed."""
    buffer = FrameBuffer(1.0, 0.04, SessionLog())
    for number in range(300):
        buffer.put(frame(number))
        clock.now += 0.02
        if number >= 30 and number % 10 == 0:  # 0.2 s at a time, 0.6 s late
            for _ in range(min(10, buffer.rx.statistics().current_buffer_used)):
                buffer.rx.receive_nowait()
    assert 0.3 < buffer.counters.seconds_trimmed < 1.5
    assert buffer.delay <= 0.25
    buffer.close()
    buffer.rx.close()


async def test_unread_buffer_drops_and_warns_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a stream without reads is never trimmed; one warning names it and the remedy."""
    buffer = FrameBuffer(1.0, 0.04, SessionLog(), "the spare")
    for number in range(400):
        buffer.put(frame(number))
        clock.now += 0.02
    assert buffer.counters.seconds_trimmed == 0
    assert caplog.text.count("the spare was not read for 1.0 s") == 1
    assert "close it" in caplog.text
    buffer.close()
    buffer.rx.close()


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
        if not queue.counters.seconds_trimmed:
            trimmed_after = clock.now - 100.0
        clock.now += 0.02
    assert trimmed_after == pytest.approx(3.0, abs=0.05)
    assert queue.counters.seconds_trimmed == pytest.approx(10 * 0.02)
    queue.close()
    queue.rx.close()


async def test_frame_buffer_warning_has_stream_name_with_any_characters(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a participant's identity is part of the name, and may contain a `%`."""
    buffer = FrameBuffer(1.0, None, SessionLog(), "the stream of '100%s'")
    buffer.put(frame(0))
    clock.now += 2.0
    buffer.put(frame(1))
    assert "the stream of '100%s' was not read for 1.0 s" in caplog.text
    buffer.close()
    buffer.rx.close()
