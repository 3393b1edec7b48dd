"""What stands in line to be played: frames from `SendStream`, which is tx, and turns to play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from ..audio.frame import AudioFrame
from .playback import QueuedFrame

__all__ = ["SendStream"]


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

    def send_nowait(self, item: AudioFrame | QueuedFrame) -> None:
        sent: Any = item if isinstance(item, QueuedFrame) else self._checked(item)
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

    def _checked(self, item: AudioFrame) -> QueuedFrame:
        if not isinstance(item, AudioFrame):
            raise TypeError(
                "tx takes beluga_livekit.AudioFrame, got "
                f"{type(item).__module__}.{type(item).__qualname__}; "
                "make one of its PCM: AudioFrame(pcm, sample_rate, num_channels)"
            )
        return QueuedFrame(item, self._interrupts())
