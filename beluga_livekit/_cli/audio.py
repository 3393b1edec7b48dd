"""The audio that the demo sends, and its comparison with the audio that is received."""

from pathlib import Path

import attrs
import numpy as np
import soundfile
from numpy.typing import NDArray

from .._errors import ConfigError
from ..audio.format import Samples
from ..audio.frame import AudioFrame
from ..audio.resampler import Resampler

RATE = 16_000  # Hz, of all audio here

# Limits within which audio has survived the round trip: part that is received, change of level (dB)
# and similarity. A loopback gives 1.0, 0 dB and 1.0; a room on a busy machine was measured to give
# 0.98, -0.3 dB and 0.86.
MIN_RECEIVED, MAX_LEVEL_CHANGE, MIN_SIMILARITY = 0.9, 3.0, 0.7

Floats = NDArray[np.float64]


def synthesize_speech(seconds: float = 5.0) -> Samples:
    """Return voiced syllables of changing pitch and vowel, hisses, and pauses between words."""
    rng = np.random.default_rng(7)
    syllables: list[Floats] = []
    while sum(len(part) for part in syllables) < seconds * RATE:
        length = int(rng.uniform(0.12, 0.28) * RATE)
        at = np.arange(length) / RATE
        pitch = rng.uniform(95, 150) * (1 + rng.uniform(-0.2, 0.2) * at / at[-1])
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = rng.uniform((300, 900, 2200), (800, 2000, 3200))
        voice = np.zeros(length)
        for harmonic in range(1, 40):
            distance = (harmonic * pitch.mean() - formants) / (80, 120, 200)
            voice += np.sum((1.0, 0.5, 0.25) / (1 + distance**2)) * np.sin(harmonic * phase)
        hiss = np.diff(rng.normal(0, 0.15, length + 1)) * (at < 0.04)
        syllable = (voice + hiss) * np.sin(np.pi * at / at[-1]) ** 0.7
        pause = np.zeros(int(rng.choice([0.02, 0.25], p=[0.7, 0.3]) * RATE))
        syllables += [syllable, pause]
    speech = np.concatenate(syllables)[: int(seconds * RATE)]
    return AudioFrame.from_samples(0.5 * speech / np.abs(speech).max(), RATE).samples


def read_audio(path: Path) -> Samples:
    """Return the audio of a file, as mono at `RATE`; ConfigError if it is silent or < 40 ms."""
    data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    try:
        mono = AudioFrame.from_samples(data.mean(axis=1), rate).samples
    except ValueError as error:  # a file of floats may hold any
        raise ConfigError(f"demo failed: {path}: {error}") from None
    if not levels(mono).size or not mono.any():
        raise ConfigError(f"demo failed: {path} holds no sound; give a file that is not silent")
    return Resampler(rate, RATE).push(mono)


@attrs.frozen
class Measurement:
    """The audio that was sent, the audio that was received, and how they differ."""

    sent: Samples
    received: Samples  # as long and aligned; silence where nothing was received
    delay: float  # from sending to receiving (s)
    dropped: int  # frames that rx dropped

    @property
    def seconds_received(self) -> float:
        """The part of the audible blocks that was received, as a part of the duration (s)."""
        audible = _is_audible(self.sent)
        present = levels(self.received)[audible] > levels(self.sent)[audible] - 20.0
        return len(self.sent) / RATE * float(present.mean())

    @property
    def level_change(self) -> float:
        """The change of the level (dB)."""
        received, sent = np.mean(np.square([self.received, self.sent], dtype=np.float64), axis=1)
        return float(10 * np.log10((received + 1.0) / (sent + 1.0)))

    @property
    def similarity(self) -> float:
        """The correlation of the levels (dB) over time and bands. 1 is the same audio."""
        audible = _is_audible(self.sent)
        sent, received = _bands(self.sent)[audible].ravel(), _bands(self.received)[audible].ravel()
        return float(np.corrcoef(sent, received)[0, 1]) if received.std() > 0 else 0.0

    @property
    def survived(self) -> bool:
        return (
            self.seconds_received >= MIN_RECEIVED * len(self.sent) / RATE
            and abs(self.level_change) <= MAX_LEVEL_CHANGE
            and self.similarity >= MIN_SIMILARITY
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table that the demo prints."""
        return [
            ("Sent", f"{len(self.sent) / RATE:.2f} s"),
            ("Received", f"{self.seconds_received:.2f} s"),
            ("Delay", f"{self.delay * 1000:.0f} ms"),
            ("Level", f"{self.level_change:+.2f} dB"),
            ("Spectrum similarity", f"{self.similarity:.3f}"),
            ("Frames dropped", str(self.dropped)),
        ]


def locate(sent: Samples, received: Samples) -> int:
    """Return where in `received` `sent` begins: the peak of the cross-correlation."""
    size = len(sent) + len(received)
    spectra = np.fft.rfft(received, size) * np.conj(np.fft.rfft(sent, size))
    return int(np.fft.irfft(spectra, size)[: len(received)].argmax())


def levels(samples: Samples) -> Floats:
    """Return the level (dB) of each 40 ms."""
    return np.asarray(10 * np.log10(np.mean(_blocks(samples) ** 2, axis=1) + 1.0))


def _blocks(samples: Samples) -> Floats:
    size = RATE // 25
    return samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)


def _is_audible(samples: Samples) -> NDArray[np.bool_]:
    each = levels(samples)
    return np.asarray(each >= each.max() - 30.0)


def _bands(samples: Samples) -> Floats:
    """Return the level (dB) of each 40 ms in each of 20 bands from 100 Hz to 7 kHz."""
    blocks = _blocks(samples)
    power = np.abs(np.fft.rfft(blocks * np.hanning(blocks.shape[1]))) ** 2
    edges = np.geomspace(100, 7000, 21) * blocks.shape[1] / RATE
    at = np.unique(edges.astype(int))
    bands = np.add.reduceat(power[:, : at[-1]], at[:-1], axis=1)
    return np.asarray(10 * np.log10(np.maximum(bands, bands.max() * 1e-6) + 1.0))
