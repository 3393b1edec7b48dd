"""Waiting for what must come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["complete", "join"]

T = TypeVar("T")


async def join(task: asyncio.Task[Any]) -> None:
    """Waits for a task that is bounded by itself, whatever is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: Afterwards, if somebody has cancelled the waiting.
    """
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
    """Awaits a coroutine that is bounded by itself, in a task that nobody else can cancel.

    Raises:
        asyncio.CancelledError: Afterwards, if somebody has cancelled the waiting.
    """
    task = asyncio.create_task(coroutine, name=f"beluga_livekit {name}")
    try:
        await join(task)
    except asyncio.CancelledError:
        task.exception()  # has been looked at
        raise
    return task.result()
