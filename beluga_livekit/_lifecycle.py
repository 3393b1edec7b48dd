"""The task behind a session.

It has a task group of its own, is started on enter and joined on exit. The body of the `async with`
is in nobody's task group: it may be left in another task and in any order, and its exceptions leave
it as they are.

Leaving, in order: nothing more is accepted; what was accepted is played out (up to
`drain_timeout`, and cancellable); the task is cancelled, leaves the room, and is waited for
(shielded; each of its awaits is bounded). All stream ends are closed then.
"""

from __future__ import annotations

import asyncio

import anyio

from ._connection.server import Connection
from ._errors import DisconnectedError, DisconnectReason, LiveKitError
from ._logging import SessionLog
from ._options import SessionOptions
from ._receive.track_readers import TrackReaders
from ._room.state import RoomState
from ._send.pump import SendPump
from ._tasks import join

__all__ = ["CLOSED", "SessionRunner", "first"]

CLOSED = "livekit: transport is closed"
RECEIVES_ONLY = (
    "livekit: this session only receives: it was opened with publish=False, "
    "or its token does not let it publish a microphone"
)

# How long a connection that went away while we played out has to come back.
RESUME_TIMEOUT = 2.0


class SessionRunner:
    """The task behind a session, and what it works on."""

    def __init__(self, link: Connection, options: SessionOptions, log: SessionLog) -> None:
        self.link = link
        self.options = options
        self.room_state = RoomState()
        self.readers = TrackReaders(options, self.room_state, log)
        self.pump = SendPump(options, self.why, log)
        self.failure: BaseException | None = None
        self.closed = False  # left by us
        self.log = log
        self._leaving = False  # on the way to that
        self._connected = False
        self._staying = anyio.CancelScope()
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
        error = DisconnectedError(f"livekit: disconnected: {self._reason_text()}", reason=reason)
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
                self.readers.rx.queue.rx.close()
                self.pump.tx.close()

    async def _play_out(self) -> None:
        """Accepts nothing more, and waits until what was accepted has been heard."""
        self._leaving = True
        self.pump.finish()
        if self.pump.gate.is_connected:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._give_up, tasks.cancel_scope)
                await self._let_out()
                tasks.cancel_scope.cancel()

    async def _give_up(self, playing_out: anyio.CancelScope) -> None:
        """Ends the playing out that takes too long, or that nobody is there to hear."""
        seconds = self.options.drain_timeout
        why = f"{seconds:g} s were not enough"
        with anyio.move_on_after(seconds):
            await self.pump.gate.wait_until_paused(RESUME_TIMEOUT)
            why = "there is no connection"
        self.log.warning("left with sound unplayed: %s", why)
        playing_out.cancel()

    async def _join(self) -> None:
        """Waits for the runner, whatever is cancelled meanwhile: it is bounded by itself."""
        try:
            await join(self._task)
        finally:
            if not self._task.cancelled() and self.failure is None:
                self.failure = self._task.exception()

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(self.readers.run)
                    await self.link.join(self.readers, self.pump)
                    tasks.start_soon(self._send)
                    if self.options.departure_timeout < float("inf"):
                        tasks.start_soon(self._leave_when_alone, self.options.departure_timeout)
                    self._connected = True
                    self._ready.set()
                    with self._staying:
                        await self.link.run()
                    if self.lost:
                        self.log.error("lost: %s", self._reason_text())
                    else:
                        self.log.info("ended: %s", self._reason_text())
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - it is raised where the user is
            self.failure = first(error)
        finally:
            self.readers.close()
            with anyio.CancelScope(shield=True):
                await self.pump.aclose()
                await self.link.leave()
            self.room_state.end(self.reason or DisconnectReason.UNKNOWN)
            if self._connected and self.reason is DisconnectReason.CLIENT_INITIATED:
                self.log.info("left")

    def _reason_text(self) -> str:
        reason = self.reason or DisconnectReason.UNKNOWN
        return f"{reason} ({self.link.detail})" if self.link.detail else reason

    async def _send(self) -> None:
        try:
            await self.pump.run()
        except Exception as error:
            self.failure = error  # before those who wait to send are told why
            raise
        if not self._leaving:  # the user has closed tx, and goes on listening
            await self._let_out()
            await self.link.stop_sending()

    async def _let_out(self) -> None:
        await self.pump.finished.wait()
        await anyio.sleep(max(0.0, self.link.linger - self.pump.seconds_idle))

    async def _leave_when_alone(self, seconds: float) -> None:
        """Ends the session some time after the last of those that are wanted has left."""
        while not self._has_company():
            await self.room_state.wait_until_changed()
        while True:
            if self._has_company() or self.room_state.is_interrupted:
                await self.room_state.wait_until_changed()
                continue
            with anyio.move_on_after(seconds) as scope:
                while not self._has_company():
                    await self.room_state.wait_until_changed()
            if scope.cancelled_caught and not self.room_state.is_interrupted:
                self.log.info("has been alone for %g s", seconds)
                self.link.reason = DisconnectReason.CLIENT_INITIATED
                self._staying.cancel()
                return

    def _has_company(self) -> bool:
        return any(map(self.options.selects, self.room_state.participants.values()))


def first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
