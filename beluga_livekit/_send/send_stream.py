"""What stands in line to be played: frames from `SendStream`, which is tx, and turns to play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from ..audio.frame import AudioFrame

__all__ = ["SendStream", "Sent", "Turn"]


class Sent(NamedTuple):
    """A frame, and how many interrupts there had been when it was sent."""

    frame: AudioFrame
    interrupts: int


class SendStream(MemoryObjectSendStream[AudioFrame]):
    """tx: anyio's memory object stream, which refuses what is no frame and tells why it ended.

    Args:
        state: Of the stream whose end this is.
        why: Returns what a send to an ended session raises.
        interrupts: Returns how many there have been: a send that began before the last one, and
            comes to its place in the line after it, brings a frame that is not to be played.
    """

    def __init__(
        self, state: Any, why: Callable[[], Exception], interrupts: Callable[[], int]
    ) -> None:
        super().__init__(state)
        self._why = why
        self._interrupts = interrupts

    def send_nowait(self, item: AudioFrame | Sent) -> None:
        sent: Any = item if isinstance(item, Sent) else self._checked(item)
        try:
            super().send_nowait(sent)
        except anyio.BrokenResourceError:
            raise self._why() from None

    async def send(self, item: AudioFrame) -> None:
        sent: Any = self._checked(item)
        try:
            await super().send(sent)
        except anyio.BrokenResourceError:
            raise self._why() from None

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._state, self._why, self._interrupts)

    def _checked(self, item: AudioFrame) -> Sent:
        if not isinstance(item, AudioFrame):
            raise TypeError(
                "tx takes beluga_livekit.AudioFrame, got "
                f"{type(item).__module__}.{type(item).__qualname__}; "
                "make one of its PCM: AudioFrame(pcm, sample_rate, num_channels)"
            )
        return Sent(item, self._interrupts())


class Turn:
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
        self._send, self.frames = anyio.create_memory_object_stream[Sent | Turn](0)
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
            await self._send.send(Sent(frame, self._interrupts))
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
