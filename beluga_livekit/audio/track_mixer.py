"""`TrackMixer`: the sum of several tracks, aligned by how much each has delivered.

All tracks of a process come from one native clock, so they never drift; what differs is when in a
wire frame each of them delivers, which is waited for, and a stall of the event loop, after which
one track's backlog arrives before the next one's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .fades import crossfade
from .format import WIRE_RATE, Samples

__all__ = ["Mixed", "TrackMixer"]

# For so long, in seconds, all others wait for a track that delivers nothing; then it is left out
# until it does again. Tracks are delivered every 20 ms, by one thread. What a stall of the event
# loop takes does not count: the backlog of that track is about to come.
PATIENCE = 0.06
STALL = 0.02
# A track whose first frame comes this soon after the others' has been delivered with them, for what
# has gone out already. It is a frame late then, until it has one that is silent.
TOGETHER = 0.005
SILENT = 32
# What a track is ahead of the others for all of this time, in seconds, is only late, and is cut if
# it is as much as a step, with a crossfade.
STANDING = 1.0
STEP = WIRE_RATE // 100

# Whoever's peak is this much (30 dB) below another's is not heard beside it: an open microphone, or
# what a codec makes of silence.
MASKED = 32


class Mixed(NamedTuple):
    """A stretch of the sum, and the tracks that are heard in it: of a silent one, all of them."""

    samples: Samples
    tracks: tuple[str, ...]


class _MixerInput:
    """What a track has delivered and the sum does not have yet."""

    def __init__(self) -> None:
        self.held = np.zeros(0, np.int16)
        self.missing_since: float | None = None  # by the mixer's clock
        self.has_ended = False
        self.is_late = False
        self.least = math.inf  # that was held after a sum, of late
        self._cut = self.held  # the beginning of what was cut

    @property
    def is_over(self) -> bool:
        return self.has_ended and not len(self.held)

    def is_absent(self, clock: float) -> bool:
        return self.missing_since is not None and clock - self.missing_since > PATIENCE

    def push(self, samples: Samples) -> None:
        self.missing_since, self.has_ended = None, False
        if not len(self.held):
            self.held = samples
        else:
            self.held = np.concatenate(_alike([self.held, samples]))

    def take(self, count: int) -> Samples:
        taken, self.held = self.held[:count], self.held[count:]
        self.least = min(self.least, len(self.held))
        if (fade := min(len(self._cut), count)) > 0:
            faded = crossfade(*_alike([self._cut[:fade], taken[:fade]]))
            taken, self._cut = np.concatenate(_alike([faded, taken[fade:]])), self._cut[:0]
        return taken

    def catch_up(self) -> None:
        """Cuts what has stood; what comes next begins with a crossfade."""
        if STEP <= self.least < math.inf:
            self._cut, self.held = self.held[:STEP], self.held[int(self.least) :]
        self.least = math.inf


class TrackMixer:
    """Sums tracks as they deliver; one alone passes through as it is."""

    def __init__(self) -> None:
        self._lines: dict[str, _MixerInput] = {}
        self._now = self._mixed_at = -math.inf
        self._clock = 0.0  # seconds, without those of stalls
        self._checked_at = 0.0

    def push(self, track: str, samples: Samples, now: float) -> list[Mixed]:
        """Takes what a track has delivered.

        Args:
            track: Which; a new one joins the sum.
            samples: int16 at the wire's rate, shape (n,) or (n, 2).
            now: In seconds of a clock that does not jump.

        Returns:
            What can be heard now.
        """
        self._clock += min(now - self._now, STALL)
        self._now = now
        line = self._lines.get(track)
        joins = line is None or line.has_ended or line.is_absent(self._clock)
        if line is None:
            line = self._lines[track] = _MixerInput()
        if joins:
            line.is_late = len(self._lines) > 1 and now - self._mixed_at < TOGETHER
        if line.is_late and _peak(samples) < SILENT:
            line.is_late = False
            line.push(samples[:0])
            return self._mix()
        line.push(samples)
        if len(self._lines) == 1:
            self._mixed_at = now
            return [Mixed(line.take(len(line.held)), (track,))]
        return self._mix()

    def remove(self, track: str) -> list[Mixed]:
        """Waits no longer for a track; what it has delivered is still heard with the others.

        Returns:
            What waited for it.
        """
        if track not in self._lines:
            return []
        self._lines[track].has_ended = True
        return self._mix()

    def _mix(self) -> list[Mixed]:
        waited_for: list[int] = []
        for line in self._lines.values():
            if not len(line.held) and line.missing_since is None:
                line.missing_since = self._clock
            if not (line.has_ended or line.is_absent(self._clock)):
                waited_for.append(len(line.held))
        ended = [len(line.held) for line in self._lines.values() if line.has_ended]
        count = min(waited_for) if waited_for else max(ended, default=0)
        mixed = []
        if count:
            parts = {track: line.take(count) for track, line in self._lines.items()}
            mixed = [_sum({track: part for track, part in parts.items() if len(part)}, count)]
            self._mixed_at = self._now
        for track in [each for each, line in self._lines.items() if line.is_over]:
            del self._lines[track]
        if self._clock - self._checked_at >= STANDING:
            self._checked_at = self._clock
            for line in self._lines.values():
                line.catch_up()
        return mixed


def _sum(parts: dict[str, Samples], count: int) -> Mixed:
    peaks = {track: _peak(part) for track, part in parts.items()}
    audible = max(peaks.values()) / MASKED
    heard = tuple(track for track, peak in peaks.items() if peak >= audible)
    sounding = [part for track, part in parts.items() if peaks[track] > 0]
    if len(sounding) == 1 and len(sounding[0]) == count:
        return Mixed(sounding[0], heard)
    whole = _alike([_padded(part, count) for part in sounding or parts.values()])
    total = np.sum(whole, axis=0, dtype=np.int32)
    return Mixed(np.clip(total, -32768, 32767).astype(np.int16), heard)


def _peak(part: Samples) -> int:
    return max(int(part.max()), -int(part.min()))


def _padded(part: Samples, count: int) -> Samples:
    """Adds silence to what is shorter, as a track is that has ended."""
    missing = np.zeros((count - len(part), *part.shape[1:]), np.int16)
    return np.concatenate([part, missing]) if len(missing) else part


def _alike(parts: list[Samples]) -> list[Samples]:
    """Gives all of them two channels if one of them has."""
    if all(part.ndim == 1 for part in parts):
        return parts
    return [part if part.ndim == 2 else np.repeat(part[:, None], 2, axis=1) for part in parts]
