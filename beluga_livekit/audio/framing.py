"""`Framer` cuts samples into frames of one size; `PcmDecoder` makes frames of raw bytes."""

import logging

import numpy as np

from .container import MAX_HEAD, check_is_raw
from .format import Samples, channels_of, check_channels, check_positive, check_rate, check_samples
from .frame import AudioFrame, to_bytes

_log = logging.getLogger("beluga_livekit")


class Framer:
    """Cuts a stream of samples into frames of one size, and holds the rest.

    Args:
        frame_size: Samples per channel in a frame.

    Attributes:
        held: Samples per channel that are held.

    Raises:
        ConfigError: A size that is no positive whole number.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size: int = check_positive(frame_size, "frame_size")
        self._held: list[Samples] = []
        self.held: int = 0

    def push(self, samples: Samples) -> list[Samples]:
        """Add samples and return the frames that are complete.

        Args:
            samples: int16, shape (n,) when mono, (n, channels) otherwise. The number of channels
                may change while no samples are held.

        Raises:
            TypeError: Not an int16 array.
            ValueError: Another shape.
        """
        check_samples(samples, channels_of(self._held[0] if self._held else samples))
        if not len(samples):
            return []
        if not self.held and len(samples) == self.frame_size:
            return [samples.astype(np.int16)]
        self._held.append(samples.astype(np.int16))
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
        missing = -self.held % check_positive(multiple, "multiple")
        held = np.concatenate(self._held or [np.zeros(0, np.int16)])
        self.drop()
        return np.concatenate([held, np.zeros((missing, *held.shape[1:]), np.int16)])

    def drop(self) -> None:
        """Remove the held samples."""
        self._held, self.held = [], 0


class PcmDecoder:
    """Makes frames of raw PCM (interleaved little-endian int16) in chunks of any size.

    The first bytes of the stream are checked: those of an audio file are a `ConfigError`. In
    chunks smaller than its header, what precedes the end of the header is decoded first.
    """

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        self._sample_rate = check_rate(sample_rate)
        self._num_channels = check_channels(num_channels)
        self._head: bytes | None = b""  # the first bytes; None once they are decided to be raw
        self._rest = b""

    def push(self, data: bytes) -> AudioFrame | None:
        """Add bytes and return the complete samples, or None.

        Raises:
            ConfigError: The stream is an audio file.
            TypeError: Not bytes.
        """
        data = to_bytes(data)
        if self._head is not None:
            head = self._head + data[: MAX_HEAD - len(self._head)]
            self._head = None if check_is_raw(head) else head
        size = 2 * self._num_channels
        extra = (len(self._rest) + len(data)) % size
        if len(self._rest) + len(data) < size:
            self._rest += data
            return None
        end = len(data) - extra
        whole = b"".join((self._rest, memoryview(data)[:end])) if self._rest or extra else data
        self._rest = data[end:]
        return AudioFrame(whole, self._sample_rate, self._num_channels)

    def finish(self) -> None:
        """End the stream. An incomplete last sample is dropped, with a warning."""
        if self._rest:
            message = "livekit: PCM decoding dropped %d of %d bytes of a sample: %s"
            remedy = "the stream ended within it; check num_channels, and send whole samples"
            _log.warning(message, len(self._rest), 2 * self._num_channels, remedy)
        self._head, self._rest = b"", b""
