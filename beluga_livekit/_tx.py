"""What stands in line to be played: frames from `SendStream`, which is tx, and turns to play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from ._frame import AudioFrame

__all__ = ["SendStream", "Turn"]


class SendStream(MemoryObjectSendStream[AudioFrame]):
    """tx: anyio's memory object stream, which refuses what is no frame and tells why it ended."""

    def __init__(self, state: Any, why: Callable[[], Exception]) -> None:
        super().__init__(state)
        self._why = why

    def send_nowait(self, item: AudioFrame) -> None:
        if not isinstance(item, AudioFrame):
            raise TypeError(
                "tx takes beluga_livekit.AudioFrame, got "
                f"{type(item).__module__}.{type(item).__qualname__}; "
                "make one of its PCM: AudioFrame(pcm, sample_rate, num_channels)"
            )
        try:
            super().send_nowait(item)
        except anyio.BrokenResourceError:
            raise self._why() from None

    async def send(self, item: AudioFrame) -> None:
        try:
            await super().send(item)
        except anyio.BrokenResourceError:
            raise self._why() from None

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._state, self._why)


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

    def __init__(self, why: Callable[[], Exception]) -> None:
        self._why = why
        self._send, self.frames = anyio.create_memory_object_stream[AudioFrame](0)
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
            await self._send.send(frame)
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
