"""Crossfades and fade-outs of int16 samples."""

from __future__ import annotations

import numpy as np

from .format import BLOCK, Samples

__all__ = ["crossfade", "fade_out"]


def crossfade(old: Samples, new: Samples) -> Samples:
    """Returns sound that begins as `old` does and ends as `new` does, with no step between."""
    ramp = np.arange(1, len(new) + 1, dtype=np.float32) / (len(new) + 1)
    if new.ndim > 1:
        ramp = ramp[:, None]
    mixed: Samples = np.rint(old + (new.astype(np.float32) - old) * ramp).astype(np.int16)
    return mixed


def fade_out(sound: Samples, start: int, end: int, fade: int) -> Samples:
    """Returns `sound` with what is between two places in it faded out and cut, in whole steps.

    Where there are fewer than `fade` samples to be faded, what comes before is mirrored: a fade
    goes on though there is no sound for it.
    """
    rest = sound[start : min(end, start + fade)]
    turn = start + len(rest)
    tail = np.concatenate([rest, sound[turn - (fade - len(rest)) : turn][::-1]])
    ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)
    tail = np.rint(tail * (ramp if sound.ndim == 1 else ramp[:, None])).astype(np.int16)
    gap = np.zeros((-(start + fade + len(sound) - end) % BLOCK, *sound.shape[1:]), np.int16)
    faded: Samples = np.concatenate([sound[:start], tail, gap, sound[end:]])
    return faded
