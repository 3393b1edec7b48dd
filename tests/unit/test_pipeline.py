"""What one stream hears: no silence beside sound, and no sound without a name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
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
    listener.queue.rx.close()


def read(listener: ReceivePipeline) -> list[AudioFrame]:
    rx = listener.queue.rx
    return [rx.receive_nowait() for _ in range(rx.statistics().current_buffer_used)]


@pytest.mark.parametrize("apart", [True, False])
async def test_silence_ends_where_a_track_begins(listener: ReceivePipeline, apart: bool) -> None:
    for _ in range(5):
        listener.hear(A, SOUND, anyio.current_time())
    listener.lose("a")
    with anyio.fail_after(5):
        while listener.seconds_received < 0.3:  # of silence, for the most part
            await anyio.sleep(0.001)
    read(listener)
    listener.hear(B, SOUND, anyio.current_time(), apart=apart)
    await anyio.sleep(0.1)
    assert [frame.participant for frame in read(listener)] == ["ben"]


async def test_what_is_lost_is_heard_to_its_end(listener: ReceivePipeline) -> None:
    for _ in range(5):
        listener.hear(A, SOUND, anyio.current_time())
    listener.lose("a")
    await anyio.sleep(0.1)
    sound = np.concatenate([frame.samples for frame in read(listener)])
    assert (sound > 500).sum() == pytest.approx(5 * 320, abs=2)


async def test_what_waited_for_a_track_that_is_lost_is_heard_at_once() -> None:
    listener = ReceivePipeline(ReceiveOptions(), SessionLog())
    for number in range(3):
        listener.hear(A, SOUND, 100 + 0.02 * number)
        listener.hear(B, SOUND, 100.01 + 0.02 * number)
    before = listener.frames_received
    listener.lose("a")
    assert listener.frames_received == before + 1
    listener.close()
    listener.queue.rx.close()


async def test_a_listener_that_nobody_reads_hears_nothing(listener: ReceivePipeline) -> None:
    listener.queue.rx.close()
    listener.hear(A, SOUND, anyio.current_time())
    assert not listener.is_wanted
    assert listener.frames_received == 0
