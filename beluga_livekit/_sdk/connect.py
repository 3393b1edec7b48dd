"""The SDK's private parts that we lean on: a cancellable connect, quiet captures, a quiet exit.

`Room.connect` cannot be cancelled: the native side goes on, and if nobody answers its result
within 15 s it terminates the process (livekit 1.1 to 1.2). So one permanent subscriber listens to
the native events. Its filter runs on the native thread, also while the event loop is blocked,
stopped or closed, and answers every result of a connect at once; a room whose joiner has given up
is left again on the spot.

`AudioSource.capture_frame` wakes the event loop twice for each frame, to tell its caller and each
room that the frame has arrived: of all that a relay takes, 8 % (10.3 against 9.4 % of a core,
medians of three runs each). Here the answer is noted on the native thread, and looked at when the
next frame comes.

All of it hangs on private names, which are looked up here and nowhere else. Where a release of
the SDK has moved them, `connect` waits for the native side instead of leaving it alone, and
captures are the SDK's.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import inspect
import itertools
import logging
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future, wait
from typing import Any

import anyio
import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from .._errors import LiveKitError

try:
    from livekit.rtc._ffi_client import FfiClient, FfiHandle, FfiQueue
    from livekit.rtc._proto import audio_frame_pb2, ffi_pb2, room_pb2

    _SUPPORTED = (
        {"instance", "_instance"} <= vars(FfiClient).keys()
        and "put" in vars(FfiQueue)
        and "filter_fn" in inspect.signature(FfiQueue.subscribe).parameters
        and "ready_for_room_event" in ffi_pb2.FfiRequest.DESCRIPTOR.fields_by_name
        and "request_async_id" in room_pb2.ConnectRequest.DESCRIPTOR.fields_by_name
        and "request_async_id" in room_pb2.DisconnectRequest.DESCRIPTOR.fields_by_name
        and "join_retries" in room_pb2.RoomOptions.DESCRIPTOR.fields_by_name
        and "request_async_id" in audio_frame_pb2.CaptureAudioFrameRequest.DESCRIPTOR.fields_by_name
        and callable(FfiClient.request)
    )
except (ImportError, AttributeError):  # pragma: no cover - a release that we have not seen yet
    _SUPPORTED = False

__all__ = ["Source", "connect", "install"]

_log = logging.getLogger("beluga_livekit")

# How long a cancelled connect may hold its caller up where the private names are gone: the SDK's
# watchdog fires after 15 s, and a black hole takes it 32 s to give up on.
FALLBACK_WAIT = 40.0

# What is captured arrives within 2 ms, and waits for a tick of 10 ms at most if there is no room;
# longer means a dead source.
CAPTURE_TIMEOUT = 5.0

# At exit a native callback may still be waiting for the interpreter, and aborts the process when
# it gets it (exit code 134 in 8 of 48 quick exits, in 0 of 60 with this pause). Exit handlers run
# in reverse order, so this one, registered before the SDK's own, runs after it.
EXIT_PAUSE = 0.1
# Before that, connects that nobody waits for any more get this long to land and leave again: what
# they would leave in the room stays there for 20 s.
EXIT_DRAIN = 1.0

# Ids of our own requests: far above the ones that the native side counts up from 1.
_ids = itertools.count(1 << 62)


class _Attempt:
    """One call of `Room.connect`."""

    def __init__(self, place: Hashable, loop: asyncio.AbstractEventLoop) -> None:
        self.id = next(_ids)
        self.place = place
        self.loop = loop
        self.sent = False
        self.abandoned = False
        self.result: Any = None
        self.settled: Future[None] = Future()  # done when nothing of it is in the room any more


_attempt: contextvars.ContextVar[_Attempt | None] = contextvars.ContextVar("_attempt", default=None)
_lock = threading.Lock()
_attempts: dict[int, _Attempt] = {}
_abandoned: dict[Hashable, _Attempt] = {}  # the last one for each place
_leaving: dict[int, _Attempt] = {}
_captures: dict[int, Source] = {}  # that have not been answered
_installed_in: Any = None


class Source:
    """The SDK's audio source, and the captures into its queue.

    Args:
        sample_rate: In Hz.
        num_channels: 1 or 2.
        queue_ms: The size of its queue: a multiple of 10, as any other aborts the process.
    """

    def __init__(self, sample_rate: int, num_channels: int, queue_ms: int) -> None:
        install()
        self.rtc = rtc.AudioSource(sample_rate, num_channels, queue_ms)
        self._unanswered: dict[int, NDArray[np.int16]] = {}
        self._error = ""
        self.answered_at = 0.0
        """When the last capture was answered, in seconds of `time.perf_counter()`."""

    async def capture(self, samples: NDArray[np.int16]) -> None:
        """Queues sound, after what was queued before; returns before it has arrived.

        Args:
            samples: Shape (n,), or (n, 2).

        Raises:
            LiveKitError: The SDK did not take what was captured before.
        """
        await self.settled()
        source, samples = self.rtc, np.ascontiguousarray(samples)
        if not _SUPPORTED:
            frame = (samples.tobytes(), source.sample_rate, source.num_channels, len(samples))
            # Cancelled midway it would be played all the same, and the next one would fail.
            with anyio.move_on_after(CAPTURE_TIMEOUT, shield=True):
                await source.capture_frame(rtc.AudioFrame(*frame))
            self.answered_at = time.perf_counter()
            return
        request = ffi_pb2.FfiRequest()
        capture = request.capture_audio_frame
        capture.source_handle = source._ffi_handle.handle
        capture.request_async_id = number = next(_ids)
        capture.buffer.data_ptr = samples.ctypes.data
        capture.buffer.sample_rate = source.sample_rate
        capture.buffer.num_channels = source.num_channels
        capture.buffer.samples_per_channel = len(samples)
        self._unanswered[number] = samples  # the native side reads from it
        _captures[number] = self
        FfiClient.instance.request(request)

    async def settled(self) -> None:
        """Waits until all that was captured has arrived in the queue, and the queue has room.

        Raises:
            LiveKitError: The SDK did not take it.
        """
        if self._unanswered:
            with anyio.move_on_after(CAPTURE_TIMEOUT):
                while self._unanswered:  # noqa: ASYNC110 - to be woken costs what is saved here
                    await anyio.sleep(0.0005)
            if self._unanswered:
                self._error = f"no answer within {CAPTURE_TIMEOUT:g} s"
        if self._error:
            raise LiveKitError(f"livekit: the SDK took no sound: {self._error}")

    def clear(self) -> None:
        """Empties the queue of what has arrived there."""
        self.rtc.clear_queue()

    async def aclose(self) -> None:
        await self.rtc.aclose()
        for number in self._unanswered:
            _captures.pop(number, None)

    def _answer(self, number: int, error: str) -> None:
        self.answered_at = time.perf_counter()
        self._error = error
        self._unanswered.pop(number, None)


async def connect(
    room: rtc.Room, url: str, token: str, options: rtc.RoomOptions, place: Hashable
) -> None:
    """`Room.connect`, but cancelling it returns at once and leaves nobody in the room.

    Args:
        room: To be connected.
        url: As for `Room.connect`.
        token: As for `Room.connect`.
        options: As for `Room.connect`.
        place: What can be taken once only: the server, the room and the identity. An attempt to
            take it that was given up and is still under way comes to its end first, or else it
            would land after this one, and throw it out.

    Raises:
        rtc.ConnectError: As `Room.connect` does.
    """
    if not _SUPPORTED:
        await _connect_and_wait(room, url, token, options)
        return
    install()
    while (earlier := _abandoned.get(place)) is not None:
        await asyncio.shield(asyncio.wrap_future(earlier.settled))
    attempt = _Attempt(place, asyncio.get_running_loop())
    with _lock:
        _attempts[attempt.id] = attempt
    reset = _attempt.set(attempt)
    try:
        await room.connect(url, token, options)
    except BaseException:
        if not room.isconnected():
            _abandon(attempt)
            queue = getattr(room, "_ffi_queue", None)
            if queue is not None:  # livekit 1.1 leaves it subscribed
                FfiClient.instance.queue.unsubscribe(queue)
        raise
    finally:
        _attempt.reset(reset)
    with _lock:
        _attempts.pop(attempt.id, None)


def install() -> None:
    """Starts the SDK's native side, once per process, with our hooks in it."""
    global _installed_in  # noqa: PLW0603 - as the SDK's client is: one per process
    if not _SUPPORTED:
        return
    if FfiClient._instance is None:
        atexit.register(time.sleep, EXIT_PAUSE)
    client = FfiClient.instance
    with _lock:
        if _installed_in is client:
            return
        _installed_in = client
    atexit.register(_drain)
    request = client.request

    def tagged(req: Any) -> Any:
        attempt = _attempt.get()
        if attempt is None or req.WhichOneof("message") != "connect":
            return request(req)
        # For this one request only: the room's own task is about to inherit the context, and so
        # would whatever a user's handler starts in it.
        _attempt.set(None)
        req.connect.request_async_id = attempt.id
        # Three retries of the SDK's own make a black hole last four times the timeout.
        req.connect.options.join_retries = 0
        response = request(req)
        attempt.sent = True
        return response

    client.request = tagged
    client.queue.subscribe(asyncio.get_running_loop(), filter_fn=_on_event)
    put = client.queue.put

    def put_unless_ours(event: Any) -> None:
        if event.WhichOneof("message") == "capture_audio_frame":
            number = event.capture_audio_frame.async_id
            if (source := _captures.pop(number, None)) is not None:
                source._answer(number, event.capture_audio_frame.error)
                return
        put(event)

    client.queue.put = put_unless_ours


