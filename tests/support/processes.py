"""Processes that end with their block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import Process


@asynccontextmanager
async def run_process(command: Sequence[str], **options: Any) -> AsyncIterator[Process]:
    """Run a process; kill it if it still runs on exit. anyio alone would wait for it, for ever."""
    async with await anyio.open_process(command, **options) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
