"""`Converter`: any format in, one format out."""

import math

import numpy as np

from .channel_mixer import ChannelMixer
from .format import Samples, channels_of, check_channels, check_rate
from .resampler import Resampler


class Converter:
    """Converts audio of any format to one format: `ChannelMixer` and `Resampler` in order.

    Channels are downmixed before resampling and upmixed after it, so that the resampler processes
    no more channels than necessary. The input format may change with every push. The tail of the
    old resampler is then added to the beginning of the new audio. Both are late by the same delay,
    so no sample is lost or doubled.

    Args:
        out_rate: Output sample rate (Hz), 8000 to 192000.
        out_channels: 1 to 8.

    Raises:
        ConfigError: A format out of range.
    """

    def __init__(self, out_rate: int, out_channels: int = 1) -> None:
        self.out_rate: int = check_rate(out_rate, "out_rate")
        self.out_channels: int = check_channels(out_channels, "out_channels")
        self._format: tuple[int, int] | None = None
        self._tail = _silence(0, self.out_channels)

    @property
    def holds_sound(self) -> bool:
        """Whether some of what was pushed has not come out yet; `finish` returns it."""
        return len(self._tail) > 0 or self.delay > 0

    @property
    def delay(self) -> float:
        """The delay of the last push (s)."""
        return self._resampler.delay if self._format is not None else 0.0

    def push(self, samples: Samples, sample_rate: int) -> Samples:
        """Convert samples.

        Args:
            samples: int16, shape (n,) for mono, (n, channels) otherwise.
            sample_rate: Sample rate of `samples` (Hz).

        Returns:
            The same duration, of shape (m,) when `out_channels` is 1, (m, out_channels) otherwise.

        Raises:
            TypeError: Not an int16 array.
            ValueError: Another shape.
            ConfigError: A format out of range.
        """
        in_format = (check_rate(sample_rate), channels_of(samples))
        if in_format != self._format:
            # Both are made, and their arguments checked, before any state changes.
            mixer = ChannelMixer(in_format[1], self.out_channels)
            fewest = min(in_format[1], self.out_channels)
            resampler = Resampler(in_format[0], self.out_rate, fewest)
            self._tail = self.finish()
            self._mixer, self._resampler, self._format = mixer, resampler, in_format
        out = self._convert(samples)
        return self._add_tail(out) if len(self._tail) else out

    def finish(self) -> Samples:
        """Return what is still inside, and reset."""
        out = self._tail[:0]
        if self._format is not None:
            rate, channels = self._format
            out = self._convert(_silence(math.ceil(self.delay * rate), channels))
        missing = _silence(max(0, len(self._tail) - len(out)), self.out_channels)
        out = self._add_tail(np.concatenate([out, missing]))
        self._format = None
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


def _silence(count: int, channels: int) -> Samples:
    return np.zeros(count if channels == 1 else (count, channels), np.int16)
