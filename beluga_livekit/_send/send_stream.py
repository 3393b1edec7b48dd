"""`SendStream`, which is tx, and the queue between tx and the pump."""

from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Self

import anyio
import numpy as np
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..audio.frame import AudioFrame
from .interrupt import Epoch
from .playback import Playback, QueuedFrame, raising


class SendStream(MemoryObjectSendStream[AudioFrame]):
    """tx: a memory object stream that checks its frames and raises why the session ended.

    A frame belongs to the epoch in which its send began, also if it reaches the queue later.
    """

    def __init__(self, queue: "SendQueue") -> None:
        super().__init__(queue.state)
        self._queue = queue

    def send_nowait(self, item: AudioFrame | QueuedFrame) -> None:
        # anyio's `send` calls this with the item that it was given.
        queued: Any = item if isinstance(item, QueuedFrame) else self._queued(item)
        with raising(self._queue.closed_error):
            super().send_nowait(queued)

    async def send(self, item: AudioFrame) -> None:
        queued: Any = self._queued(item)
        with raising(self._queue.closed_error):
            await super().send(queued)

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._queue)

    def _queued(self, item: AudioFrame) -> QueuedFrame:
        if not isinstance(item, AudioFrame):
            raise TypeError(_type_error(item))
        self._queue.check_accepts()
        return QueuedFrame(item, self._queue.epoch())


def _type_error(item: object) -> str:
    got = f"{type(item).__module__}.{type(item).__qualname__}"
    remedy = "send AudioFrames"
    if isinstance(item, bytes | bytearray | memoryview):
        remedy = "make one of its PCM: AudioFrame(pcm, sample_rate, num_channels)"
    elif isinstance(item, np.ndarray):
        remedy = "make one of its samples: AudioFrame.from_samples(samples, sample_rate)"
    elif got.startswith("livekit.rtc") and got.endswith(".AudioFrame"):
        remedy = "convert it: AudioFrame.from_rtc(frame)"
    elif isawaitable(item):
        remedy = "await it"
    elif isinstance(item, Iterable | AsyncIterable):
        remedy = "send its frames one by one, or pass it to session.play(frames)"
    return f"tx takes beluga_livekit.AudioFrame, got {got}; {remedy}"


class SendQueue:
    """The queue of tx frames and playbacks, in FIFO order.

    The queue holds no items: a send or `enqueue` returns when the pump receives its item. It ends
    when tx and its clones are closed; playbacks never keep it open.
    """

    items: MemoryObjectReceiveStream[QueuedFrame | Playback]

    def __init__(self, closed_error: Callable[[], Exception], epoch: Callable[[], Epoch]) -> None:
        self.closed_error = closed_error
        self.epoch = epoch  # returns the current one
        end, self.items = anyio.create_memory_object_stream[QueuedFrame | Playback](0)
        self.state: Any = end._state  # noqa: SLF001 - the only way to make a subclass's end
        self.tx: SendStream = SendStream(self)
        self.is_refusing = False  # whether sends fail at once although the session is open
        end.close()

    @property
    def is_ended(self) -> bool:
        return self.items.statistics().open_send_streams == 0

    def check_accepts(self) -> None:
        """Raise `closed_error` while sends are refused."""
        if self.is_refusing:
            raise self.closed_error()

    async def enqueue(self, playback: Playback) -> None:
        """Queue a playback; return when the pump receives it."""
        self.check_accepts()
        if self.is_ended:
            raise anyio.ClosedResourceError("livekit: tx is closed")
        with MemoryObjectSendStream[Any](self.state) as end, raising(self.closed_error):
            await end.send(playback)

    def discard(self) -> None:
        """Drop the items of the tasks that wait; their sends return."""
        with suppress(anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            while True:
                self.items.receive_nowait()

    def close(self) -> None:
        self.items.close()
