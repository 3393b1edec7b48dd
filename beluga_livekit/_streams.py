"""`LossyStream`: a memory object stream whose writer never waits."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")


class LossyReceiveStream(MemoryObjectReceiveStream[T]):
    """The reader's end of a `LossyStream`.

    If it is garbage-collected while it is open, it warns, as anyio's streams do, and closes
    itself. Otherwise it would still count as a reader, and its stream would be filled for ever.
    """

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._state)

    def __del__(self) -> None:
        super().__del__()
        self.close()


class LossyStream(Generic[T]):
    """An unbounded memory object stream; subclasses bound it by rewriting what is unread."""

    rx: LossyReceiveStream[T]  # the reader's end, which the reader may clone

    def __init__(self) -> None:
        self._send, self._own = anyio.create_memory_object_stream[T](math.inf)
        self.rx = self._open_rx(self._own._state)  # noqa: SLF001 - as a subclass's end needs it

    def disown_rx(self) -> None:
        """Keep no reference to `rx`, so that it is collected if its user forgets it."""
        del self.rx

    @property
    def has_reader(self) -> bool:
        """Whether `rx` or a clone of it is open."""
        return self._own.statistics().open_receive_streams > 1

    @property
    def unread(self) -> int:
        return self._own.statistics().current_buffer_used

    def put(self, item: T) -> None:
        self._send.send_nowait(item)

    def rewrite(self, function: Callable[[list[T]], Iterable[T]]) -> None:
        """Replace the unread items with those that `function` returns for them.

        The block from the first item taken out to the last one put back contains no await. If a
        reader could run in it, that reader would receive a later item before earlier ones. A reader
        that waits already would do the same. There is none: anyio hands items to waiting readers
        first, so only an empty buffer has any.
        """
        statistics = self._own.statistics()
        assert not (statistics.current_buffer_used and statistics.tasks_waiting_receive)  # noqa: S101
        unread = [self._own.receive_nowait() for _ in range(statistics.current_buffer_used)]
        for item in function(unread):
            self._send.send_nowait(item)

    def close(self) -> None:
        """End the stream: unread items can still be read."""
        self._send.close()
        self._own.close()

    def _open_rx(self, state: Any) -> LossyReceiveStream[T]:
        return LossyReceiveStream(state)
