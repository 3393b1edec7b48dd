"""Count what a session leaves behind. The only helpers that read a session's private state."""

from __future__ import annotations

import asyncio
import gc

from livekit.rtc._ffi_client import FfiClient

from beluga_livekit import LiveKitSession


def own_tasks() -> set[str]:
    """Return the names of the package's tasks in this event loop."""
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if "beluga" in name}


async def assert_no_own_tasks() -> None:
    """Check that no task of the package is left; collect garbage, which warns of open streams."""
    assert not own_tasks()
    gc.collect()


def native_event_subscribers() -> int:
    """Return how many subscribers the SDK's native events have in this process."""
    client = FfiClient._instance
    return 0 if client is None else len(client.queue._subscribers)


def count_pipelines(session: LiveKitSession) -> int:
    """Return how many receive pipelines a session holds."""
    return len(session._runner.readers._pipelines)


def count_track_readers(session: LiveKitSession) -> int:
    """Return how many tracks a session reads."""
    return len(session._runner.readers._readers)
