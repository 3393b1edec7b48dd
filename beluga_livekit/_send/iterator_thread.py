"""`IteratorThread`: a synchronous iterable as an async iterator, run in one thread of its own."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from contextvars import copy_context
from inspect import isawaitable
from queue import SimpleQueue
from typing import Any, Self

import anyio

_log = logging.getLogger("beluga_livekit")

NAME = "beluga_livekit play source"

# Time that closing waits for a `next()` whose caller was cancelled (s): that of a fade-out. A fast
# source is then closed when `play` returns, and a slow one does not delay it.
ABANDON_AFTER = 0.02
# Time after which a thread that does not end is logged (s). A read from a network may take as long.
WARN_AFTER = 2.0

_END = object()
_Answer = tuple[Any, BaseException | None]
_Call = tuple[Callable[[], Any], asyncio.Future[_Answer]]


class IteratorThread:
    """Advances and closes an iterable in one thread, so that its code may block.

    One thread and one copy of the caller's context, because a generator may keep state in both;
    `anyio.to_thread` changes threads from call to call. Nothing is prefetched: a call takes about
    0.1 ms. The thread is a daemon: one that never returns from `next()` delays no exit.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        self._iterator: Iterator[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name=NAME, daemon=True)
        self._is_abandoned = False  # whether the thread may be in a `next()` without a caller

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._is_abandoned = True  # left so by a cancellation
        piece, error = await self._submit(self._advance)
        self._is_abandoned = False
        if error is not None:
            raise error
        if piece is _END:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close the source and end the thread, without waiting for a `next()` that blocks."""
        closing = self._submit(self._close)
        self._calls.put(None)
        timeout = ABANDON_AFTER if self._is_abandoned else math.inf
        with anyio.move_on_after(timeout) as scope:
            results, error = await closing
            for each in results or ():
                await each
            if error is not None:
                raise error
        if scope.cancelled_caught:
            self._loop.call_later(WARN_AFTER, self._warn_if_alive)

    def _submit(self, function: Callable[[], Any]) -> asyncio.Future[_Answer]:
        """Queue a call; return the future of its result and its error."""
        if self._thread.ident is None:
            self._thread.start()
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        self._calls.put((function, answer))
        return answer

    def _warn_if_alive(self) -> None:
        if self._thread.is_alive():
            message = "livekit: closing play source %s failed: its `next()` has not returned; %s"
            _log.warning(message, type(self._source).__name__, "its thread is kept until then")

    # In the thread.

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, answer = call
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:  # noqa: BLE001 - raised where the caller is
                error = raised
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(_resolve, answer, (result, error))
            del call, function, answer, result, error  # kept by no thread that waits

    def _advance(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._source)
        return next(self._iterator, _END)

    def _close(self) -> list[Any]:
        """Close the iterator, and the source if it is another object; return what is to await."""
        results: list[Any] = []

        def call(close: Callable[[], Any]) -> None:
            results.append(close())

        with ExitStack() as stack:
            for each in {id(each): each for each in (self._source, self._iterator)}.values():
                close = getattr(each, "aclose", None) or getattr(each, "close", None)
                if close is not None:
                    stack.callback(call, close)
        return [each for each in results if isawaitable(each)]


def _resolve(answer: asyncio.Future[_Answer], result: _Answer) -> None:
    if not answer.done():
        answer.set_result(result)
    elif result[1] is not None:
        _log.warning("livekit: a play source failed after its play had ended", exc_info=result[1])
