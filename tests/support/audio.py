"""Make tones, send and receive them, and measure what arrives."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from beluga_livekit import AudioFrame, LiveKitSession
from support.waiting import DEADLINE, wait_for

Samples = NDArray[np.int16]

FORMATS = [(rate, channels) for rate in (8000, 16000, 24000, 44100, 48000) for channels in (1, 2)]
# Threshold of a loud sample (of 32768): above all noise, 26 dB below the tones.
LOUD = 400
# Silence after which a sound has ended (s).
QUIET_AFTER = 0.3


def tone(
    frequency: float, seconds: float, rate: int, *, level: float = 0.25, channels: int = 1
) -> Samples:
    """Return a sine of this level (1 is full scale); each further channel is an octave higher."""
    at = np.arange(round(seconds * rate)) / rate
    octaves = [level * np.sin(2 * np.pi * frequency * 2**k * at) for k in range(channels)]
    sound = octaves[0] if channels == 1 else np.stack(octaves, axis=1)
    rounded: Samples = np.rint(sound * 32767).astype(np.int16)
    return rounded


def noise(count: int, channels: int = 1, seed: int = 0) -> Samples:
    shape = count if channels == 1 else (count, channels)
    return np.random.default_rng(seed).integers(-32768, 32768, shape).astype(np.int16)


def split_into_frames(samples: Samples, rate: int, seconds: float = 0.02) -> list[AudioFrame]:
    size = round(rate * seconds)
    starts = range(0, len(samples), size)
    return [AudioFrame.from_samples(samples[at : at + size], rate) for at in starts]


def frames_of_tone(
    frequency: float, seconds: float, rate: int, *, level: float = 0.25, channels: int = 1
) -> list[AudioFrame]:
    """Return a tone in frames of 20 ms."""
    return split_into_frames(tone(frequency, seconds, rate, level=level, channels=channels), rate)


def frames_of_tone_in_changing_formats(frequency: float, seconds: float) -> list[AudioFrame]:
    """Return one continuous tone; each frame of 20 ms has another rate and channel count."""
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
class Measurement:
    """A tone as measured: Hz, dB of full scale (a full-scale sine is -3), seconds."""

    frequency: float
    level: float
    duration: float


def measure(samples: Samples, rate: int, *, onset: float = 0.1) -> Measurement:
    """Measure the loud part of mono audio; frequency and level without this part of its beginning.

    Opus needs up to 0.4 s to bring a pure tone after silence to its level (in one of two runs, with
    the raw SDK as well). Audio that came through a room is measured after that.
    """
    block = rate // 200
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    loud = np.flatnonzero(np.abs(blocks).max(axis=1) > LOUD)
    assert len(loud), "all received audio is silent"
    start, end = int(loud[0]) * block, int(loud[-1] + 1) * block
    length = end - start
    middle = samples[start + int(onset * length) : end - length // 10].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * len(middle)))
    frequency = float(spectrum.argmax()) * rate / (8 * len(middle))
    level = 10 * np.log10(np.mean(middle**2) / 32768**2)
    return Measurement(frequency, float(level), (end - start) / rate)


def measure_coded(samples: Samples, rate: int) -> Measurement:
    """Measure audio that came through a room's codec."""
    return measure(samples, rate, onset=0.5)


def assert_is_tone(
    measured: Measurement, frequency: float, seconds: float = 1.0, *, within: float = 0.04
) -> None:
    """Check a tone of the default level."""
    assert measured.frequency == pytest.approx(frequency, abs=1)
    assert measured.level == pytest.approx(decibels(0.25), abs=0.5)
    assert measured.duration == pytest.approx(seconds, abs=within)


def decibels(level: float) -> float:
    """Return the level of a sine of this amplitude, in dB of full scale."""
    return float(20 * np.log10(level) - 10 * np.log10(2))


