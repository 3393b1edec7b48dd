"""`FrameBuffer`: the memory stream behind rx, which never makes its writer wait, and heals.

The stream itself is unbounded; a private clone of its receiving end drops what has waited too
long. A bound on age and not on content: after a stall of the event loop everything that was said
meanwhile arrives at once, and a consumer that is fast must lose nothing of it.

A consumer that is not fast, as it sends on in real time what it receives, would stay that late for
ever. It shows: it reads all the time, and the sound that waits never falls below `max_delay`. Then
all but the newest is shed. (One that does not read is away, and may be fast when it is back.)
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from typing import NamedTuple

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from .._logging import SessionLog
from ..audio.fades import crossfade
from ..audio.frame import AudioFrame

__all__ = ["FrameBuffer"]

# However young it is, more sound than this is not kept: 5.8 MB a channel at 96 kHz.
MAX_CONTENT = 30.0
# Dropping replaces the head of the queue, so that it can tell what is missing: done for every
# frame it would cost 57 us each time, and more with many speakers. So a tenth goes at once.
SLACK = 0.1
# Whoever has not caught up within this long, in seconds, never will. Whoever has not read for that
# long, or two frames, is away; one that reads in pieces is not.
MIN_STANDING = 1.0
AWAY = 0.5
# The crossfade from what was last heard to what is next; shorter is a click, longer an echo.
FADE = 0.01


class _Waiting(NamedTuple):
    since: float
    duration: float
    lane: str | None


class FrameBuffer:
    """Frames on their way to a reader that may be slow, gone, or several.

    Args:
        max_age: How long a frame may wait, in seconds.
        max_delay: How much sound may wait all the time, in seconds; None: any.
        log: The session's.
        name: What it is, for the log.

    Frames that are heard one after the other are in one lane; those of several speakers who are
    told apart, in several.
    """

    def __init__(
        self, max_age: float, max_delay: float | None, log: SessionLog, name: str = "rx"
    ) -> None:
        self._max_age = max_age
        self._max_delay = math.inf if max_delay is None else max_delay
        self._log = log
        self._name = name
        send, receive = anyio.create_memory_object_stream[AudioFrame](math.inf)
        self._send = send
        self._own = receive.clone()
        self.rx: MemoryObjectReceiveStream[AudioFrame] = receive
        self._waiting: deque[_Waiting] = deque()
        self._content: defaultdict[str | None, float] = defaultdict(float)  # seconds, by lane
        self._lost: defaultdict[str | None, float] = defaultdict(float)
        self._behind = False
        self._standing_since = 0.0
        self._read_at = -math.inf  # never
        self.frames_dropped = 0
        self.seconds_dropped = 0.0
        self.seconds_trimmed = 0.0

    @property
    def has_reader(self) -> bool:
        return self._own.statistics().open_receive_streams > 1

    @property
    def seconds_buffered(self) -> float:
        """The sound that waits, of all lanes."""
        self._forget_taken()
        return sum(self._content.values())

    @property
    def delay(self) -> float:
        """The sound that waits, of the lane in which most does: how late a reader hears it."""
        self._forget_taken()
        return max(self._content.values(), default=0.0)

    def put(self, frame: AudioFrame, lane: str | None = None) -> None:
        """Adds a frame; drops the oldest where they have waited for too long, or too many stand."""
        now = time.monotonic()
        if self.delay < self._max_delay or now - self._read_at > max(AWAY, 2 * frame.duration):
            self._standing_since = now
        if not self._waiting:
            self._behind = False
        self._send.send_nowait(self._told(frame, lane))
        self._waiting.append(_Waiting(now, frame.duration, lane))
        self._content[lane] += frame.duration
        if now - self._standing_since >= max(self._max_age, MIN_STANDING):
            self._shed(now)
        elif now - self._waiting[0].since > self._max_age or self.seconds_buffered > MAX_CONTENT:
            self._drop(now)

    def close(self) -> None:
        """Ends the stream: what waits can still be read."""
        self._send.close()
        self._own.close()

    def _forget_taken(self) -> None:
        used = self._own.statistics().current_buffer_used
        if len(self._waiting) > used:
            self._read_at = time.monotonic()
        while len(self._waiting) > used:
            self._forget(self._waiting.popleft())

    def _forget(self, taken: _Waiting) -> None:
        self._content[taken.lane] -= taken.duration
        if self._content[taken.lane] < taken.duration / 2:  # nothing, but for rounding
            del self._content[taken.lane]

    # Both take out and put back in one synchronous step; a buffer that is not empty has no waiter.

    def _drop(self, now: float) -> None:
        """Drops the oldest."""
        hint = "" if self._read_at > 0 else "; close it where it is not needed"
        self._tell(f"%s was not read for %.1f s, dropping the oldest{hint}", self._max_age)
        max_age, max_content = self._max_age * (1 - SLACK), MAX_CONTENT * (1 - SLACK)
        while len(self._waiting) > 1 and (
            now - self._waiting[0].since > max_age or self.seconds_buffered > max_content
        ):
            dropped = self._waiting.popleft()
            self._forget(dropped)
            self._lose(self._own.receive_nowait(), dropped.lane)
        for waiting, frame in [(each, self._own.receive_nowait()) for each in self._waiting]:
            self._send.send_nowait(self._told(frame, waiting.lane))

    def _shed(self, now: float) -> None:
        """Keeps the newest frame of each lane, which the reader hears after a crossfade."""
        self._standing_since = now
        newest: dict[str | None, AudioFrame] = {}
        oldest: dict[str | None, AudioFrame] = {}
        before = self.seconds_dropped
        for waiting in self._waiting:
            frame = self._own.receive_nowait()
            oldest.setdefault(waiting.lane, frame)
            if (older := newest.pop(waiting.lane, None)) is not None:
                self._lose(older, waiting.lane)
            newest[waiting.lane] = frame
        shed = self.seconds_dropped - before
        self.seconds_trimmed += shed
        self._tell("%s is read in real time but late: %.2f s shed", shed)
        since = {waiting.lane: waiting.since for waiting in self._waiting}
        self._waiting.clear()
        self._content.clear()
        for lane, frame in newest.items():
            if lane in self._lost:
                blended = attrs.evolve(frame, data=_blend(oldest[lane], frame))
                self._send.send_nowait(self._told(blended, lane))
            else:
                self._send.send_nowait(frame)
            self._waiting.append(_Waiting(since[lane], frame.duration, lane))
            self._content[lane] = frame.duration

    def _told(self, frame: AudioFrame, lane: str | None) -> AudioFrame:
        """Has the frame tell what is missing before it."""
        lost = self._lost.pop(lane, 0.0)
        return attrs.evolve(frame, lost=frame.lost + lost) if lost else frame

    def _lose(self, frame: AudioFrame, lane: str | None) -> None:
        self._lost[lane] += frame.lost + frame.duration
        self.frames_dropped += 1
        self.seconds_dropped += frame.duration

    def _tell(self, message: str, seconds: float) -> None:
        if not self._behind:
            self._behind = True
            self._log.warning(message, self._name, seconds)


def _blend(old: AudioFrame, new: AudioFrame) -> bytes:
    """Returns the samples of `new`, which begin as those of `old` do."""
    length = min(old.samples_per_channel, new.samples_per_channel, round(FADE * new.sample_rate))
    samples = new.samples.copy()
    samples[:length] = crossfade(old.samples[:length], samples[:length])
    return samples.tobytes()
