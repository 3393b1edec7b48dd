"""`open_livekit` and `open_loopback`: a session as an async context manager.

What runs in the background is one task with a task group of its own, started on enter and joined
on exit. The body of the `async with` is in nobody's task group: it may be left in another task and
in any order, and its exceptions leave it as they are.

Leaving, in order: nothing more is accepted; what was accepted is played out (up to
`drain_timeout`, and cancellable); the background is cancelled, leaves the room, and is waited for
(shielded; each of its awaits is bounded). All stream ends are closed then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import anyio
import attrs
from anyio.abc import ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream

from . import _rtc
from ._config import SessionOptions, Token, check_url, read_token
from ._errors import ConfigError, DisconnectedError, DisconnectReason, LiveKitError
from ._frame import AudioFrame
from ._link import Link, LoopbackLink, RoomLink
from ._receive import Receiver
from ._send import Sender, SendStream

__all__ = ["LiveKitSession", "OpenSession", "SessionStatistics", "open_livekit", "open_loopback"]

_log = logging.getLogger("beluga_livekit")

CLOSED = "livekit: transport is closed"
RECEIVES_ONLY = (
    "livekit: this session only receives: it was opened with send=False, "
    "or its token does not let it publish a microphone"
)


@attrs.frozen(kw_only=True)
class SessionStatistics:
    """A session's counters, at one moment.

    Attributes:
        frames_received: Frames put into rx, in all.
        seconds_received: Their sound, the silence that fills gaps included.
        frames_dropped: Frames dropped because rx was not read in time.
        seconds_dropped: Their sound.
        seconds_waiting: Sound waiting in rx.
        seconds_sent: Sound handed to the SDK, padding included.
        seconds_queued: Sound waiting in the SDK to be played.
    """

    frames_received: int
    seconds_received: float
    frames_dropped: int
    seconds_dropped: float
    seconds_waiting: float
    seconds_sent: float
    seconds_queued: float


class _Background:
    """The task behind a session, and what it works on."""

    def __init__(self, link: Link, options: SessionOptions) -> None:
        self.link = link
        self.options = options
        self.receiver = Receiver(options)
        self.sender = Sender(options, self.why)
        self.failure: BaseException | None = None
        self.closed = False  # left by us
        self._leaving = False  # on the way to that
        self._connected = False
        self._ready = anyio.Event()
        self._scope = anyio.CancelScope()
        self._task = asyncio.create_task(self._run(), name="beluga_livekit session")
        self._task.add_done_callback(lambda _: self._ready.set())

    @property
    def reason(self) -> DisconnectReason | None:
        return self.link.reason

    @property
    def lost(self) -> bool:
        """Whether the session has ended in a way that its user has to hear about."""
        return self.reason is not None and not self.reason.is_hangup

    def why(self) -> Exception:
        """Returns what a send raises that nobody takes any more."""
        if not (self.closed or self._leaving):
            if self.reason is not None or self.failure is not None:
                return self.disconnected()
            if self.link.receives_only:
                return anyio.ClosedResourceError(RECEIVES_ONLY)
        return anyio.ClosedResourceError(CLOSED)

    def disconnected(self) -> DisconnectedError:
        reason = self.reason or DisconnectReason.UNKNOWN
        error = DisconnectedError(f"livekit: disconnected: {reason}", reason=reason)
        error.origin = self
        return error

    async def start(self) -> None:
        """Waits until the session is connected.

        Raises:
            Exception: What it failed with.
        """
        await self._ready.wait()
        if not self._connected:
            raise self.failure or LiveKitError("livekit: cancelled from outside while joining")

    async def leave(self, *, play_out: bool) -> None:
        """Ends the session and closes all of its stream ends; a second time does nothing."""
        try:
            if play_out and not self.closed:
                await self._play_out()
        finally:
            self.closed = True
            self._scope.cancel()
            try:
                await self._join()
            finally:
                self.receiver.queue.rx.close()
                self.sender.tx.close()

    async def _play_out(self) -> None:
        """Accepts nothing more, and waits until what was accepted has been heard."""
        self._leaving = True
        self.sender.finish()
        if self.sender.is_flowing:
            with anyio.move_on_after(self.options.drain_timeout) as scope:
                await self._let_out()
            if scope.cancelled_caught:
                seconds = self.options.drain_timeout
                _log.warning("livekit: left with sound unplayed: %g s were not enough", seconds)

    async def _join(self) -> None:
        """Waits for the background, whatever is cancelled meanwhile: it is bounded by itself."""
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not self._task.done():
                try:
                    await asyncio.wait({self._task})
                except asyncio.CancelledError as error:  # asyncio's own, which no scope shields
                    cancelled = error
        if not self._task.cancelled() and self.failure is None:
            self.failure = self._task.exception()
        if cancelled is not None:
            raise cancelled

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(self.receiver.run)
                    await self.link.join(self.receiver, self.sender)
                    tasks.start_soon(self._send)
                    tasks.start_soon(self._watch_rx)
                    self._connected = True
                    self._ready.set()
                    await self.link.ended.wait()
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - it is raised where the user is
            self.failure = _first(error)
        finally:
            self.receiver.close()
            with anyio.CancelScope(shield=True):
                await self.sender.aclose()
                await self.link.leave()

    async def _send(self) -> None:
        try:
            await self.sender.run()
        except Exception as error:
            self.failure = error  # before those who wait to send are told why
            raise
        if not self._leaving:  # the user has closed tx, and goes on listening
            await self._let_out()
            await self.link.stop_sending()

    async def _let_out(self) -> None:
        await self.sender.wait_for_playout()
        left = self.sender.plays_until + self.link.linger - time.monotonic()
        await anyio.sleep(max(0.0, left))

    async def _watch_rx(self) -> None:
        await self.receiver.abandoned.wait()
        await self.link.stop_receiving()


class LiveKitSession(
    tuple[MemoryObjectReceiveStream[AudioFrame], SendStream], ObjectStream[AudioFrame]
):
    """A pair of streams, `rx, tx = session`, and one stream of both directions.

    What arrives and what is sent are `AudioFrame`s. The session is open inside the `async with`
    of `open_livekit` or `open_loopback`; later, all of it raises `anyio.ClosedResourceError`.
    """

    _background: _Background

    def __new__(cls, background: _Background) -> LiveKitSession:
        self = super().__new__(cls, (background.receiver.queue.rx, background.sender.tx))
        self._background = background
        return self

    def __repr__(self) -> str:
        state = "closed" if self._background.closed else self.disconnect_reason or "open"
        return f"<{type(self).__name__} {state}>"

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """Why the session is no longer in its room; None while it is."""
        return self._background.reason

    @property
    def room(self) -> _rtc.Room:
        """The SDK's room: the way to data, text, RPC and video.

        Raises:
            LiveKitError: This is a loopback.
        """
        return self._background.link.room

    @property
    def format(self) -> tuple[int, int]:
        """The sample rate (Hz) and the number of channels of the received frames."""
        return self._background.options.sample_rate, self._background.options.num_channels

    def statistics(self) -> SessionStatistics:
        """Returns the counters of this moment; they stay readable after the session."""
        receiver, sender = self._background.receiver, self._background.sender
        return SessionStatistics(
            frames_received=receiver.frames_received,
            seconds_received=receiver.seconds_received,
            frames_dropped=receiver.queue.frames_dropped,
            seconds_dropped=receiver.queue.seconds_dropped,
            seconds_waiting=receiver.queue.seconds_waiting,
            seconds_sent=sender.seconds_sent,
            seconds_queued=sender.seconds_queued,
        )

    async def wait_for_playout(self) -> None:
        """Waits until everything that tx has accepted has been played.

        Raises:
            anyio.ClosedResourceError: The session is closed.
            DisconnectedError: It ended before everything was played.
        """
        self._check_open()
        background = self._background
        await background.sender.wait_for_playout()
        if background.link.ended.is_set() or background.failure is not None:
            raise background.why()

    async def receive(self) -> AudioFrame:
        """Receives a frame, as `rx.receive()` does."""
        self._check_open()
        return await self[0].receive()

    async def send(self, item: AudioFrame) -> None:
        """Sends a frame, as `tx.send()` does."""
        self._check_open()
        await self[1].send(item)

    async def send_eof(self) -> None:
        """Closes tx, as `tx.aclose()` does: the session only receives from there."""
        await self[1].aclose()

    async def aclose(self) -> None:
        """Plays out what was accepted, leaves the room and closes the streams."""
        await self._background.leave(play_out=True)

    def _check_open(self) -> None:
        if self._background.closed:
            raise anyio.ClosedResourceError(CLOSED)


class OpenSession(AbstractAsyncContextManager[LiveKitSession, bool]):
    """What `open_livekit` returns: `async with` it, once."""

    def __init__(self, make_link: Callable[[], Link], options: SessionOptions) -> None:
        self._make_link = make_link
        self._options = options
        self._entered = False

    async def __aenter__(self) -> LiveKitSession:
        if self._entered:
            raise RuntimeError("livekit: a session is entered once; call open_livekit again")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "livekit: needs asyncio, anyio's default backend: the LiveKit SDK has no other"
            ) from None
        self._entered = True
        background = self._background = _Background(self._make_link(), self._options)
        try:
            await background.start()
        except BaseException:
            await background.leave(play_out=False)
            raise
        return LiveKitSession(background)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        await self._background.leave(play_out=error is None)
        return _verdict(self._background, error)


def _verdict(background: _Background, error: BaseException | None) -> bool:
    """Decides what leaves the block; returns whether its error is absorbed."""
    if error is None:
        if background.failure is not None:
            raise background.failure
        if background.lost:
            raise background.disconnected()
        return False
    if _is_own(error, background):
        if background.failure is not None:
            raise background.failure from None
        if not background.lost:
            return True
        if isinstance(error, DisconnectedError):
            return False
        raise _first(error) from None
    if background.failure is not None:
        error.add_note(f"livekit: the session had failed: {background.failure!r}")
    elif background.reason not in (None, DisconnectReason.CLIENT_INITIATED):
        error.add_note(f"livekit: the session had been disconnected: {background.reason}")
    return False


def _is_own(error: BaseException, background: _Background) -> bool:
    """Whether this is the session's own DisconnectedError, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_own(inner, background) for inner in error.exceptions)
    return isinstance(error, DisconnectedError) and error.origin is background


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def open_livekit(
    url: str,
    token: Token,
    *,
    room: str | None = None,
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    receive_buffer: float = 1.0,
    send_buffer: float = 0.05,
    connect_timeout: float = 10.0,
    listener_timeout: float = 10.0,
    drain_timeout: float = 5.0,
    send: bool = True,
    rtc_config: Any = None,
    encryption: Any = None,
    publish_options: Any = None,
    on_room: Callable[[_rtc.Room], object] | None = None,
) -> OpenSession:
    """Joins a room, and gives its sound as a pair of streams.

    ```python
    async with open_livekit(url, token) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)
    ```

    Args:
        url: Where the server is: wss://, ws://, https:// or http://.
        token: An access token, or a callable, sync or async, that returns one.
        room: The room that the token has to be for; without it, whichever room that is.
        sample_rate: Of the received frames, in Hz, 8000 to 192000. What is sent may have any.
        num_channels: Of the received frames, 1 to 8. A room carries one or two: more are copies.
            What is sent may have any; with 1 it travels as mono, with more as stereo. (LiveKit's
            Python SDK encodes stereo as mono, up to 1.2 at least.)
        frame_size: Samples per channel in every received frame. Default: 20 ms, to the nearest
            sample; voice detectors often want 512 at 16 kHz.
        receive_buffer: How long, in seconds, a frame may wait in rx before it is dropped.
        send_buffer: How far, in seconds, a producer may be ahead of what is played, 0.02 to 1;
            rounded to 10 ms.
        connect_timeout: For joining, in all, in seconds.
        listener_timeout: How long the first frame waits for somebody who listens, in seconds.
        drain_timeout: How long, on a normal exit, accepted sound may take to be played.
        send: False to receive only.
        rtc_config: The SDK's `rtc.RtcConfiguration`.
        encryption: The SDK's `rtc.E2EEOptions`.
        publish_options: The SDK's `rtc.TrackPublishOptions`.
        on_room: Called with each `rtc.Room` before it connects: the place to register handlers
            for data, text and RPC.

    Returns:
        An async context manager, to be entered once, that gives a `LiveKitSession`.

        Entering raises `ConnectError` where the room could not be joined (`AuthenticationError`
        where the server refused the token). Leaving raises `DisconnectedError` where the
        connection was lost for good; a hang-up is no error.

    Raises:
        ConfigError: An argument is wrong, or the token can be seen to be of no use.
    """
    check_url(url)
    if not callable(token):
        read_token(token, room=room)
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        receive_buffer=receive_buffer,
        send_buffer=send_buffer,
        connect_timeout=connect_timeout,
        listener_timeout=listener_timeout,
        drain_timeout=drain_timeout,
        send=send,
        rtc_config=rtc_config,
        encryption=encryption,
        publish_options=publish_options,
        on_room=on_room,
    )
    _rtc.check_options(options)
    return OpenSession(lambda: RoomLink(url, token, room, options), options)


def open_loopback(
    *,
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    receive_buffer: float = 1.0,
    send_buffer: float = 0.05,
    drain_timeout: float = 5.0,
) -> OpenSession:
    """Gives the same session with no server: what tx gets, rx hears.

    The sound goes through the SDK's own native audio and through all of our stages, buffers and
    pacing, so a pipeline can be run and tested anywhere. Its frames' participant is "loopback".

    Args:
        sample_rate: As for `open_livekit`, and so are the others.
        num_channels: See there.
        frame_size: See there.
        receive_buffer: See there.
        send_buffer: See there.
        drain_timeout: See there.

    Raises:
        ConfigError: An argument is wrong.
    """
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        receive_buffer=receive_buffer,
        send_buffer=send_buffer,
        drain_timeout=drain_timeout,
    )
    return OpenSession(LoopbackLink, options)
