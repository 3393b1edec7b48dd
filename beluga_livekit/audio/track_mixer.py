"""`TrackMixer`: the sum of several tracks, aligned by how much each has delivered.

All tracks of a process come from one native clock, so they never drift. They deliver at different
moments within a wire frame; the mixer waits for that. After a stall of the event loop, the whole
backlog of one track arrives before that of the next.
"""

import math
from typing import NamedTuple

import numpy as np

from .backlog import StandingBacklog
from .fades import crossfade
from .format import BLOCK, Samples

# Timeout for a track that delivers nothing (s). The others wait this long, and are then mixed
# without it until it delivers again. One native thread delivers all tracks, every 20 ms.
TRACK_TIMEOUT = 0.06
# Limit of what one push adds to the timeout's clock (s): a stall of the event loop must not time
# out a track whose backlog is about to arrive.
MAX_CLOCK_STEP = 0.02
# A track whose first frame arrives within this time (s) of a mix was delivered with the others and
# missed that mix. It runs one frame behind, until one of its frames is silent and is skipped.
SAME_DELIVERY = 0.005
SILENT_PEAK = 32  # peak below which a frame is silent (of 32768)
# Window (s) for the excess latency of a track that is ahead of the others. From one block on it is
# trimmed with a crossfade.
BACKLOG_WINDOW = 1.0
# Ratio of peaks (30 dB) from which on the louder track masks the other: an open microphone, or
# what a codec makes of silence.
MASKING_RATIO = 32


class Mixed(NamedTuple):
    """A part of the mix, and its audible tracks: all of them where it is silent."""

    samples: Samples
    tracks: tuple[str, ...]


class _MixerInput:
    """The samples of one track that are not in the mix yet."""

    def __init__(self) -> None:
        self.held = np.zeros(0, np.int16)
        self.missing_since: float | None = None  # by the mixer's clock
        self.has_ended = True  # until the first push
        self.is_behind = False  # by one frame, see SAME_DELIVERY
        self._backlog = StandingBacklog(BACKLOG_WINDOW)
        self._trimmed = self.held  # the beginning of what was trimmed

    def is_absent(self, clock: float) -> bool:
        return self.missing_since is not None and clock - self.missing_since > TRACK_TIMEOUT

    def push(self, samples: Samples) -> None:
        self.missing_since, self.has_ended = None, False
        if len(self.held):
            samples = np.concatenate(_same_channels([self.held, samples]))
        self.held = samples

    def take(self, count: int, clock: float) -> Samples:
        """Remove up to `count` samples and return them; trim what is left once it never drains."""
        taken, self.held = self.held[:count], self.held[count:]
        if (fade := min(len(self._trimmed), count)) > 0:
            faded = crossfade(*_same_channels([self._trimmed[:fade], taken[:fade]]))
            taken = np.concatenate(_same_channels([faded, taken[fade:]]))
            self._trimmed = self._trimmed[:0]
        excess = self._backlog.observe(clock, len(self.held))
        if excess is not None and excess >= BLOCK:
            self._trimmed, self.held = self.held[:BLOCK], self.held[int(excess) :]
        return taken


class TrackMixer:
    """Sums tracks as they deliver; a single track passes through unchanged."""

    def __init__(self) -> None:
        self._inputs: dict[str, _MixerInput] = {}
        self._now = self._mixed_at = -math.inf
        self._clock = 0.0  # seconds, without those of stalls

    def push(self, track: str, samples: Samples, now: float) -> list[Mixed]:
        """Add samples, shape (n,) or (n, 2), at a monotonic time (s); return what is mixed now."""
        self._clock += min(now - self._now, MAX_CLOCK_STEP)
        self._now = now
        if (source := self._inputs.get(track)) is None:
            source = self._inputs[track] = _MixerInput()
        if source.has_ended or source.is_absent(self._clock):
            source.is_behind = len(self._inputs) > 1 and now - self._mixed_at < SAME_DELIVERY
        if source.is_behind and _peak(samples) < SILENT_PEAK:
            source.is_behind = False
            source.push(samples[:0])
            return self._mix()
        source.push(samples)
        if len(self._inputs) == 1:
            self._mixed_at = now
            return [Mixed(source.take(len(source.held), self._clock), (track,))]
        return self._mix()

    def remove(self, track: str) -> list[Mixed]:
        """End a track; return the mix that waited for it. Its held samples are still mixed."""
        if track not in self._inputs:
            return []
        self._inputs[track].has_ended = True
        return self._mix()

    def _mix(self) -> list[Mixed]:
        waited_for: list[int] = []
        for source in self._inputs.values():
            if not len(source.held) and source.missing_since is None:
                source.missing_since = self._clock
            if not (source.has_ended or source.is_absent(self._clock)):
                waited_for.append(len(source.held))
        ended = [len(source.held) for source in self._inputs.values() if source.has_ended]
        count = min(waited_for) if waited_for else max(ended, default=0)
        mixed = []
        if count:
            taken = [(track, each.take(count, self._clock)) for track, each in self._inputs.items()]
            mixed = [_sum({track: part for track, part in taken if len(part)}, count)]
            self._mixed_at = self._now
        for track, source in list(self._inputs.items()):
            if source.has_ended and not len(source.held):
                del self._inputs[track]
        return mixed


def _sum(parts: dict[str, Samples], count: int) -> Mixed:
    peaks = {track: _peak(part) for track, part in parts.items()}
    threshold = max(peaks.values()) / MASKING_RATIO
    audible = tuple(track for track, peak in peaks.items() if peak >= threshold)
    nonzero = [part for track, part in parts.items() if peaks[track] > 0]
    if len(nonzero) == 1 and len(nonzero[0]) == count:
        return Mixed(nonzero[0], audible)
    whole = []
    for part in nonzero or parts.values():
        silence = np.zeros((count - len(part), *part.shape[1:]), np.int16)  # of a track at its end
        whole.append(np.concatenate([part, silence]) if len(silence) else part)
    total = np.sum(_same_channels(whole), axis=0, dtype=np.int32)
    return Mixed(np.clip(total, -32768, 32767).astype(np.int16), audible)


def _peak(part: Samples) -> int:
    return max(int(part.max()), -int(part.min()))


def _same_channels(parts: list[Samples]) -> list[Samples]:
    """Convert all parts to two channels if one of them has two."""
    if all(part.ndim == 1 for part in parts):
        return parts
    return [part if part.ndim == 2 else np.repeat(part[:, None], 2, axis=1) for part in parts]
