"""`ChannelMixer`: downmix, upmix, channel selection and gains."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .format import Samples, check_channels, check_samples, to_whole


class ChannelMixer:
    """Mixes channels, sample by sample; has no delay and no state.

    By default a downmix averages, so that no sum clips: output `i` is the mean of the inputs `i`,
    `i + out_channels`, ... An upmix copies: output `i` is input `i % in_channels`.

    Args:
        in_channels: 1 to 8.
        out_channels: 1 to 8.
        select: Copy this input channel to every output, as for one side of a two-channel telephone
            recording.
        matrix: Gains, shape (in_channels, out_channels); sums are clipped.

    Raises:
        ConfigError: A number of channels out of range.
        ValueError: `select` or `matrix` does not fit the channels, or both are given.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        select: int | None = None,
        matrix: ArrayLike | None = None,
    ) -> None:
        self.in_channels: int = check_channels(in_channels, "in_channels")
        self.out_channels: int = check_channels(out_channels, "out_channels")
        in_channels, out_channels = self.in_channels, self.out_channels
        self._gains: NDArray[np.float64] | None = None
        if select is not None and matrix is not None:
            raise ValueError("give select or matrix, not both")
        if select is not None:
            if (channel := to_whole(select)) not in range(in_channels):
                raise ValueError(f"select must be 0 to {in_channels - 1}, got {select!r}")
            self._gains = np.zeros((in_channels, out_channels))
            self._gains[channel] = 1.0
        elif matrix is not None:
            self._gains = np.array(matrix, np.float64)
            if self._gains.shape != (shape := (in_channels, out_channels)):
                raise ValueError(f"expected a matrix of shape {shape}, got {self._gains.shape}")
            if not np.isfinite(self._gains).all():
                raise ValueError("the matrix holds NaN or infinity")
        elif out_channels < in_channels and (in_channels, out_channels) != (2, 1):
            routes = np.arange(in_channels)[:, None] % out_channels == np.arange(out_channels)
            self._gains = routes / routes.sum(axis=0)

    def push(self, samples: Samples) -> Samples:
        """Mix samples; return as many per channel as came in.

        Args:
            samples: int16, shape (n,) when mono, (n, in_channels) otherwise.

        Raises:
            TypeError: Not an int16 array.
            ValueError: Another shape.
        """
        check_samples(samples, self.in_channels)
        if self._gains is not None:
            mixed = np.rint(samples.reshape(-1, self.in_channels) @ self._gains)
            clipped: Samples = np.clip(mixed, -32768, 32767).astype(np.int16)
            return clipped[:, 0] if self.out_channels == 1 else clipped
        if self.in_channels == self.out_channels:
            return samples.astype(np.int16)  # a copy: the caller may reuse its buffer
        if self.out_channels == 1:
            # The mean of two, rounded down, without a wider type: their common bits plus half of
            # the differing ones (3 us for 20 ms at 48 kHz, 13 us through int32).
            left, right = samples[:, 0], samples[:, 1]
            mean: Samples = (left ^ right) >> 1
            mean += left & right
            return mean
        out = np.empty((len(samples), self.out_channels), np.int16)
        for channel in range(self.out_channels):
            source = samples if self.in_channels == 1 else samples[:, channel % self.in_channels]
            out[:, channel] = source
        return out

    def flush(self) -> Samples:
        """Return no samples: a mixer has no delay."""
        return np.empty(0 if self.out_channels == 1 else (0, self.out_channels), np.int16)

    def reset(self) -> None:
        """Do nothing: a mixer has no state."""