def levels_of(
    samples: Samples, frequency: float, rate: int = 16000, seconds: float = 0.1
) -> NDArray[np.float64]:
    """Return the amplitude of a tone in each part of this length (s); 1 is full scale."""
    block = round(seconds * rate)
    blocks = samples[: len(samples) // block * block].reshape(-1, block) / 32768
    wave = np.exp(-2j * np.pi * frequency * np.arange(block) / rate)
    amplitudes: NDArray[np.float64] = np.abs(blocks @ wave) * 2 / block
    return amplitudes


def level_of(samples: Samples, frequency: float) -> float:
    """Return the amplitude of a tone in the loudest half second of 16 kHz audio."""
    return float(np.sort(levels_of(samples, frequency))[-5:].mean())


def seconds_of_tone(samples: Samples, frequency: float) -> float:
    """Return for how long 16 kHz audio contains a tone."""
    return float((levels_of(samples, frequency, seconds=0.05) > 0.02).sum()) * 0.05


def samples_of(frames: Iterable[AudioFrame]) -> Samples:
    return np.concatenate([frame.samples for frame in frames])


def is_loud(frame: AudioFrame) -> bool:
    return bool((np.abs(frame.samples.astype(np.int32)) > LOUD).any())


async def receive_until_silent(
    rx: AsyncIterable[AudioFrame], *, after: float = QUIET_AFTER
) -> list[AudioFrame]:
    """Receive until audio has come and then been silent for `after` seconds."""
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
    assert begun, "rx ended while all audio was silent"
    return frames


async def receive_and_measure(rx: AsyncIterable[AudioFrame]) -> Measurement:
    """Receive one sound from a room, and measure its first channel."""
    frames = await receive_until_silent(rx)
    sound = samples_of(frames)
    assert len({(f.sample_rate, f.num_channels) for f in frames}) == 1
    return measure_coded(sound if sound.ndim == 1 else sound[:, 0].copy(), frames[0].sample_rate)


async def receive_until_end(session: LiveKitSession, within: float = DEADLINE) -> None:
    with anyio.fail_after(within):
        async for _ in session.rx:
            pass


class Recording:
    """The frames received so far."""

    def __init__(self) -> None:
        self.frames: list[AudioFrame] = []

    @property
    def sound(self) -> Samples:
        """The samples from the first that is not zero to the last."""
        samples = samples_of(self.frames) if self.frames else np.zeros(0, np.int16)
        some = np.flatnonzero(samples)
        return samples[some[0] : some[-1] + 1] if len(some) else samples[:0]

    def samples_from(self, participant: str | None) -> Samples:
        """Return the samples of frames with this participant; a mix has None."""
        frames = [frame for frame in self.frames if frame.participant == participant]
        return samples_of(frames) if frames else np.zeros(0, np.int16)

    def loud_seconds_from(self, participant: str | None) -> float:
        """Return how many seconds of loud frames have this participant."""
        frames = [frame for frame in self.frames if frame.participant == participant]
        return sum(frame.duration for frame in frames if is_loud(frame))

    async def receive(self, rx: AsyncIterable[AudioFrame]) -> None:
        """Append frames until rx ends."""
        async for frame in rx:
            self.frames.append(frame)

    async def wait_until_silent(self, *, after: float = 0.1) -> Samples:
        """Wait until audio has come and then been zero for this long (s); return it."""
        await wait_for(lambda: len(self.sound) and self._seconds_silent() >= after)
        return self.sound

    def _seconds_silent(self) -> float:
        seconds = 0.0
        for frame in reversed(self.frames):
            if frame.samples.any():
                break
            seconds += frame.duration
        return seconds


@asynccontextmanager
async def collect_frames(rx: AsyncIterable[AudioFrame]) -> AsyncIterator[Recording]:
    """Receive in the background for the length of the block."""
    recording = Recording()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recording.receive, rx)
        yield recording
        tasks.cancel_scope.cancel()


async def send_frames(tx: Any, frames: Iterable[AudioFrame]) -> None:
    for frame in frames:
        await tx.send(frame)


async def play_tone(session: LiveKitSession, frequency: float, seconds: float = 1.0) -> None:
    """Send a 16 kHz tone in frames of 20 ms."""
    await send_frames(session.tx, frames_of_tone(frequency, seconds, 16000))
