"""Items of the send queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import anyio

from ..audio.frame import AudioFrame

__all__ = ["Playback", "QueuedFrame"]


class QueuedFrame(NamedTuple):
    """A frame, and how many interrupts there had been when it was sent."""

    frame: AudioFrame
    interrupts: int


class Playback:
    """A play's place in the line, its frames, and where in the sound it stands.

    Attributes:
        frames: What the pump takes them from.
        waiting: The scope of whoever plays.
        playing: The scope of the pump's work on it.
        start: Its position in the sound, once its turn has come.
        end: The position of its end, once all of it has been taken.
        over: Set when the pump has done with it.
        given: Seconds that its source has given.
        complete: Whether that is all.
        interrupted_at: The position at which it was interrupted.
    """

    def __init__(self, why: Callable[[], Exception], interrupts: int) -> None:
        self._why = why
        self._interrupts = interrupts
        self._send, self.frames = anyio.create_memory_object_stream[QueuedFrame | Playback](0)
        self.waiting = anyio.CancelScope()
        self.playing = anyio.CancelScope()
        self.start: int | None = None
        self.end: int | None = None
        self.over = anyio.Event()
        self.given = 0.0
        self.complete = False
        self.interrupted_at: int | None = None

    async def send(self, frame: AudioFrame) -> None:
        self.given += frame.duration
        try:
            await self._send.send(QueuedFrame(frame, self._interrupts))
        except anyio.BrokenResourceError:
            raise self._why() from None

    def finish(self) -> None:
        """There are no more frames."""
        self.complete = True
        self._send.close()

    def refuse(self) -> None:
        """Takes no more frames, and ends the play unless it has given them all."""
        self.frames.close()
        if not self.complete:
            self.waiting.cancel()

    def interrupt(self, position: int) -> None:
        """Ends the play: this far had the sound come."""
        if self.interrupted_at is None:
            self.interrupted_at = position
        self.over.set()
        self.waiting.cancel()

    def close(self) -> None:
        self._send.close()
        self.frames.close()

    def shift(self, after: int, samples: int) -> None:
        """What comes after a position has moved."""
        if self.start is not None and self.start >= after:
            self.start += samples
        if self.end is not None and self.end >= after:
            self.end += samples
