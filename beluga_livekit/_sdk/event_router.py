"""Private SDK names: probed at import, hooked once per process, each with a fallback.

The SDK delivers every native event through `FfiQueue.put`, on a native thread. That thread also
runs while the event loop is blocked, stopped or closed. So `connect.py` subscribes a filter that
wants no event delivered, and `audio_source.py` wraps `FfiQueue.put`.

`SUPPORTED` is False where a release of the SDK has moved a name. Then `connect.py` waits for the
native side instead of abandoning it, and `audio_source.py` captures through the public API.
"""

import atexit
import inspect
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

try:
    from livekit.rtc import AudioSource
    from livekit.rtc._ffi_client import FfiClient, FfiHandle, FfiQueue
    from livekit.rtc._proto import audio_frame_pb2, ffi_pb2, room_pb2

    SUPPORTED = (
        {"instance", "_instance", "queue", "request"} <= vars(FfiClient).keys()
        and {"put", "subscribe", "unsubscribe"} <= vars(FfiQueue).keys()
        and "dispose" in vars(FfiHandle)
        and "_ffi_handle" in AudioSource.__init__.__code__.co_names
        and "filter_fn" in inspect.signature(FfiQueue.subscribe).parameters
        and "ready_for_room_event" in ffi_pb2.FfiRequest.DESCRIPTOR.fields_by_name
        and "request_async_id" in room_pb2.ConnectRequest.DESCRIPTOR.fields_by_name
        and "request_async_id" in room_pb2.DisconnectRequest.DESCRIPTOR.fields_by_name
        and "join_retries" in room_pb2.RoomOptions.DESCRIPTOR.fields_by_name
        and "request_async_id" in audio_frame_pb2.CaptureAudioFrameRequest.DESCRIPTOR.fields_by_name
    )
except (ImportError, AttributeError):
    SUPPORTED = False
    FfiClient = FfiHandle = ffi_pb2 = None  # type: ignore[assignment, misc]

__all__ = ["SUPPORTED", "FfiClient", "FfiHandle", "ffi_pb2"]

# Pause at interpreter exit (s). A native callback that waits for the GIL aborts the process when
# it gets it (measured: exit code 134 in 8 of 48 quick exits, in 0 of 60 with this pause). Exit
# handlers run in reverse order: registered before the SDK's own, this one runs after it.
EXIT_PAUSE = 0.1

# Request ids of our own, far above those that the native side counts up from 1.
next_request_id = itertools.count(1 << 62).__next__
_lock = threading.Lock()
_installed_in: Any = None

hooks: list[Callable[[Any], None]] = []
"""Called once per process with the SDK's client, after it has started."""


def install() -> None:
    """Start the native side of the SDK and call the hooks, once per process."""
    global _installed_in  # noqa: PLW0603 - as the SDK's client is: one per process
    if not SUPPORTED:
        return
    if FfiClient._instance is None:
        atexit.register(time.sleep, EXIT_PAUSE)
    client = FfiClient.instance
    with _lock:
        if _installed_in is client:
            return
        _installed_in = client
    for hook in hooks:
        hook(client)
