"""Items of the send queue: `QueuedFrame` (tx) and `Playback` (one `play()`), and its state."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum, auto
from typing import NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from .._playout import Playout
from ..audio.format import WIRE_RATE
from ..audio.frame import AudioFrame
from .interrupt import Epoch
from .muted_audio import MutedAudio


@contextmanager
def raising(closed_error: Callable[[], Exception]) -> Generator[None]:
    """Raise `closed_error`, which says why the session ended, where the queue is closed."""
    try:
        yield
    except anyio.BrokenResourceError:
        raise closed_error() from None


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


class Playback:
    """A `play()` call: its frames, its state, and its position in the audio."""

    frames: MemoryObjectReceiveStream[AudioFrame]

    def __init__(self, closed_error: Callable[[], Exception]) -> None:
        self._closed_error = closed_error  # for a playback that the end of the session cuts off
        self._send, self.frames = anyio.create_memory_object_stream[AudioFrame](0)
        self.caller: anyio.CancelScope = anyio.CancelScope()  # of `play`; an early end cancels it
        self.pumping: anyio.CancelScope = anyio.CancelScope()  # of the pump's work on it
        self.released: anyio.Event = anyio.Event()  # set when the pump has done with it
        self.state: PlaybackState = PlaybackState.QUEUED
        self.start: int | None = None  # position of its first sample, once PLAYING
        self.end: int | None = None  # behind its last one, once the pump has taken all frames
        self.given: float = 0.0  # seconds that its source has given
        self.is_exhausted: bool = False  # whether that is all
        # Seconds played, and whether by an interrupt; None if the session closed before its end.
        self._outcome: tuple[float, bool] | None = None

    async def send(self, frame: AudioFrame) -> None:
        """Give a frame to the pump; return when the pump takes it."""
        self.given += frame.duration
        with raising(self._closed_error):
            await self._send.send(frame)

    def finish(self) -> None:
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

    def complete(self, played: float | None, *, interrupted: bool = False) -> None:
        """Enter DONE with the seconds played, None if the session closed; the first call counts."""
        if self.state is not PlaybackState.DONE:
            self.state = PlaybackState.DONE
            self._outcome = None if played is None else (played, interrupted)

    def interrupt(self, position: int) -> None:
        """End the playback: the audio was cut off at this position."""
        played = 0.0
        if self.start is not None:
            end = position if self.end is None else min(self.end, position)
            played = min(max(0.0, (end - self.start) / WIRE_RATE), self.given)
        self.complete(played, interrupted=True)
        self.released.set()
        self.caller.cancel()

    def close_input(self) -> None:
        """Close the frame stream. End the playback unless its source is exhausted."""
        self.frames.close()
        if not self.is_exhausted:
            self.complete(None)
            self.caller.cancel()

    def close(self) -> None:
        self._send.close()
        self.frames.close()

    def result(self, muted_audio: MutedAudio) -> Playout:
        """Return the playout of a playback that is DONE, or raise `closed_error`."""
        if self._outcome is None:
            raise self._closed_error()
        taken, interrupted = self._outcome
        start = self.start or 0
        muted = min(taken, muted_audio.seconds(start, start + round(taken * WIRE_RATE)))
        return Playout(taken - muted, muted, self.given - taken, interrupted=interrupted)

    def shift(self, after: int, samples: int) -> None:
        """Move its positions at or behind `after`: the audio there has moved."""
        self._map_positions(lambda position: position + samples if position >= after else position)

    def clip(self, position: int) -> None:
        """Limit its positions: the audio behind this position was discarded."""
        self._map_positions(lambda own: min(own, position))

    def _map_positions(self, function: Callable[[int], int]) -> None:
        self.start = None if self.start is None else function(self.start)
        self.end = None if self.end is None else function(self.end)
