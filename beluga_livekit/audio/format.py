"""Sample formats: that of the wire, the limits of a user's, and checks of both."""

import math
import numbers
import operator
from typing import Any, SupportsIndex

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


# Limit of a sample's magnitude (1 is full scale). Up to it, samples are clipped: an overshoot, or
# the sum of two signals. Beyond it, they are on another scale.
MAX_PEAK = 2.0


def to_whole(value: Any) -> int | None:
    """Return a whole number, of any integer type, as int; None for a bool or another type."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def to_number(value: object) -> float | None:
    """Return a real number, of any type, as float; None for a bool or another type."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        return None


def check_rate(value: SupportsIndex, name: str = "sample_rate") -> int:
    """Return a sample rate (Hz) as int, or raise `ConfigError`."""
    if (rate := to_whole(value)) is None:
        raise ConfigError(f"{name} must be a whole number of Hz, got {value!r}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ConfigError(f"{name} must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
    return rate


def check_channels(value: SupportsIndex, name: str = "num_channels") -> int:
    """Return a number of channels as int, or raise `ConfigError`."""
    if (channels := to_whole(value)) is None or not 1 <= channels <= MAX_CHANNELS:
        raise ConfigError(f"{name} must be a whole number from 1 to {MAX_CHANNELS}, got {value!r}")
    return channels


def check_positive(value: SupportsIndex, name: str) -> int:
    """Return a positive whole number as int, or raise `ConfigError`."""
    if (number := to_whole(value)) is None or number <= 0:
        raise ConfigError(f"{name} must be a positive whole number, got {value!r}")
    return number


def to_int16(array: NDArray[Any]) -> Samples:
    """Convert samples to int16: floats in [-1, 1], or integers on the scale of int16; clip.

    Raises:
        TypeError: Another dtype. Of unsigned and of 8-bit integers the scale is ambiguous.
        ValueError: NaN, infinity, or samples on another scale.
    """
    dtype = array.dtype
    if dtype == np.int16:
        return array
    is_float = dtype.kind == "f"
    if not is_float and (dtype.kind != "i" or dtype.itemsize == 1):
        raise TypeError(f"expected samples as int16 or float in [-1, 1], {_dtype_remedy(dtype)}")
    peak = max(float(array.max()), -float(array.min())) if array.size else 0.0
    if not math.isfinite(peak):
        raise ValueError("the samples hold NaN or infinity")
    if peak > MAX_PEAK * (1.0 if is_float else 32768.0):
        expected, remedy = "integers in [-32768, 32767]; on the scale of int32", " / 2147483648.0"
        if is_float:
            expected, remedy = "floats in [-1, 1]; on the scale of int16", ".astype(np.int16)"
        raise ValueError(f"the samples reach {peak:g}, expected {expected}, pass samples{remedy}")
    if is_float:  # float16 cannot hold the bounds
        array = np.rint(np.multiply(array, 32768.0, dtype=np.promote_types(dtype, np.float32)))
    samples: Samples = np.clip(array, -32768, 32767).astype(np.int16)
    return samples


def _dtype_remedy(dtype: np.dtype[Any]) -> str:
    remedy = ""
    if dtype.kind == "c":
        remedy = "; pass the real part: samples.real"
    elif dtype.kind in "iu":
        remedy = f"; scale them: samples / {2.0 ** (8 * dtype.itemsize - 1)}"
        if dtype.kind == "u":
            remedy += " - 1 (silence in the middle of the range)"
        if dtype == np.uint8:
            remedy += "; of bytes of int16, make AudioFrame(samples.tobytes(), sample_rate)"
    return f"got {dtype}{remedy}"


def check_samples(samples: Any, num_channels: int) -> None:
    """Raise `TypeError` without an int16 array, `ValueError` if its shape is another."""
    if not isinstance(samples, np.ndarray) or samples.dtype.char != "h":  # 4 times as fast as ==
        got = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        remedy = "convert them: AudioFrame.from_samples(samples, sample_rate).samples"
        if hasattr(samples, "samples"):
            remedy = "pass frame.samples"
        raise TypeError(f"expected an int16 array, got {got}; {remedy}")
    fits = samples.ndim == 1 if num_channels == 1 else samples.shape[1:] == (num_channels,)
    if not fits:
        expected = "(n,)" if num_channels == 1 else f"(n, {num_channels})"
        raise ValueError(f"expected samples of shape {expected}, got {samples.shape}")


def channels_of(samples: Any) -> int:
    """Return the channels of int16 samples, shape (n,) or (n, channels), or raise likewise."""
    is_2d = isinstance(samples, np.ndarray) and samples.ndim == 2
    channels: int = samples.shape[1] if is_2d else 1
    check_samples(samples, channels)
    return channels
