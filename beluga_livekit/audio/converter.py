"""`Converter`: any format in, one format out."""

from __future__ import annotations

import math

import numpy as np

from .channel_mixer import ChannelMixer
from .format import Samples, check_channels, check_rate
from .resampler import Resampler

__all__ = ["Converter"]


class Converter:
    """Brings sound of any format to one format: `ChannelMixer` and `Resampler` in order.

    Fewer channels are mixed before resampling and more are made after it, so that the resampler
    never works on a channel more than it has to. The source's format may change with every push:
    what is still inside the old resampler then sounds together with the beginning of the new
    sound, as both are late by the same delay, and no moment is lost or doubled.

    Args:
        out_rate: In Hz, 8000 to 192000.
        out_channels: 1 to 8.

    Raises:
        ConfigError: A format out of range.
    """

    def __init__(self, out_rate: int, out_channels: int = 1) -> None:
        self.out_rate = check_rate(out_rate, "out_rate")
        self.out_channels = check_channels(out_channels, "out_channels")
        self._source: tuple[int, int] | None = None
        self._tail = self._silence(0)

    @property
    def holds_sound(self) -> bool:
        """Whether some of what was pushed has not come out: `finish` has it."""
        return len(self._tail) > 0 or self.delay > 0

    @property
    def delay(self) -> float:
        """By how much the last that was pushed is late, in seconds."""
        return self._resampler.delay if self._source is not None else 0.0

    def push(self, samples: Samples, sample_rate: int) -> Samples:
        """Converts a stretch of sound.

        Args:
            samples: int16, shape (n,) for mono, (n, channels) otherwise.
            sample_rate: Theirs, in Hz.

        Returns:
            As much sound, of shape (m,) when `out_channels` is 1, (m, out_channels) otherwise.
        """
        source = (sample_rate, 1 if samples.ndim == 1 else samples.shape[1])
        if source != self._source:
            self._tail = self.finish()
            self._mixer = ChannelMixer(source[1], self.out_channels)
            between = min(source[1], self.out_channels)
            self._resampler = Resampler(check_rate(sample_rate), self.out_rate, between)
            self._source = source
        out = self._convert(samples)
        return self._add_tail(out) if len(self._tail) else out

    def finish(self) -> Samples:
        """Returns what is still inside, and starts afresh."""
        out = self._tail[:0]
        if self._source is not None:
            rate, channels = self._source
            delay = math.ceil(self._resampler.delay * rate)
            shape = delay if channels == 1 else (delay, channels)
            out = self._convert(np.zeros(shape, np.int16))
        missing = self._silence(max(0, len(self._tail) - len(out)))
        out = self._add_tail(np.concatenate([out, missing]))
        self._source = None
        return out

    def _convert(self, samples: Samples) -> Samples:
        if self._mixer.in_channels > self._mixer.out_channels:
            return self._resampler.push(self._mixer.push(samples))
        return self._mixer.push(self._resampler.push(samples))

    def _add_tail(self, out: Samples) -> Samples:
        both = min(len(out), len(self._tail))
        mixed = out[:both].astype(np.int32) + self._tail[:both]
        self._tail = self._tail[both:]
        return np.concatenate([np.clip(mixed, -32768, 32767).astype(np.int16), out[both:]])

    def _silence(self, count: int) -> Samples:
        return np.zeros(count if self.out_channels == 1 else (count, self.out_channels), np.int16)