def _on_event(event: Any) -> bool:
    """Sees every native event, on the native thread; wants none of them delivered."""
    try:
        kind = event.WhichOneof("message")
        if kind == "connect":
            _on_connect(event.connect)
        elif kind == "disconnect" and event.disconnect.async_id in _leaving:
            attempt = _leaving.pop(event.disconnect.async_id)
            _drop(attempt.result)
            _settle(attempt)
    except Exception:  # noqa: BLE001 - one that left would be swallowed by the SDK
        _log.exception("livekit: a native event could not be handled")
    return False


def _on_connect(callback: Any) -> None:
    with _lock:
        attempt = _attempts.get(callback.async_id)
        if attempt is None:
            return
        if callback.error:
            del _attempts[attempt.id]
            _settle(attempt)
            return
        attempt.result = callback.result
        abandoned = attempt.abandoned or attempt.loop.is_closed()
        if abandoned:
            del _attempts[attempt.id]
    # The room's own queue has been subscribed since before the request: no event is lost.
    ready = ffi_pb2.FfiRequest()
    ready.ready_for_room_event.room_handle = callback.result.room.handle.id
    FfiClient.instance.request(ready)
    if abandoned:
        _leave(attempt)


def _abandon(attempt: _Attempt) -> None:
    """Nobody waits for this attempt any more: if it has landed leave, else leave when it does."""
    with _lock:
        if attempt.id not in _attempts:
            return  # it failed by itself
        if not attempt.sent:
            del _attempts[attempt.id]
            return
        attempt.abandoned = True
        _abandoned[attempt.place] = attempt
        if attempt.result is None:
            return
        del _attempts[attempt.id]
    _leave(attempt)


