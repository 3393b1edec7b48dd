"""`FrameQueue`: the memory stream behind rx, which never makes its writer wait.

The stream itself is unbounded; a private clone of its receiving end drops what has waited too
long. A bound on age and not on content: after a stall of the event loop everything that was said
meanwhile arrives at once, and a consumer that is fast must lose nothing of it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from typing import NamedTuple

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from ._frame import AudioFrame
from ._log import SessionLog

__all__ = ["FrameQueue"]

# However young it is, more sound than this is not kept: 5.8 MB a channel at 96 kHz.
MAX_CONTENT = 30.0
# Dropping replaces the head of the queue, so that it can tell what is missing: done for every
# frame it would cost 57 us each time, and more with many speakers. So a tenth goes at once.
SLACK = 0.1


class _Waiting(NamedTuple):
    since: float
    duration: float


class FrameQueue:
    """Frames on their way to a reader that may be slow, gone, or several.

    Args:
        max_age: How long a frame may wait, in seconds.
        log: The session's.
    """

    def __init__(self, max_age: float, log: SessionLog) -> None:
        self._max_age = max_age
        self._log = log
        send, receive = anyio.create_memory_object_stream[AudioFrame](math.inf)
        self._send = send
        self._own = receive.clone()
        self.rx: MemoryObjectReceiveStream[AudioFrame] = receive
        self._waiting: deque[_Waiting] = deque()
        self._content = 0.0
        self._lost: defaultdict[str | None, float] = defaultdict(float)
        self._behind = False
        self.frames_dropped = 0
        self.seconds_dropped = 0.0

    @property
    def has_reader(self) -> bool:
        return self._own.statistics().open_receive_streams > 1

    @property
    def seconds_waiting(self) -> float:
        self._forget_taken()
        return self._content

    def put(self, frame: AudioFrame) -> None:
        """Adds a frame, and drops the oldest where they have waited for too long."""
        now = time.monotonic()
        self._forget_taken()
        if not self._waiting:
            self._behind, self._content = False, 0.0
        if lost := self._lost.pop(frame.track_sid, 0.0):
            frame = attrs.evolve(frame, lost=frame.lost + lost)
        self._send.send_nowait(frame)
        self._waiting.append(_Waiting(now, frame.duration))
        self._content += frame.duration
        if now - self._waiting[0].since > self._max_age or self._content > MAX_CONTENT:
            self._drop(now)

    def close(self) -> None:
        """Ends the stream: what waits can still be read."""
        self._send.close()
        self._own.close()

    def _forget_taken(self) -> None:
        used = self._own.statistics().current_buffer_used
        while len(self._waiting) > used:
            self._content -= self._waiting.popleft().duration

    def _drop(self, now: float) -> None:
        """Drops the oldest, in one synchronous step; a buffer that is not empty has no waiter."""
        if not self._behind:
            self._behind = True
            self._log.warning("rx was not read for %.1f s, dropping the oldest", self._max_age)
        max_age, max_content = self._max_age * (1 - SLACK), MAX_CONTENT * (1 - SLACK)
        while len(self._waiting) > 1 and (
            now - self._waiting[0].since > max_age or self._content > max_content
        ):
            frame = self._own.receive_nowait()
            self._content -= self._waiting.popleft().duration
            self._lost[frame.track_sid] += frame.lost + frame.duration
            self.frames_dropped += 1
            self.seconds_dropped += frame.duration
        for frame in [self._own.receive_nowait() for _ in self._waiting]:
            lost = self._lost.pop(frame.track_sid, 0.0)
            self._send.send_nowait(attrs.evolve(frame, lost=frame.lost + lost) if lost else frame)
