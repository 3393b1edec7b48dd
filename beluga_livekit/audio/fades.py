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
    """Return `sound` without the samples from `start` to `end`, of which the first are faded out.

    If fewer than `fade` samples are there to fade, the samples before them are mirrored. Silence
    behind the fade-out makes the result whole blocks.
    """
    rest = sound[start : min(end, start + fade)]
    turn = start + len(rest)
    tail = np.concatenate([rest, sound[turn - (fade - len(rest)) : turn][::-1]])
    ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)
    tail = np.rint(tail * (ramp if sound.ndim == 1 else ramp[:, None])).astype(np.int16)
    gap = np.zeros((-(start + fade + len(sound) - end) % BLOCK, *sound.shape[1:]), np.int16)
    faded: Samples = np.concatenate([sound[:start], tail, gap, sound[end:]])
    return faded
