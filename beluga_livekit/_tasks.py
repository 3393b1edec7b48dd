"""Waiting for tasks, changes and timers, whatever is cancelled meanwhile."""

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

import anyio

# anyio imports its backend at the first use, and would block the event loop for 0.1 s.
importlib.import_module("anyio._backends._asyncio")

T = TypeVar("T")


async def join(task: asyncio.Task[Any]) -> None:
    """Wait for a task that is bounded by itself; raise a cancellation meanwhile afterwards."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:  # asyncio's own, which no scope shields
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def complete(coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """Await a coroutine that is bounded by itself, in a task that is joined as by `join`."""
    task = asyncio.create_task(coroutine, name=f"beluga_livekit {name}")
    try:
        await join(task)
    except asyncio.CancelledError:
        task.exception()  # retrieved, so that asyncio does not log it
        raise
    return task.result()


class ChangeSignal:
    """Wakes all waiting tasks at each change; state is compared, so changes may coalesce."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


class GraceTimers:
    """At most one timer for each key."""

    def __init__(self) -> None:
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._timers

    def start(self, key: Hashable, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` once after this time; replace the key's earlier timer."""

        def expire() -> None:
            del self._timers[key]
            action()

        self.cancel(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, expire)

    def cancel(self, key: Hashable) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()

    def cancel_all(self) -> None:
        for key in list(self._timers):
            self.cancel(key)