def _leave(attempt: _Attempt) -> None:
    request = ffi_pb2.FfiRequest()
    request.disconnect.room_handle = attempt.result.room.handle.id
    request.disconnect.request_async_id = next(_ids)
    _leaving[request.disconnect.request_async_id] = attempt
    FfiClient.instance.request(request)


def _settle(attempt: _Attempt) -> None:
    if _abandoned.get(attempt.place) is attempt:
        del _abandoned[attempt.place]
    attempt.settled.set_result(None)


def _drain() -> None:
    """Runs at exit, when no event loop does any more."""
    with _lock:
        pending = {*_attempts.values(), *_abandoned.values(), *_leaving.values()}
    for attempt in pending:
        _abandon(attempt)
    wait([attempt.settled for attempt in pending if attempt.sent], EXIT_DRAIN)


def _drop(result: Any) -> None:
    FfiHandle(result.room.handle.id).dispose()
    FfiHandle(result.local_participant.handle.id).dispose()
    for entry in result.participants:
        FfiHandle(entry.participant.handle.id).dispose()
        for publication in entry.publications:
            FfiHandle(publication.handle.id).dispose()


async def _connect_and_wait(room: rtc.Room, url: str, token: str, options: rtc.RoomOptions) -> None:
    task = asyncio.create_task(room.connect(url, token, options))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        _log.warning("livekit: this SDK release cannot cancel a connect: waiting for it")
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            await asyncio.wait({task}, timeout=FALLBACK_WAIT)
            with anyio.move_on_after(FALLBACK_WAIT):
                await room.disconnect()
        raise
