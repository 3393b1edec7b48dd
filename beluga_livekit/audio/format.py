"""Sample formats: that of the wire, the limits of a user's, and checks of both."""

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError

# Limits of a sample rate (Hz): those of speech and music. Outside them the SDK's native code aborts
# the process for some rates (seen with 0 and 50).
MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8

# Wire format: tracks are read and written at the SDK's native rate (Hz), so that only our stages
# resample. 20 ms frames cost half the CPU of the SDK's default of 10 ms (7-10 against 11-18 ms per
# second of a stream).
WIRE_RATE = 48_000
WIRE_FRAME_MS = 20
WIRE_FRAME = WIRE_RATE * WIRE_FRAME_MS // 1000
BLOCK = WIRE_RATE // 100  # samples per channel that the SDK's audio sources play at a clock tick

Samples = NDArray[np.int16]


def is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    return is_whole(value) or isinstance(value, float)


def check_rate(value: object, name: str = "sample_rate") -> int:
    """Return `value` if it is a sample rate (Hz), or raise `ConfigError`."""
    if not is_whole(value):
        raise ConfigError(f"{name} must be a whole number of Hz, got {value!r}")
    if not MIN_RATE <= value <= MAX_RATE:
        raise ConfigError(f"{name} must be {MIN_RATE} to {MAX_RATE} Hz, got {value}")
    return value


def check_channels(value: object, name: str = "num_channels") -> int:
    """Return `value` if it is a number of channels, or raise `ConfigError`."""
    if not is_whole(value) or not 1 <= value <= MAX_CHANNELS:
        raise ConfigError(f"{name} must be a whole number from 1 to {MAX_CHANNELS}, got {value!r}")
    return value


def to_int16(array: NDArray[Any]) -> Samples:
    """Return int16 unchanged, and float in [-1, 1] scaled by 32768, rounded and clipped."""
    if array.dtype == np.int16:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"expected samples as int16 or float in [-1, 1], got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError("the samples hold NaN or infinity")
    return np.clip(np.rint(array * 32768.0), -32768, 32767).astype(np.int16)


def check_samples(samples: object, num_channels: int) -> None:
    """Raise `TypeError` without an int16 array, `ValueError` if its shape is another."""
    if not isinstance(samples, np.ndarray) or samples.dtype.char != "h":  # 4 times as fast as ==
        got = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise TypeError(f"expected an int16 array, got {got}")
    fits = samples.ndim == 1 if num_channels == 1 else samples.shape[1:] == (num_channels,)
    if not fits:
        expected = "(n,)" if num_channels == 1 else f"(n, {num_channels})"
        raise ValueError(f"expected samples of shape {expected}, got {samples.shape}")
