"""Private SDK names: probed at import, hooked once per process, each with a fallback.

The SDK delivers every native event through `FfiQueue.put`, on a native thread. That thread also
runs while the event loop is blocked, stopped or closed. `install` adds two hooks:

- a permanent subscriber whose filter passes each event to `connect.py` and wants none delivered;
- a wrapper around `FfiQueue.put` that keeps the answers to our own captures from the event loop.

`SUPPORTED` is False where a release of the SDK has moved a name. Then `connect.py` waits for the
native side instead of abandoning it, and `audio_source.py` captures through the public API.
"""

import asyncio
import atexit
import inspect
import itertools
import logging
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

_log = logging.getLogger("beluga_livekit")

# Pause at interpreter exit (s). A native callback that waits for the GIL aborts the process when
# it gets it (measured: exit code 134 in 8 of 48 quick exits, in 0 of 60 with this pause). Exit
# handlers run in reverse order: registered before the SDK's own, this one runs after it.
EXIT_PAUSE = 0.1

# Request ids of our own, far above those that the native side counts up from 1.
_request_ids = itertools.count(1 << 62)
_lock = threading.Lock()
_installed_in: Any = None

event_filters: list[Callable[[Any], None]] = []
"""Called with every native event, on the native thread."""
request_hooks: list[Callable[[Any], Callable[[], None] | None]] = []
"""Called with every request before it is sent; what each returns is called after it."""
exit_hooks: list[Callable[[], None]] = []
"""Called at interpreter exit, before the native side is shut down."""
capture_answers: dict[int, Callable[[str], None]] = {}
"""By request id: called once with the error of that capture ("" is none), on the native thread."""


def next_request_id() -> int:
    return next(_request_ids)


def install() -> None:
    """Start the native side of the SDK and add the hooks, once per process."""
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
    for hook in exit_hooks:
        atexit.register(hook)
    client.request = _hooked_request(client.request)
    client.queue.subscribe(asyncio.get_running_loop(), filter_fn=_filter)
    client.queue.put = _put_others(client.queue.put)


def _hooked_request(request: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def hooked(req: Any) -> Any:
        after = [hook(req) for hook in request_hooks]
        response = request(req)
        for done in after:
            if done is not None:
                done()
        return response

    return hooked


def _put_others(put: Callable[[Any], None]) -> Callable[[Any], None]:
    def put_others(event: Any) -> None:
        if event.WhichOneof("message") == "capture_audio_frame":
            answer = capture_answers.pop(event.capture_audio_frame.async_id, None)
            if answer is not None:
                answer(event.capture_audio_frame.error)
                return
        put(event)

    return put_others


def _filter(event: Any) -> bool:
    """Pass a native event to the filters; return False, so that it is not queued here."""
    for handle in event_filters:
        try:
            handle(event)
        except Exception:  # noqa: BLE001 - the SDK swallows what its filters raise
            _log.exception("livekit: handling a native event failed")
    return False
