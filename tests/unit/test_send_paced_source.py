"""The paced source with a clock that is set by hand, and an SDK source that is a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from beluga_livekit._options import SessionOptions
from beluga_livekit._send import paced_source as paced_source_module
from beluga_livekit._send.paced_source import BLOCK_SECONDS, Cut, PacedAudioSource
from beluga_livekit.audio.format import BLOCK, Samples

pytestmark = pytest.mark.anyio


class FakeSdk:
    """The SDK's queue, and its clock: half of a tick's interval has passed."""

    def __init__(self) -> None:
        self.now = 0.5 * BLOCK_SECONDS
        self.queue: list[Samples] = []
        self.cleared = 0

    def perf_counter(self) -> float:
        return self.now

    def play(self, blocks: int) -> None:
        self.now += blocks * BLOCK_SECONDS

    async def capture(self, samples: Samples) -> None:
        self.queue.append(samples)

    async def wait_until_answered(self) -> None: ...

    def clear(self) -> None:
        self.cleared += 1
        self.queue.clear()

    async def aclose(self) -> None: ...


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> FakeSdk:
    sdk = FakeSdk()
    monkeypatch.setattr(paced_source_module, "time", sdk)
    return sdk


@pytest.fixture
def source(sdk: FakeSdk) -> PacedAudioSource:
    source = PacedAudioSource(SessionOptions())
    fake: Any = sdk
    source._source = fake
    return source


def constant(value: int, blocks: int) -> Samples:
    return np.full(blocks * BLOCK, value, np.int16)


async def test_position_follows_the_clock(source: PacedAudioSource, sdk: FakeSdk) -> None:
    """Contract: silence between two sounds does not count."""
    await source.play(constant(1000, 3))
    assert (source.position, source.end) == (0, 3 * BLOCK)
    assert source.seconds_queued == pytest.approx(0.025)
    assert source.seconds_until(2 * BLOCK) == pytest.approx(0.015)
    assert source.seconds_until(4 * BLOCK) >= BLOCK_SECONDS
    sdk.play(2)
    assert source.position == 2 * BLOCK
    sdk.play(5)
    assert source.position == 3 * BLOCK
    assert source.seconds_idle == pytest.approx(0.045)
    await source.play(constant(1000, 1))
    assert source.position == 3 * BLOCK


async def test_cut_of_nothing_changes_nothing(source: PacedAudioSource, sdk: FakeSdk) -> None:
    """Contract: also of what has been played, or is yet to come."""
    assert await PacedAudioSource(SessionOptions()).cut() == Cut(0, 0)
    assert await source.cut() == Cut(0, 0)
    await source.play(constant(1000, 3))
    sdk.play(2)
    for start, end in [(0, BLOCK), (0, 2 * BLOCK), (3 * BLOCK, 4 * BLOCK)]:
        assert await source.cut(start, end) == Cut(2 * BLOCK, 0)
    sdk.play(2)  # silence for a block
    assert await source.cut() == Cut(3 * BLOCK, 0)
    assert sdk.cleared == 0


async def test_cut_fades_out_what_is_being_played(source: PacedAudioSource, sdk: FakeSdk) -> None:
    """Contract: one block of fade-out, and nothing behind it."""
    await source.play(constant(1000, 5))
    sdk.play(2)
    assert await source.cut() == Cut(2 * BLOCK, -2 * BLOCK)
    assert source.end == 3 * BLOCK
    (queued,) = sdk.queue
    assert (queued[0], queued[-1]) == (1000, 0)
    assert (np.diff(queued) <= 0).all()


@pytest.mark.parametrize(("start", "fade"), [(BLOCK, 1), (3 * BLOCK, 0)])
async def test_cut_moves_what_comes_after_it(
    source: PacedAudioSource, sdk: FakeSdk, start: int, fade: int
) -> None:
    """Contract: a playback that is cancelled fades out if it has begun, and nothing else does."""
    for value in (1000, 2000, 3000):
        await source.play(constant(value, 3))
    sdk.play(2)
    cut = await source.cut(start, 6 * BLOCK)
    first = max(start, 2 * BLOCK)
    assert cut == Cut(2 * BLOCK, first + fade * BLOCK - 6 * BLOCK)
    assert source.end == 9 * BLOCK + cut.moved
    (queued,) = sdk.queue
    assert (queued[: first - 2 * BLOCK] == 1000).all()
    assert np.array_equal(queued[-3 * BLOCK :], constant(3000, 3))
    assert len(queued) == source.end - cut.position


async def test_cut_at_the_very_end_fades_out_once(source: PacedAudioSource, sdk: FakeSdk) -> None:
    """Contract: no click although nothing is queued; a second cut adds nothing."""
    await source.play(constant(1000, 3))
    sdk.play(3)
    assert await source.cut() == Cut(3 * BLOCK, BLOCK)
    (queued,) = sdk.queue
    assert (queued[0], queued[-1]) == (1000, 0)
    sdk.play(1)
    assert await source.cut() == Cut(4 * BLOCK, 0)
    assert sdk.cleared == 1
