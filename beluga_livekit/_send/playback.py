"""Items of the send queue: `QueuedFrame` (tx) and `Playback` (one `play()`)."""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import anyio
import attrs

from .._playout import Playout
from ..audio.format import WIRE_RATE
from ..audio.frame import AudioFrame
from .interrupt import Epoch


class QueuedFrame(NamedTuple):
    """A frame of tx, and the epoch in which its send began."""

    frame: AudioFrame
    epoch: Epoch


class PlaybackState(Enum):
    """State of a playback."""

    QUEUED = auto()  # the pump has yet to receive it from the send queue
    PLAYING = auto()  # the pump takes its frames
    DRAINING = auto()  # the pump has taken all frames; the paced source plays the rest
    DONE = auto()  # it has an outcome


@attrs.frozen
class Outcome:
    """How a playback ended.

    Attributes:
        played: Seconds of its source that were played; None if the session closed before its end.
        interrupted: Whether an interrupt ended it.
    """

    played: float | None
    interrupted: bool = False


class Playback:
    """One `play()`: its frames, its state, and its position in the audio.

    Args:
        closed_error: Makes the exception for a playback that the end of the session cuts off.

    Attributes:
        frames: Receiving end of its frames, for the pump.
        caller: Scope of the task that plays; cancelled when the playback ends early.
        pumping: Scope of the pump's work on it.
        released: Set when the pump has done with it.
        start: Position of its first sample, once PLAYING.
        end: Position behind its last sample, once the pump has taken all frames.
        given: Seconds that its source has given.
        is_exhausted: Whether that is all.
    """

    def __init__(self, closed_error: Callable[[], Exception]) -> None:
        self._closed_error = closed_error
        self._send, self.frames = anyio.create_memory_object_stream[AudioFrame](0)
        self.caller = anyio.CancelScope()
        self.pumping = anyio.CancelScope()
        self.released = anyio.Event()
        self.state = PlaybackState.QUEUED
        self.start: int | None = None
        self.end: int | None = None
        self.given = 0.0
        self.is_exhausted = False
        self._outcome: Outcome | None = None

    async def send(self, frame: AudioFrame) -> None:
        """Give a frame to the pump; return when the pump takes it."""
        self.given += frame.duration
        try:
            await self._send.send(frame)
        except anyio.BrokenResourceError:
            raise self._closed_error() from None

    def finish(self) -> None:
        """Mark the source as exhausted."""
        self.is_exhausted = True
        self._send.close()

    def begin(self, position: int) -> None:
        """Enter PLAYING: the pump takes frames, of which the first is at this position."""
        self.state, self.start = PlaybackState.PLAYING, position

    def drain(self, position: int) -> None:
        """Enter DRAINING: the pump has taken all frames, up to this position."""
        self.end = position
        if self.state is not PlaybackState.DONE:  # as it is if the session was left meanwhile
            self.state = PlaybackState.DRAINING
        self.released.set()

    def complete(self, outcome: Outcome) -> None:
        """Enter DONE; the first outcome stays."""
        if self._outcome is None:
            self.state, self._outcome = PlaybackState.DONE, outcome

    def interrupt(self, position: int) -> None:
        """End the playback: the audio was cut off at this position."""
        played = 0.0
        if self.start is not None:
            end = position if self.end is None else min(self.end, position)
            played = min(max(0.0, (end - self.start) / WIRE_RATE), self.given)
        self.complete(Outcome(played, interrupted=True))
        self.released.set()
        self.caller.cancel()

    def close_input(self) -> None:
        """Close the frame stream. End the playback unless its source is exhausted."""
        self.frames.close()
        if not self.is_exhausted:
            self.complete(Outcome(None))
            self.caller.cancel()

    def close(self) -> None:
        """Release the frame stream."""
        self._send.close()
        self.frames.close()

    def result(self) -> Playout:
        """Return the playout of a playback that is DONE, or raise `closed_error`."""
        if self._outcome is None or (played := self._outcome.played) is None:
            raise self._closed_error()
        return Playout(played, self.given - played, interrupted=self._outcome.interrupted)

    def shift(self, after: int, samples: int) -> None:
        """Move its positions at or behind `after`: the audio there has moved."""
        if self.start is not None and self.start >= after:
            self.start += samples
        if self.end is not None and self.end >= after:
            self.end += samples

    def clip(self, position: int) -> None:
        """Limit its positions: the audio behind this position was discarded."""
        if self.start is not None:
            self.start = min(self.start, position)
        if self.end is not None:
            self.end = min(self.end, position)
