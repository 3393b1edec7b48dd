"""Crossfades and fade-outs of int16 samples."""

import numpy as np

from .format import BLOCK, Samples


def crossfade(old: Samples, new: Samples) -> Samples:
    """Return samples that begin as `old` and end as `new`, without a click."""
    ramp = np.arange(1, len(new) + 1, dtype=np.float32) / (len(new) + 1)
    if new.ndim > 1:
        ramp = ramp[:, None]
    mixed: Samples = np.rint(old + (new.astype(np.float32) - old) * ramp).astype(np.int16)
    return mixed


def fade_out(samples: Samples, start: int, end: int, fade: int) -> Samples:
    """Return `samples` without `start:end`, of which a fade-out remains; in whole blocks.

    Where `start:end` is shorter than `fade` samples, the fade-out continues with the preceding
    audio, mirrored. Silence after it pads the result to whole blocks.
    """
    rest = samples[start : min(end, start + fade)]
    mirror = start + len(rest)
    tail = np.concatenate([rest, samples[mirror - (fade - len(rest)) : mirror][::-1]])
    ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)
    tail = np.rint(tail * (ramp if samples.ndim == 1 else ramp[:, None])).astype(np.int16)
    gap = np.zeros((-(start + fade + len(samples) - end) % BLOCK, *samples.shape[1:]), np.int16)
    faded: Samples = np.concatenate([samples[:start], tail, gap, samples[end:]])
    return faded
