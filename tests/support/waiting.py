"""Wait for a condition, for a quiet machine, or until every task is blocked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

# Limit for anything a test waits for (s): far more than it needs, so that a slow machine passes.
DEADLINE = 30.0
# Pause between two checks of a condition (s): a block of audio.
POLL = 0.01


async def wait_for(
    condition: Callable[[], object], within: float = DEADLINE, *, poll: float = POLL
) -> None:
    """Wait until a condition is true; it may be asynchronous."""
    with anyio.fail_after(within):
        while not await _value_of(condition):
            await anyio.sleep(poll)


async def stays_false(condition: Callable[[], object], seconds: float) -> bool:
    """Return whether a condition is false for this long (s)."""
    try:
        await wait_for(condition, seconds)
    except TimeoutError:
        return True
    return False


async def _value_of(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if isinstance(value, Awaitable) else value


async def wait_until_idle() -> None:
    """Wait until the event loop runs on time again.

    Each join keeps two cores busy for 0.25 s. Several at once delay the event loop by up to 60 ms,
    which is audible and not what a test of audio is about.
    """
    on_time = 0
    with anyio.fail_after(DEADLINE):
        while on_time < 100:
            start = time.monotonic()
            await anyio.sleep(0.005)
            on_time = on_time + 1 if time.monotonic() - start < 0.015 else 0


async def run_until_blocked() -> None:
    """Let all other tasks run until each waits.

    `anyio.wait_all_tasks_blocked` pauses for 0.1 s between two looks, in which audio plays on.
    """
    this = asyncio.current_task()
    blocked = False
    while not blocked:
        await anyio.lowlevel.checkpoint()
        others = asyncio.all_tasks() - {this}
        waiters = [task._fut_waiter for task in others]  # type: ignore[attr-defined]
        blocked = all(waiter is not None and not waiter.done() for waiter in waiters)
