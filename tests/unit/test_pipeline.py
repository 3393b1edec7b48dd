"""What one stream hears: no silence beside sound, and no sound without a name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import attrs
import numpy as np
import pytest

from beluga_livekit import AudioFrame
from beluga_livekit._logging import SessionLog
from beluga_livekit._options import ReceiveOptions
from beluga_livekit._receive.pipeline import ReceivePipeline
from beluga_livekit._room.state import Track

pytestmark = pytest.mark.anyio

A, B = Track("a", "ann"), Track("b", "ben")
SOUND = np.full(960, 1000, np.int16)


@pytest.fixture(params=[True, False], ids=["mixed", "apart"])
async def listener(request: pytest.FixtureRequest) -> AsyncIterator[ReceivePipeline]:
    listener = ReceivePipeline(ReceiveOptions(mix=request.param), SessionLog())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.fill_silence)
        yield listener
        listener.close()
    listener.buffer.rx.close()


def read(listener: ReceivePipeline) -> list[AudioFrame]:
    rx = listener.buffer.rx
    return [rx.receive_nowait() for _ in range(rx.statistics().current_buffer_used)]


@pytest.mark.parametrize("apart", [True, False])
async def test_silence_ends_where_a_track_begins(listener: ReceivePipeline, apart: bool) -> None:
    for _ in range(5):
        listener.push(A, SOUND, anyio.current_time())
    listener.remove("a")
    with anyio.fail_after(5):
        while listener.statistics().seconds < 0.3:  # of silence, for the most part
            await anyio.sleep(0.001)
    read(listener)
    listener.push(B, SOUND, anyio.current_time(), separate=apart)
    await anyio.sleep(0.1)
    assert [frame.participant for frame in read(listener)] == ["ben"]


async def test_what_is_lost_is_heard_to_its_end(listener: ReceivePipeline) -> None:
    for _ in range(5):
        listener.push(A, SOUND, anyio.current_time())
    listener.remove("a")
    await anyio.sleep(0.1)
    sound = np.concatenate([frame.samples for frame in read(listener)])
    assert (sound > 500).sum() == pytest.approx(5 * 320, abs=2)


async def test_what_waited_for_a_track_that_is_lost_is_heard_at_once() -> None:
    listener = ReceivePipeline(ReceiveOptions(), SessionLog())
    for number in range(3):
        listener.push(A, SOUND, 100 + 0.02 * number)
        listener.push(B, SOUND, 100.01 + 0.02 * number)
    before = listener.statistics().frames
    listener.remove("a")
    assert listener.statistics().frames == before + 1
    listener.close()
    listener.buffer.rx.close()


async def test_a_listener_that_nobody_reads_hears_nothing(listener: ReceivePipeline) -> None:
    listener.buffer.rx.close()
    listener.push(A, SOUND, anyio.current_time())
    assert not listener.is_open
    assert listener.statistics().frames == 0


async def test_receive_statistics_count_frames_and_audio() -> None:
    """Contract: `frames` and `seconds` in all, the rest of what waits and what was lost."""
    pipeline = ReceivePipeline(ReceiveOptions(mix=False), SessionLog())
    for number in range(4):
        pipeline.push(A, SOUND, 100 + 0.02 * number)
        pipeline.push(B, SOUND, 100 + 0.02 * number)
    pipeline.buffer.rx.receive_nowait()  # of A
    statistics = pipeline.statistics()
    rounded = {name: round(value, 9) for name, value in attrs.asdict(statistics).items()}
    assert rounded == {
        "frames": 8,
        "seconds": 0.16,
        "frames_dropped": 0,
        "seconds_dropped": 0.0,
        "seconds_trimmed": 0.0,
        "seconds_buffered": 0.14,
        "delay": 0.08,  # of B
    }
    pipeline.close()
    pipeline.buffer.rx.close()


@pytest.mark.parametrize(("frame_size", "frame_ms"), [(80, 10), (160, 10), (161, 20), (320, 20)])
async def test_pipeline_reads_half_wire_frames_for_short_frames(
    frame_size: int, frame_ms: int
) -> None:
    pipeline = ReceivePipeline(ReceiveOptions(frame_size=frame_size), SessionLog())
    assert pipeline.frame_ms == frame_ms
    pipeline.close()
    pipeline.buffer.rx.close()
