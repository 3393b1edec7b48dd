"""Framing: `Framer` cuts samples to frames of one size, `PcmDecoder` makes frames of raw bytes."""

from __future__ import annotations

import numpy as np

from .._errors import ConfigError
from .format import Samples, check_channels, check_rate
from .frame import AudioFrame

__all__ = ["Framer", "PcmDecoder"]


class Framer:
    """Cuts a stream of samples into frames of one size and holds what is left.

    Args:
        frame_size: Samples per channel in a frame.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size
        self._held: list[Samples] = []
        self.held = 0

    def push(self, samples: Samples) -> list[Samples]:
        """Returns the whole frames that there are now."""
        if not self.held and len(samples) == self.frame_size:
            return [samples]
        self._held.append(samples)
        self.held += len(samples)
        if self.held < self.frame_size:
            return []
        joined = self.take()
        whole = len(joined) - len(joined) % self.frame_size
        if whole < len(joined):
            self._held, self.held = [joined[whole:]], len(joined) - whole
        return [joined[at : at + self.frame_size] for at in range(0, whole, self.frame_size)]

    def take(self, multiple: int = 1) -> Samples:
        """Returns what is held, followed by silence up to a multiple of so many samples."""
        held = np.concatenate(self._held)
        self.drop()
        missing = -len(held) % multiple
        return np.concatenate([held, np.zeros((missing, *held.shape[1:]), np.int16)])

    def drop(self) -> None:
        """Forgets what is held."""
        self._held, self.held = [], 0


class PcmDecoder:
    """Makes frames of raw PCM that comes cut anywhere: half a sample waits for its other half.

    Args:
        sample_rate: Of the bytes, in Hz.
        num_channels: Of the bytes: interleaved little-endian int16.

    Raises:
        ConfigError: A format out of range.
    """

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        self._sample_rate = check_rate(sample_rate)
        self._num_channels = check_channels(num_channels)
        self._rest = b""

    def push(self, data: bytes) -> AudioFrame | None:
        """Returns what is whole by now, if anything is."""
        data = self._rest + data
        whole = len(data) - len(data) % (2 * self._num_channels)
        self._rest = data[whole:]
        return AudioFrame(data[:whole], self._sample_rate, self._num_channels) if whole else None

    def finish(self) -> None:
        """Raises `ConfigError` where the last sample was cut short."""
        if self._rest:
            size, left = 2 * self._num_channels, len(self._rest)
            raise ConfigError(f"the PCM ended within a sample: {left} of {size} bytes")
