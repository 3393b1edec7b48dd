"""`Framer` cuts samples into frames of one size; `PcmDecoder` makes frames of raw bytes."""

import numpy as np

from .format import Samples, check_channels, check_rate
from .frame import AudioFrame


class Framer:
    """Cuts a stream of samples into frames of one size, and holds the rest.

    Args:
        frame_size: Samples per channel in a frame.

    Attributes:
        held: Samples per channel that are held.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size
        self._held: list[Samples] = []
        self.held: int = 0

    def push(self, samples: Samples) -> list[Samples]:
        """Add samples and return the frames that are complete."""
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
        """Remove and return the held samples, padded with silence to a multiple of a length."""
        held = np.concatenate(self._held)
        self.drop()
        missing = -len(held) % multiple
        return np.concatenate([held, np.zeros((missing, *held.shape[1:]), np.int16)])

    def drop(self) -> None:
        """Remove the held samples."""
        self._held, self.held = [], 0


class PcmDecoder:
    """Makes frames of raw PCM (interleaved little-endian int16) in chunks of any size."""

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        self._sample_rate = check_rate(sample_rate)
        self._num_channels = check_channels(num_channels)
        self._rest = b""

    def push(self, data: bytes) -> AudioFrame | None:
        """Add bytes and return the complete samples, or None."""
        data = self._rest + data
        whole = len(data) - len(data) % (2 * self._num_channels)
        self._rest = data[whole:]
        return AudioFrame(data[:whole], self._sample_rate, self._num_channels) if whole else None

    def finish(self) -> None:
        """Raise `ValueError` if the last sample is incomplete."""
        if self._rest:
            left = f"{len(self._rest)} of {2 * self._num_channels} bytes"
            remedy = "check num_channels, and send whole samples"
            raise ValueError(
                f"PCM decoding failed: the data ended within a sample: {left}; {remedy}"
            )
