"""The audio that the demo sends: synthetic speech, or a file."""

from pathlib import Path

import numpy as np
import soundfile

from .._errors import ConfigError
from ..audio.format import Samples
from ..audio.frame import AudioFrame
from ..audio.resampler import Resampler
from .measurement import RATE, Floats, levels


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
    """Return the audio of a file, as mono at `RATE`.

    Raises:
        ConfigError: The file is silent, or shorter than 40 ms.
    """
    data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = AudioFrame.from_samples(data.mean(axis=1), rate).samples
    if not levels(mono).size or not mono.any():
        raise ConfigError(f"demo failed: {path} holds no sound; give a file that is not silent")
    return Resampler(rate, RATE).push(mono)
