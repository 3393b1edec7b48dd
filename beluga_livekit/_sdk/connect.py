"""`connect`: `Room.connect` that can be cancelled.

The SDK cannot cancel a connect: the native side goes on, and terminates the process if the result
is not answered within 15 s (livekit 1.1 to 1.2). Here the native thread answers every result at
once, through a filter of `event_router.py`. If the attempt was abandoned, or its event loop is
closed, it leaves the room again on the spot.

The life of an attempt: sent -> connected -> done; or sent -> abandoned -> connected -> leaving ->
settled. `settled` is done when nothing of the attempt is in the room any more.
"""

import asyncio
import atexit
import contextlib
import contextvars
import logging
import threading
from collections.abc import Hashable
from concurrent.futures import Future, wait
from typing import Any

import anyio
from livekit import rtc

from . import event_router
from .event_router import FfiClient, FfiHandle, ffi_pb2

_log = logging.getLogger("beluga_livekit")

# Timeout for a cancelled connect without the private names (s). The SDK's watchdog fires after
# 15 s, and the SDK gives up on a server that never answers after 32 s.
FALLBACK_TIMEOUT = 40.0
# Timeout at interpreter exit for abandoned attempts (s): time to land and to leave again. What an
# attempt leaves behind stays in the room for 20 s.
EXIT_TIMEOUT = 1.0


class _Attempt:
    """A call of `Room.connect`."""

    def __init__(self, slot: Hashable, loop: asyncio.AbstractEventLoop) -> None:
        self.id = event_router.next_request_id()
        self.slot = slot
        self.loop = loop
        self.sent = False
        self.abandoned = False
        self.result: Any = None
        self.settled: Future[None] = Future()


_current: contextvars.ContextVar[_Attempt | None] = contextvars.ContextVar("_current", default=None)
_lock = threading.Lock()
_attempts: dict[int, _Attempt] = {}  # until connected or settled, by the id of their requests
_abandoned: dict[Hashable, _Attempt] = {}  # the last one of each slot


async def connect(
    room: rtc.Room, url: str, token: str, options: rtc.RoomOptions, slot: Hashable
) -> None:
    """Call `Room.connect`; when cancelled, return at once and leave no participant behind.

    `slot` is server, room and identity. An abandoned attempt with the same slot settles first: the
    server removes the older of two participants with one identity.
    """
    if not event_router.SUPPORTED:
        await _connect_and_wait(room, url, token, options)
        return
    event_router.install()
    while (earlier := _abandoned.get(slot)) is not None:
        await asyncio.shield(asyncio.wrap_future(earlier.settled))
    attempt = _Attempt(slot, asyncio.get_running_loop())
    with _lock:
        _attempts[attempt.id] = attempt
    reset = _current.set(attempt)
    try:
        await room.connect(url, token, options)
    except BaseException:
        if not room.isconnected():
            _abandon(attempt)
            if (queue := getattr(room, "_ffi_queue", None)) is not None:
                FfiClient.instance.queue.unsubscribe(queue)  # livekit 1.1 leaves it subscribed
        raise
    finally:
        _current.reset(reset)
    with _lock:
        _attempts.pop(attempt.id, None)


def _install(client: Any) -> None:
    send = client.request

    def send_tagged(request: Any) -> Any:
        attempt = _current.get()
        if attempt is None or request.WhichOneof("message") != "connect":
            return send(request)
        # For this request only: the room's own task is about to inherit the context, and so would
        # whatever a user's handler starts in it.
        _current.set(None)
        request.connect.request_async_id = attempt.id
        # The SDK's own three retries stretch a server that never answers to four times the timeout.
        request.connect.options.join_retries = 0
        response = send(request)
        attempt.sent = True
        return response

    atexit.register(_settle_all)
    client.request = send_tagged
    client.queue.subscribe(asyncio.get_running_loop(), filter_fn=_handle_event)


event_router.hooks.append(_install)


def _handle_event(event: Any) -> bool:
    """Handle a native event, on the native thread; return False, so that it is not delivered."""
    try:
        kind = event.WhichOneof("message")
        if kind == "connect":
            _handle_result(event.connect)
        elif kind == "disconnect" and event.disconnect.async_id in _attempts:
            attempt = _attempts[event.disconnect.async_id]
            _drop_handles(attempt.result)
            _settle(attempt)
    except Exception:  # noqa: BLE001 - the SDK swallows what its filters raise
        _log.exception("livekit: handling a native event failed")
    return False


def _handle_result(callback: Any) -> None:
    with _lock:
        attempt = _attempts.get(callback.async_id)
        if attempt is None:
            return
        if callback.error:
            _settle(attempt)
            return
        attempt.result = callback.result
        abandoned = attempt.abandoned = attempt.abandoned or attempt.loop.is_closed()
    # No event is lost: the room's own queue has been subscribed since before the request.
    ready = ffi_pb2.FfiRequest()
    ready.ready_for_room_event.room_handle = callback.result.room.handle.id
    FfiClient.instance.request(ready)
    if abandoned:
        _leave(attempt)


def _abandon(attempt: _Attempt) -> None:
    """Leave the room of an attempt: now if it has connected, else when it does."""
    with _lock:
        if attempt.id not in _attempts or attempt.abandoned:
            return  # it has failed, or is leaving
        if not attempt.sent:
            del _attempts[attempt.id]
            return
        attempt.abandoned = True
        _abandoned[attempt.slot] = attempt
        if attempt.result is None:
            return
    _leave(attempt)


def _leave(attempt: _Attempt) -> None:
    request = ffi_pb2.FfiRequest()
    request.disconnect.room_handle = attempt.result.room.handle.id
    request.disconnect.request_async_id = attempt.id
    FfiClient.instance.request(request)


def _settle(attempt: _Attempt) -> None:
    _attempts.pop(attempt.id, None)
    if _abandoned.get(attempt.slot) is attempt:
        del _abandoned[attempt.slot]
    attempt.settled.set_result(None)


def _drop_handles(result: Any) -> None:
    FfiHandle(result.room.handle.id).dispose()
    FfiHandle(result.local_participant.handle.id).dispose()
    for entry in result.participants:
        FfiHandle(entry.participant.handle.id).dispose()
        for publication in entry.publications:
            FfiHandle(publication.handle.id).dispose()


def _settle_all() -> None:
    """Abandon all attempts at interpreter exit, and wait for them."""
    with _lock:
        pending = list(_attempts.values())
    for attempt in pending:
        _abandon(attempt)
    wait([attempt.settled for attempt in pending if attempt.sent], EXIT_TIMEOUT)


async def _connect_and_wait(room: rtc.Room, url: str, token: str, options: rtc.RoomOptions) -> None:
    task = asyncio.create_task(room.connect(url, token, options))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        _log.warning("livekit: cancelling a connect failed: unknown SDK release; waiting for it")
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await asyncio.wait({task}, timeout=FALLBACK_TIMEOUT)
            with anyio.move_on_after(FALLBACK_TIMEOUT):
                await room.disconnect()
        raise
