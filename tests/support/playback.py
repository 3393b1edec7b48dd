"""Sources to play, and a loopback in which received audio is bit-exact."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import numpy as np

from beluga_livekit import AudioFrame, LiveKitSession, Playout, open_loopback
from support.audio import Samples, tone
from support.waiting import wait_for

# At the wire's rate nothing resamples: received audio equals played audio, bit by bit.
RATE = 48_000
BLOCK = RATE // 100


def tone_without_zeros(frequency: float, seconds: float, level: float = 0.5) -> Samples:
    """Return a tone without a zero sample, so that its bounds differ from silence."""
    samples = tone(frequency, seconds, RATE, level=level)
    samples[samples == 0] = 1
    return samples


OLD = tone_without_zeros(440, 0.6)
NEW = tone_without_zeros(660, 0.095, level=0.25)


@attrs.define
class IterableSource:
    """Yields its pieces, and records that it was closed."""

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
class AsyncIterableSource(IterableSource):
    """An object with a generator behind it: both have to be closed."""

    generator_closed: bool = False
    generator: AsyncIterator[Any] | None = None  # Held, or the garbage collector would close it.

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


async def silent_source() -> AsyncIterator[AudioFrame]:
    """Yield nothing and never end."""
    await anyio.sleep_forever()
    yield frame_of(NEW)


def split_into_bytes(samples: Samples, *sizes: int) -> list[bytes]:
    """Return the samples' bytes, cut into these sizes in turn."""
    data, pieces = samples.astype("<i2").tobytes(), []
    while data:
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
    return pieces


def frame_of(samples: Samples) -> AudioFrame:
    return AudioFrame.from_samples(samples, RATE)


def open_exact_loopback(**keywords: Any) -> Any:
    """Open a loopback whose received audio equals what was played."""
    return open_loopback(sample_rate=RATE, receive_buffer=30, max_delay=None, **keywords)


async def append_playout(playouts: list[Playout], session: LiveKitSession, source: Any) -> None:
    """Play a source and append its outcome."""
    playouts.append(await session.play(source))


def seconds_played(session: LiveKitSession) -> float:
    """Return how many seconds have been played; the rest is whole blocks."""
    sent = session.statistics().send
    return sent.seconds - math.ceil(sent.seconds_queued * 100) / 100


async def wait_until_played(session: LiveKitSession, seconds: float) -> None:
    """Wait until this much more (s) has been played, within 1 ms."""
    until = seconds_played(session) + seconds
    await wait_for(lambda: seconds_played(session) >= until, poll=0.001)


def assert_fades_out(sound: Samples, whole: Samples) -> int:
    """Check that a sound is the beginning of `whole`, faded out; return where the fade begins."""
    same = min(len(sound), len(whole))
    begin = int(np.append(np.flatnonzero(sound[:same] != whole[:same]), same)[0])
    faded = sound[begin:].astype(np.int32)
    assert len(np.trim_zeros(faded, "b")) <= BLOCK
    steps = np.abs(np.diff(sound[max(0, begin - BLOCK) :].astype(np.int32), append=0))
    assert steps.max() <= 0.03 * 32768
    return begin
