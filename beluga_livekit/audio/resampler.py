"""`Resampler`: converts one sample rate to another, with 2.5 ms of delay and no buffering.

A polyphase filter: a windowed sinc of linear phase, whose `T` taps (twice the delay) weigh the
newest `T` input samples for each output sample. With the rates reduced to `L / M`, output `n`
is at input `n * M / L`, and its weights depend on `n * M % L` alone.

Many outputs are computed at once, as one matrix product. The `B` outputs of a block share one
window of inputs. The block's matrix holds the weights of each output at its place in that window.
`S` blocks, of `L` outputs or a multiple of it together, make a cycle, after which they repeat.

Every weight is a multiple of 2**-30, and the weights of an output add up to exactly 1. The product
with int16 samples and each partial sum are then exact in float64, in any order of summation. So
the result is bit-identical for any chunks and any BLAS, and a constant stays that constant.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from .format import Samples, check_channels, check_positive, check_samples

Floats = NDArray[np.float64]

# Half the length of the filter (s, and input or output samples). 2.5 ms give a transition band of
# 1 kHz (flat to 7 of the 8 kHz that a rate of 16 kHz has). Below 12.8 kHz the filter gets longer as
# the band gets narrower: 4 ms for 8 kHz.
DELAY = 0.0025
DELAY_SAMPLES = 32
# Kaiser's formulas: attenuation (dB), the window for it, and the width of its transition.
ATTENUATION = 80.0
BETA = 0.1102 * (ATTENUATION - 8.7)
TRANSITION = (ATTENUATION - 7.95) / 14.36
# Weights are multiples of 2**-30: 15 bits of sample, 30 of weight and 2 for the sum of the
# weights' magnitudes are 47 of the 53 bits that float64 has.
WEIGHT_SCALE = 2.0**30
# Outputs in a block. With fewer the matrix product is too small to be fast; with more it spends
# its time on zeros.
BLOCK = 16
# Limit of multiply-adds in one step. Above it OpenBLAS starts threads, at more cost than gain.
STEP = 260_000
# Limit of weights in a table. Rates without a common divisor, such as 48000 -> 44101, would need
# more. Their outputs are computed one by one instead, each interpolated between two of PHASES
# phases: the error is at -106 dB, and 20 ms take 1 ms instead of 20 us.
MAX_WEIGHTS = 1_000_000
PHASES = 512


def _half_length(in_rate: int, out_rate: int) -> float:
    return max(DELAY, DELAY_SAMPLES / min(in_rate, out_rate))


def _weights(in_rate: int, out_rate: int, phases: Floats, length: int) -> Floats:
    """Return one row of `length` taps, oldest input first, for each phase (0 to 1)."""
    half = _half_length(in_rate, out_rate)
    age = phases[:, None] + np.arange(length)[::-1]
    time = age / in_rate - half
    cutoff = min(in_rate, out_rate) - TRANSITION / (2 * half)
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1.0 - (time / half) ** 2)))
    taps = np.where(np.abs(time) <= half, np.sinc(cutoff * time) * window, 0.0)
    rows: Floats = np.rint(taps / taps.sum(axis=1, keepdims=True) * WEIGHT_SCALE)
    peak = (np.arange(len(rows)), rows.argmax(axis=1))
    rows[peak] += WEIGHT_SCALE - rows.sum(axis=1)
    rows /= WEIGHT_SCALE
    return rows


class _Plan:
    """The tables of two rates, shared by all resamplers between them and never changed."""

    def __init__(self, in_rate: int, out_rate: int) -> None:
        divisor = math.gcd(in_rate, out_rate)
        self.in_cycle = in_cycle = in_rate // divisor  # M: after it the outputs' phases repeat
        self.out_cycle = out_cycle = out_rate // divisor  # L
        self.taps = taps = math.floor(2 * _half_length(in_rate, out_rate) * in_rate) + 1  # T
        block = out_cycle * math.ceil(BLOCK / out_cycle)
        if out_cycle > 2 * BLOCK:
            block = next((b for b in range(BLOCK, 4 * BLOCK) if out_cycle % b == 0), out_cycle)
        self.block = block  # B: outputs in a block
        self.blocks = blocks = max(1, out_cycle // block)  # S: blocks in a cycle
        self.cycle = block * blocks * in_cycle // out_cycle  # inputs in a cycle of blocks
        self.stride = block * in_cycle // out_cycle  # inputs from one block to the next
        outputs = np.arange(block * blocks, dtype=np.int64)
        at = outputs * in_cycle // out_cycle - outputs // block * self.stride  # in the window
        self.width = taps + int(at.max())  # W: inputs in the window of a block
        self.matrices: Floats | None = None  # (S, W, B); None above MAX_WEIGHTS
        self.phases: Floats | None = None  # those of PHASES + 1 phases; None up to MAX_WEIGHTS
        if blocks * block * self.width <= MAX_WEIGHTS:
            rows = _weights(in_rate, out_rate, outputs * in_cycle % out_cycle / out_cycle, taps)
            self.matrices = np.zeros((blocks, self.width, block))
            for output, row, start in zip(outputs, rows, at, strict=True):
                self.matrices[output // block, start : start + taps, output % block] = row
        else:
            self.phases = _weights(in_rate, out_rate, np.arange(PHASES + 1) / PHASES, taps)


_plan = functools.lru_cache(maxsize=64)(_Plan)


class Resampler:
    """Changes the sample rate of a stream of int16 samples.

    Every push returns as much as it adds: 20 ms in, 20 ms out, from the first one. The audio is
    late by a constant `delay`: 2.5 ms, up to 4 ms where one of the rates is below 12.8 kHz, none
    where both are equal.

    Args:
        in_rate: Input sample rate (Hz).
        out_rate: Output sample rate (Hz).
        num_channels: 1 to 8.

    Raises:
        ConfigError: A rate that is no positive whole number, or a number of channels out of range.
    """

    def __init__(self, in_rate: int, out_rate: int, num_channels: int = 1) -> None:
        self.in_rate: int = check_positive(in_rate, "in_rate")
        self.out_rate: int = check_positive(out_rate, "out_rate")
        self.num_channels: int = check_channels(num_channels)
        in_rate, out_rate, num_channels = self.in_rate, self.out_rate, self.num_channels
        if in_rate == out_rate:
            return
        self._plan = plan = _plan(in_rate, out_rate)
        # The inputs, one row a channel. Column 0 is the oldest in the first output's window.
        # Columns beyond the newest are multiplied by zero, but have to be finite.
        if plan.phases is None:
            per_cycle = plan.width * plan.block * plan.blocks * num_channels
            self._piece = max(1, STEP // per_cycle) * plan.cycle
            columns = plan.taps + self._piece + plan.cycle + plan.width
        else:
            self._piece = max(1, STEP * in_rate // (out_rate * plan.taps))
            columns = plan.taps + self._piece + plan.in_cycle // plan.out_cycle + 1
        self._inputs = np.zeros((num_channels, columns))
        self._views: dict[int, tuple[Floats, Floats, Floats]] = {}
        self.reset()

    @property
    def delay(self) -> float:
        """Delay (s)."""
        return 0.0 if self.in_rate == self.out_rate else _half_length(self.in_rate, self.out_rate)

    @property
    def delay_samples(self) -> float:
        """Delay (output samples)."""
        return self.delay * self.out_rate

    def reset(self) -> None:
        """Discard what was pushed: the next push follows silence."""
        self._total_in = self._total_out = 0
        if self.in_rate != self.out_rate:
            self._inputs[:, : self._plan.taps - 1] = 0.0
            self._filled = self._plan.taps - 1
            self._emitted = 0  # outputs of the cycle at column 0 that were returned already
            self._phase = 0  # of the first output, in 1 / L inputs; 0 for a cycle's

    def push(self, samples: Samples) -> Samples:
        """Resample samples; return the same duration.

        Args:
            samples: int16, shape (n,) when mono, (n, num_channels) otherwise.

        Raises:
            TypeError: Not an int16 array.
            ValueError: Another shape.
        """
        check_samples(samples, self.num_channels)
        if self.in_rate == self.out_rate:
            return samples.astype(np.int16)  # a copy: the caller may reuse its buffer
        if len(samples) <= self._piece:
            return self._push(samples)
        starts = range(0, len(samples), self._piece)
        return np.concatenate([self._push(samples[at : at + self._piece]) for at in starts])

    def flush(self) -> Samples:
        """Return the samples due, so that round(inputs * out_rate / in_rate) came out; reset.

        The last `delay` seconds, which are inside the filter, are discarded. To get them, push
        `delay` of silence first.
        """
        if self.in_rate == self.out_rate:
            return self._shape(np.empty((0, self.num_channels), np.int16))
        due = round(self._total_in * self.out_rate / self.in_rate) - self._total_out
        enough = -(-self._plan.in_cycle // self._plan.out_cycle)  # for one more output
        out = self._push(self._shape(np.zeros((enough, self.num_channels), np.int16)))[:due]
        self.reset()
        return out

    def _push(self, samples: Samples) -> Samples:
        plan, filled = self._plan, self._filled + len(samples)
        self._inputs[:, self._filled : filled] = samples.T
        emitted = self._emitted
        ready = ((filled - plan.taps + 1) * plan.out_cycle - self._phase) // plan.in_cycle
        out = self._shape(self._outputs(emitted, ready))
        self._total_in += len(samples)
        self._total_out += ready - emitted
        # Keep what the next output's window still needs, from the start of its cycle.
        if plan.phases is None:
            cycles, self._emitted = divmod(ready, plan.out_cycle)
            done = cycles * plan.in_cycle
        else:
            done, self._phase = divmod(self._phase + ready * plan.in_cycle, plan.out_cycle)
        self._inputs[:, : filled - done] = self._inputs[:, done:filled].copy()
        self._filled = filled - done
        return out

    def _outputs(self, start: int, stop: int) -> Samples:
        """Return the outputs `start` to `stop` of the cycle at column 0, shape (n, channels)."""
        plan, channels = self._plan, self.num_channels
        if stop <= start:
            return np.empty((0, channels), np.int16)
        if plan.matrices is None:
            return _to_int16(self._one_by_one(stop)).T
        per_cycle = plan.block * plan.blocks
        cycles = -(-stop // per_cycle)
        if cycles not in self._views:
            self._views = {cycles: self._view(cycles)}
        windows, scratch, product = self._views[cycles]
        np.copyto(scratch, windows)
        flat = scratch.reshape(plan.blocks, channels * cycles, plan.width)
        np.matmul(flat, plan.matrices, out=product.reshape(plan.blocks, -1, plan.block))
        ordered = _to_int16(product).transpose(2, 0, 3, 1)
        return ordered.reshape(cycles * per_cycle, channels)[start:stop]

    def _view(self, cycles: int) -> tuple[Floats, Floats, Floats]:
        """Return the windows of some cycles, and buffers for them and for their product."""
        plan, channels, item = self._plan, self.num_channels, self._inputs.itemsize
        shape = (plan.blocks, channels, cycles, plan.width)
        strides = (plan.stride * item, self._inputs.strides[0], plan.cycle * item, item)
        # A plain array over the buffer: `sliding_window_view` takes 19 us.
        windows: Floats = np.ndarray(shape, np.float64, self._inputs, 0, strides)
        return windows, np.empty(shape), np.empty((*shape[:3], plan.block))

    def _one_by_one(self, count: int) -> Floats:
        """Return the next outputs, shape (channels, n), each interpolated between two phases."""
        plan = self._plan
        assert plan.phases is not None  # noqa: S101 - for the type checker
        at = self._phase + np.arange(count, dtype=np.int64) * plan.in_cycle
        phase, between = np.divmod(at % plan.out_cycle * PHASES, plan.out_cycle)
        windows = self._inputs[:, (at // plan.out_cycle)[:, None] + np.arange(plan.taps)]
        low = np.einsum("cnt,nt->cn", windows, plan.phases[phase])
        high = np.einsum("cnt,nt->cn", windows, plan.phases[phase + 1])
        out: Floats = low + (high - low) * (between / plan.out_cycle)
        return out

    def _shape(self, samples: Samples) -> Samples:
        return samples[:, 0] if self.num_channels == 1 else samples


def _to_int16(values: Floats) -> Samples:
    """Round and clip, in place where possible: np.clip and np.round take twice as long."""
    np.rint(values, out=values)
    np.maximum(values, -32768.0, out=values)
    np.minimum(values, 32767.0, out=values)
    return values.astype(np.int16)
