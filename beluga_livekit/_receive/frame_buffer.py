"""`FrameBuffer`: the stream behind rx, which bounds the age and the latency of its frames.

Age is bounded, not content. After a stall of the event loop, the audio of the whole stall arrives
at once, and a fast reader must lose nothing of it.

A reader in real time, such as a relay, would stay late by that stall for ever. It reads all the
time, and the unread audio never falls below `max_delay`: then all but the newest frames are
trimmed. A reader that does not read at all is paused, and may be fast when it continues.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, Self

import anyio
import attrs

from .._logging import SessionLog
from .._streams import LossyReceiveStream, LossyStream
from ..audio.backlog import StandingBacklog
from ..audio.fades import crossfade
from ..audio.frame import AudioFrame

MAX_CONTENT = 30.0  # limit of unread audio (s), whatever its age: 5.8 MB a channel at 96 kHz
# Share of a bound that is dropped at once. A drop rewrites the stream, so that the first frame has
# `lost`: for every frame that would cost 57 us, and more with many tracks.
SLACK = 0.1
MIN_STANDING = 1.0  # a backlog that has not drained for this long (s) never will
# A reader idle for this long (s), or for two frames, is paused and not late. A reader that reads in
# chunks pauses for less.
PAUSED = 0.5
FADE = 0.01  # duration of the crossfade into the newest frame (s): shorter clicks, longer echoes


@attrs.frozen(kw_only=True)
class ReceiveStatistics:
    """Counters of one receive stream, at one moment.

    Attributes:
        frames: Frames put into the stream.
        seconds: Their audio, the silence that fills gaps included (s).
        frames_dropped: Frames dropped because the stream was not read in time, and silence skipped
            because the process had been suspended.
        seconds_dropped: Their audio (s).
        seconds_trimmed: The part of it that was trimmed to cut latency (s).
        seconds_buffered: Audio that waits unread (s).
        delay: How late a reader is now (s); with `mix=False`, for the track with most unread audio.
    """

    frames: int
    seconds: float
    frames_dropped: int
    seconds_dropped: float
    seconds_trimmed: float
    seconds_buffered: float
    delay: float


@attrs.define
class _Counters:
    """The counters of a buffer since it was made, named as in `ReceiveStatistics`."""

    frames: int = 0
    seconds: float = 0.0
    frames_dropped: int = 0
    seconds_dropped: float = 0.0
    seconds_trimmed: float = 0.0


class ReceiveStream(LossyReceiveStream[AudioFrame]):
    """A stream of received frames: an anyio memory object stream with counters.

    Clones share the frames: each frame arrives at one of them. `session.open_rx()` gives a stream
    that has all frames for itself.
    """

    def __init__(self, buffer: "FrameBuffer", state: Any) -> None:
        super().__init__(state)
        self._buffer = buffer

    @property
    def counters(self) -> ReceiveStatistics:
        """The counters of this stream and its clones; they stay when it is closed."""
        return self._buffer.statistics()

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._buffer, self._state)


class _Entry(NamedTuple):
    """Belongs to the unread frame at the same place."""

    since: float
    duration: float
    track: str | None  # None: the mix. Only frames of one track follow each other in time.


class FrameBuffer(LossyStream[AudioFrame]):
    """Frames on their way to a reader that may be slow, paused, gone, or several."""

    rx: ReceiveStream

    def __init__(
        self,
        max_age: float,
        max_delay: float | None,
        log: SessionLog,
        name: str = "rx",
        remedy: str = "read it, or close it",
    ) -> None:
        super().__init__()
        self.counters: _Counters = _Counters()
        self._max_age = max_age  # limit of the time that a frame waits (s)
        self._max_delay = math.inf if max_delay is None else max_delay  # of undrained audio (s)
        self._log_warning = partial(log.warning, "%s %s", name)
        self._remedy = remedy  # for a stream that was never read
        self._entries: deque[_Entry] = deque()
        self._buffered: defaultdict[str | None, float] = defaultdict(float)  # seconds, by track
        self._lost: defaultdict[str | None, float] = defaultdict(float)  # not in a frame's `lost`
        self._backlog = StandingBacklog(max(max_age, MIN_STANDING))
        self._has_warned = False  # since the buffer was last empty
        self._read_at = -math.inf  # never

    @property
    def seconds_buffered(self) -> float:
        """Unread audio of all tracks (s)."""
        self._forget_read()
        return sum(self._buffered.values())

    @property
    def delay(self) -> float:
        """Unread audio of the track with most of it (s): how late a reader is."""
        self._forget_read()
        return max(self._buffered.values(), default=0.0)

    def statistics(self) -> ReceiveStatistics:
        return ReceiveStatistics(
            **attrs.asdict(self.counters),
            seconds_buffered=self.seconds_buffered,
            delay=self.delay,
        )

    def skip(self, seconds: float, frames: int) -> None:
        """Count silence that is never put, and report it in `lost` of the next mixed frame."""
        self._lost[None] += seconds
        self.counters.frames_dropped += frames
        self.counters.seconds_dropped += seconds

    def put(self, item: AudioFrame, track: str | None = None) -> None:
        """Add a frame, then trim a backlog that never drains, or drop the oldest frames."""
        now, delay = time.monotonic(), self.delay
        if delay < self._max_delay or now - self._read_at > max(PAUSED, 2 * item.duration):
            self._backlog.reset()
            excess = None
        else:
            excess = self._backlog.observe(now, delay)
        if not self._entries:
            self._has_warned = False
        super().put(self._with_lost(item, track))
        self.counters.frames += 1
        self.counters.seconds += item.duration
        self._add_entry(_Entry(now, item.duration, track))
        if excess:
            before = self.counters.seconds_dropped
            self.rewrite(self._newest)
            trimmed = self.counters.seconds_dropped - before
            self.counters.seconds_trimmed += trimmed
            self._warn(f"is read in real time but late: trimmed {trimmed:.2f} s")
        elif now - self._entries[0].since > self._max_age or self.seconds_buffered > MAX_CONTENT:
            hint = "read it without pauses" if self._read_at > 0 else self._remedy
            limit = f"{self._max_age:.1f} s"
            self._warn(f"was not read for {limit}: dropping the oldest frames; {hint}")
            self.rewrite(self._without_oldest)

    def _forget_read(self) -> None:
        if len(self._entries) > (unread := self.unread):
            self._read_at = time.monotonic()
            while len(self._entries) > unread:
                self._remove_oldest_entry()

    def _add_entry(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._buffered[entry.track] += entry.duration

    def _remove_oldest_entry(self) -> _Entry:
        entry = self._entries.popleft()
        self._buffered[entry.track] -= entry.duration
        if self._buffered[entry.track] < entry.duration / 2:  # zero, but for rounding
            del self._buffered[entry.track]
        return entry

    def _without_oldest(self, frames: list[AudioFrame]) -> Iterable[AudioFrame]:
        """Drop the oldest frames until both bounds are met, with some slack."""
        now, kept = self._entries[-1].since, deque(frames)
        max_age, max_content = self._max_age * (1 - SLACK), MAX_CONTENT * (1 - SLACK)
        while len(kept) > 1 and (
            now - self._entries[0].since > max_age or sum(self._buffered.values()) > max_content
        ):
            self._count_lost(kept.popleft(), self._remove_oldest_entry().track)
        for frame, entry in zip(kept, self._entries, strict=True):
            yield self._with_lost(frame, entry.track)

    def _newest(self, frames: list[AudioFrame]) -> Iterable[AudioFrame]:
        """Drop all but the newest frame of each track; crossfade into it from the oldest."""
        oldest: dict[str | None, AudioFrame] = {}
        newest: dict[str | None, tuple[AudioFrame, _Entry]] = {}
        for frame in frames:
            entry = self._remove_oldest_entry()
            oldest.setdefault(entry.track, frame)
            if (older := newest.pop(entry.track, None)) is not None:
                self._count_lost(older[0], entry.track)
            newest[entry.track] = (frame, entry)
        for track, (frame, entry) in newest.items():
            self._add_entry(entry)
            if (old := oldest[track]) is not frame:
                frame = attrs.evolve(frame, data=_crossfaded(old, frame))  # noqa: PLW2901
            yield self._with_lost(frame, track)

    def _with_lost(self, frame: AudioFrame, track: str | None) -> AudioFrame:
        lost = self._lost.pop(track, 0.0)
        return attrs.evolve(frame, lost=frame.lost + lost) if lost else frame

    def _count_lost(self, frame: AudioFrame, track: str | None) -> None:
        self._lost[track] += frame.lost + frame.duration
        self.counters.frames_dropped += 1
        self.counters.seconds_dropped += frame.duration

    def _open_rx(self, state: Any) -> ReceiveStream:
        return ReceiveStream(self, state)

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._log_warning(message)


def _crossfaded(old: AudioFrame, new: AudioFrame) -> bytes:
    """Return the samples of `new`, which begin as those of `old`."""
    length = min(old.samples_per_channel, new.samples_per_channel, round(FADE * new.sample_rate))
    samples = new.samples.copy()
    samples[:length] = crossfade(old.samples[:length], samples[:length])
    return samples.tobytes()
