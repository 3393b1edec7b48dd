"""ReceivePipeline: when silence fills rx, and the participant of each frame."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import attrs
import numpy as np
import pytest
from support.clock import replace_time
from support.waiting import wait_for

from beluga_livekit import AudioFrame
from beluga_livekit._logging import SessionLog
from beluga_livekit._options import ReceiveOptions
from beluga_livekit._receive import frame_buffer
from beluga_livekit._receive import pipeline as pipeline_module
from beluga_livekit._receive.pipeline import ReceivePipeline
from beluga_livekit._room.state import Track

pytestmark = pytest.mark.anyio

A, B = Track("a", "ann"), Track("b", "ben")


SOUND = np.full(960, 1000, np.int16)


@pytest.fixture(params=[True, False], ids=["mixed", "apart"])
async def pipeline(request: pytest.FixtureRequest) -> AsyncIterator[ReceivePipeline]:
    pipeline = ReceivePipeline(ReceiveOptions(mix=request.param), SessionLog())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipeline.fill_silence)
        yield pipeline
        pipeline.close()
    pipeline.buffer.rx.close()


def read(pipeline: ReceivePipeline) -> list[AudioFrame]:
    rx = pipeline.buffer.rx
    return [rx.receive_nowait() for _ in range(rx.statistics().current_buffer_used)]


@pytest.mark.parametrize("apart", [True, False])
async def test_silence_stops_when_track_begins(pipeline: ReceivePipeline, apart: bool) -> None:
    """Contract: silence fills rx only while no track is received."""
    for _ in range(5):
        pipeline.push(A, SOUND, anyio.current_time())
    pipeline.remove("a")
    await wait_for(lambda: pipeline.buffer.rx.counters.seconds >= 0.3)  # Mostly silence.
    read(pipeline)
    pipeline.push(B, SOUND, anyio.current_time(), separate=apart)
    await anyio.sleep(0.1)  # Five frames of silence would arrive.
    assert [frame.participant for frame in read(pipeline)] == ["ben"]


async def test_removed_track_is_received_to_its_end(pipeline: ReceivePipeline) -> None:
    """Contract: the end of a track's audio is received though the track is gone."""
    for _ in range(5):
        pipeline.push(A, SOUND, anyio.current_time())
    pipeline.remove("a")
    await wait_for(
        lambda: pipeline.buffer.rx.counters.seconds >= 0.14
    )  # Silence follows the last frame.
    sound = np.concatenate([frame.samples for frame in read(pipeline)])
    assert (sound > 500).sum() == pytest.approx(5 * 320, abs=2)


async def test_waiting_audio_is_released_when_other_track_is_removed() -> None:
    """Contract: a track that is gone delays no other."""
    pipeline = ReceivePipeline(ReceiveOptions(), SessionLog())
    for number in range(3):
        pipeline.push(A, SOUND, 100 + 0.02 * number)
        pipeline.push(B, SOUND, 100.01 + 0.02 * number)
    before = pipeline.buffer.rx.counters.frames
    pipeline.remove("a")
    assert pipeline.buffer.rx.counters.frames == before + 1
    pipeline.close()
    pipeline.buffer.rx.close()


async def test_pipeline_without_reader_takes_no_audio(pipeline: ReceivePipeline) -> None:
    """Contract: a stream whose receiving ends are closed costs nothing."""
    pipeline.buffer.rx.close()
    pipeline.push(A, SOUND, anyio.current_time())
    assert not pipeline.is_open
    assert pipeline.buffer.rx.counters.frames == 0


async def test_receive_statistics_count_frames_and_audio() -> None:
    """Contract: `frames` and `seconds` in all, the rest of what waits and what was lost."""
    pipeline = ReceivePipeline(ReceiveOptions(mix=False), SessionLog())
    for number in range(4):
        pipeline.push(A, SOUND, 100 + 0.02 * number)
        pipeline.push(B, SOUND, 100 + 0.02 * number)
    pipeline.buffer.rx.receive_nowait()  # of A
    statistics = pipeline.buffer.rx.counters
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
    """Contract: frames of 10 ms or less are read 10 ms sooner."""
    pipeline = ReceivePipeline(ReceiveOptions(frame_size=frame_size), SessionLog())
    assert pipeline.frame_ms == frame_ms
    pipeline.close()
    pipeline.buffer.rx.close()


@pytest.mark.parametrize("suspended", [25.0, 3600.0])
@pytest.mark.parametrize("mix", [True, False])
async def test_silence_skips_what_exceeds_receive_buffer_after_a_suspension(
    monkeypatch: pytest.MonkeyPatch, suspended: float, mix: bool
) -> None:
    """Contract: a suspended process catches up by `receive_buffer`; `lost` reports the rest."""
    clock = replace_time(monkeypatch, pipeline_module)
    monkeypatch.setattr(frame_buffer, "time", clock)
    pipeline = ReceivePipeline(ReceiveOptions(receive_buffer=0.5, mix=mix), SessionLog())
    pipeline.push(A, SOUND, clock.now)
    pipeline.remove("a")
    received = len(read(pipeline)) * 0.02
    clock.now += suspended
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipeline.fill_silence)
        await wait_for(lambda: pipeline.buffer.rx.counters.seconds >= received + 0.5)
        frames = read(pipeline)
        counters = pipeline.buffer.rx.counters
        tasks.cancel_scope.cancel()
    assert len(frames) <= 0.5 / 0.02 + 10  # The clock is still, so silence runs ahead of it.
    assert frames[0].lost == pytest.approx(suspended - 0.5, abs=0.05)
    assert not any(frame.lost for frame in frames[1:])
    assert counters.seconds_dropped == pytest.approx(frames[0].lost)
    assert counters.frames_dropped == pytest.approx(frames[0].lost / 0.02, abs=1)
    total = received + sum(frame.duration + frame.lost for frame in frames)
    assert total == pytest.approx(suspended, abs=0.25)
    pipeline.close()
    pipeline.buffer.rx.close()
