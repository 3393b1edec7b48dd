"""Tones to send, and what can be measured of the ones that arrive."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import numpy as np
from numpy.typing import NDArray

from beluga_livekit import AudioFrame, LiveKitSession

# Sound gets this long to arrive: far more than it ever needs, so that a slow machine is no error.
DEADLINE = 30.0
LOUD = 400  # of 32768: above all noise there is, 26 dB below the tones
QUIET_AFTER = 0.3  # seconds of silence after which a sound has ended


def tone(
    frequency: float, seconds: float, rate: int, *, level: float = 0.25, channels: int = 1
) -> NDArray[np.int16]:
    """A sine of this level (1 is full scale); each further channel an octave higher."""
    at = np.arange(round(seconds * rate)) / rate
    octaves = [level * np.sin(2 * np.pi * frequency * 2**k * at) for k in range(channels)]
    sound = octaves[0] if channels == 1 else np.stack(octaves, axis=1)
    rounded: NDArray[np.int16] = np.rint(sound * 32767).astype(np.int16)
    return rounded


def cut(samples: NDArray[np.int16], rate: int, seconds: float = 0.02) -> list[AudioFrame]:
    size = round(rate * seconds)
    starts = range(0, len(samples), size)
    return [AudioFrame.from_samples(samples[at : at + size], rate) for at in starts]


def changing(frequency: float, seconds: float) -> list[AudioFrame]:
    """One tone, whose every 20 ms come at another rate and with other channels."""
    frames: list[AudioFrame] = []
    at = 0.0
    for rate, channels in itertools.cycle(
        [(16000, 1), (44100, 2), (24000, 1), (48000, 2), (8000, 1)]
    ):
        if at >= seconds - 1e-9:
            return frames
        times = at + np.arange(rate // 50) / rate
        sound = 0.25 * np.sin(2 * np.pi * frequency * times)
        both = sound if channels == 1 else np.stack([sound, sound], axis=1)
        frames.append(AudioFrame.from_samples(both, rate))
        at += frames[-1].duration
    raise AssertionError


@attrs.frozen
class Heard:
    """A tone as it was measured: Hz, dB of full scale (a full-scale sine is -3), seconds."""

    frequency: float
    level: float
    duration: float


def measure(samples: NDArray[np.int16], rate: int, *, onset: float = 0.1) -> Heard:
    """Measures the loud part of a mono sound; pitch and level without this much of its beginning.

    Opus needs up to 0.4 s to bring a pure tone that follows silence to its level (seen in one of
    two runs, with the raw SDK as well), so what came through a room is measured after that.
    """
    block = rate // 200
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    loud = np.flatnonzero(np.abs(blocks).max(axis=1) > LOUD)
    assert len(loud), "nothing was heard"
    start, end = int(loud[0]) * block, int(loud[-1] + 1) * block
    length = end - start
    middle = samples[start + int(onset * length) : end - length // 10].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * len(middle)))
    frequency = float(spectrum.argmax()) * rate / (8 * len(middle))
    level = 10 * np.log10(np.mean(middle**2) / 32768**2)
    return Heard(frequency, float(level), (end - start) / rate)


def decibels(level: float) -> float:
    """The level, in dB of full scale, of a sine of this amplitude."""
    return float(20 * np.log10(level) - 10 * np.log10(2))


def samples_of(frames: Iterable[AudioFrame]) -> NDArray[np.int16]:
    return np.concatenate([frame.samples for frame in frames])


def is_loud(frame: AudioFrame) -> bool:
    return bool((np.abs(frame.samples.astype(np.int32)) > LOUD).any())


async def hear(rx: AsyncIterable[AudioFrame], *, after: float = QUIET_AFTER) -> list[AudioFrame]:
    """Reads until a sound has come and has been over for `after` seconds."""
    frames: list[AudioFrame] = []
    begun, quiet = False, 0.0
    with anyio.fail_after(DEADLINE):
        async for frame in rx:
            frames.append(frame)
            if is_loud(frame):
                begun, quiet = True, 0.0
            elif begun:
                quiet += frame.duration
                if quiet >= after:
                    break
    assert begun, "rx ended before anything was heard"
    return frames


class Recording:
    """What has been heard so far."""

    def __init__(self) -> None:
        self.frames: list[AudioFrame] = []

    @property
    def sound(self) -> NDArray[np.int16]:
        """From the first sample that is not zero to the last."""
        heard = samples_of(self.frames) if self.frames else np.zeros(0, np.int16)
        some = np.flatnonzero(heard)
        return heard[some[0] : some[-1] + 1] if len(some) else heard[:0]

    async def until_quiet(self, *, after: float = 0.1) -> NDArray[np.int16]:
        """Waits until something was heard and has been over for so long; returns it."""
        with anyio.fail_after(DEADLINE):
            while not len(self.sound) or self._seconds_quiet() < after:
                await anyio.sleep(0.01)
        return self.sound

    def _seconds_quiet(self) -> float:
        seconds = 0.0
        for frame in reversed(self.frames):
            if frame.samples.any():
                break
            seconds += frame.duration
        return seconds


@asynccontextmanager
async def recorded(rx: AsyncIterable[AudioFrame]) -> AsyncIterator[Recording]:
    """Listens all the time."""
    recording = Recording()

    async def listen() -> None:
        async for frame in rx:
            recording.frames.append(frame)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield recording
        tasks.cancel_scope.cancel()


async def ended(session: LiveKitSession, within: float = DEADLINE) -> None:
    """Reads to the end, as a listener does."""
    with anyio.fail_after(within):
        async for _ in session.rx:
            pass


async def say(tx: Any, frames: Iterable[AudioFrame]) -> None:
    for frame in frames:
        await tx.send(frame)


async def calm() -> None:
    """Waits until the machine has recovered from connecting, as a speaker's listeners have.

    Each join keeps two cores busy for a quarter of a second; with several at once the event loop
    is up to 60 ms late, which can be heard, and is nothing that a test of sound is about.
    """
    in_time = 0
    with anyio.fail_after(DEADLINE):
        while in_time < 100:
            start = time.monotonic()
            await anyio.sleep(0.005)
            in_time = in_time + 1 if time.monotonic() - start < 0.015 else 0
