"""Cancel a coroutine at its n-th checkpoint, for every n that it has."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio


@types.coroutine
def _drive(
    coroutine: Coroutine[Any, Any, Any], on_wait: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Run a coroutine step by step, and call `on_wait` before each of its waits."""
    advance: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            waits_for = advance(value)
        except StopIteration:
            return
        on_wait()
        try:
            value = yield waits_for
            advance = coroutine.send
        except BaseException as error:  # noqa: BLE001 - thrown into the coroutine unchanged
            advance, value = coroutine.throw, error


async def cancel_at_every_checkpoint(
    run: Callable[[], Coroutine[Any, Any, None]],
    check: Callable[[], Awaitable[None]],
    *,
    step: int = 1,
) -> int:
    """Run `run` repeatedly, cancelled at its first, second, ... wait; call `check` each time.

    Returns:
        How many waits a complete run has.
    """
    at = 1
    while True:
        countdown = _Countdown(at)
        with countdown.scope:
            await _drive(run(), countdown)
        await check()
        if countdown.waits < at:
            return countdown.waits
        at += step


class _Countdown:
    """Cancels its scope at the n-th call."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.waits = 0
        self.scope = anyio.CancelScope()

    def __call__(self) -> None:
        self.waits += 1
        if self.waits == self._at:
            self.scope.cancel()
