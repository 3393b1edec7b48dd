"""`SessionRunner`: the task behind a session, its states, and the error that leaves the block.

The task has a task group of its own; it is started on enter and joined on exit. The body of the
`async with` is in no task group: it may be left in another task and in any order, and its
exceptions leave it unchanged.

Leaving, in order: accept nothing more; drain what was accepted (up to `drain_timeout`,
cancellable); cancel the task, which leaves the room, and join it (shielded; each of its awaits is
bounded). All stream ends are closed then.
"""

import asyncio
import enum
import math
from collections.abc import Callable

import anyio

from ._connection.base import Connection, Outcome, SessionParts
from ._connection.subscriptions import coordinate
from ._errors import DisconnectedError, DisconnectReason, LiveKitError, first_of
from ._logging import SessionLog
from ._options import SessionOptions
from ._receive.track_readers import TrackReaders
from ._room.state import RoomState
from ._send.pump import SendPump
from ._tasks import join

CLOSED = "livekit: transport is closed"
RECEIVES_ONLY = (
    "livekit: this session only receives: it was opened with publish=False, "
    "or its token does not allow to publish a microphone"
)

# Time that a connection that is lost when or before a drain begins has to come back (s).
RESUME_TIMEOUT = 2.0


class SessionState(enum.Enum):
    """The state of a session, as its user has brought it about; `outcome` has the rest."""

    JOINING = enum.auto()
    OPEN = enum.auto()
    DRAINING = enum.auto()
    CLOSED = enum.auto()


class SessionRunner:
    """Runs a session in a background task."""

    def __init__(
        self, make_connection: Callable[[SessionParts], Connection], options: SessionOptions
    ) -> None:
        self.options = options
        self.log: SessionLog = SessionLog()
        self.room_state: RoomState = RoomState()
        self.readers: TrackReaders = TrackReaders(options, self.room_state, self.log)
        changed = self.room_state.changed
        self.pump: SendPump = SendPump(options, self.closed_error, changed, self.log)
        parts = SessionParts(self.room_state, self.readers, self.pump, self.log)
        self.connection: Connection = make_connection(parts)
        self.outcome: Outcome | None = None  # set once
        self._state = SessionState.JOINING
        self._staying = anyio.CancelScope()
        self._scope = anyio.CancelScope()
        self._ready = anyio.Event()
        self._task = asyncio.create_task(self._run(), name="beluga_livekit session")
        self._task.add_done_callback(lambda _: self._ready.set())

    @property
    def is_closed(self) -> bool:
        """Whether the user has left the session."""
        return self._state is SessionState.CLOSED

    @property
    def has_ended(self) -> bool:
        """Whether the session is closed or disconnected."""
        return self.is_closed or self.room_state.is_disconnected

    def closed_error(self) -> Exception:
        """Return the exception to raise from `send()` once the session accepts no more audio."""
        if self._state in (SessionState.JOINING, SessionState.OPEN):
            if self.outcome is not None:
                return self._disconnected_error(self.outcome)
            if self.connection.receives_only:
                return anyio.ClosedResourceError(RECEIVES_ONLY)
        return anyio.ClosedResourceError(CLOSED)

    async def start(self) -> None:
        """Wait until the session is connected, or raise the error that joining failed with."""
        await self._ready.wait()
        if self._state is SessionState.JOINING:
            failure = self.outcome.failure if self.outcome is not None else None
            raise failure or LiveKitError("livekit: joining failed: the session task was cancelled")

    async def leave(self, *, drain: bool) -> None:
        """End the session and close all of its stream ends; a second call does nothing."""
        try:
            if drain and not self.is_closed:
                await self._drain()
        finally:
            self._state = SessionState.CLOSED
            self._scope.cancel()
            try:
                await join(self._task)
            finally:
                if not self._task.cancelled() and (failure := self._task.exception()) is not None:
                    self.outcome = Outcome(DisconnectReason.UNKNOWN, failure=failure)
                self.readers.rx.buffer.rx.close()
                self.pump.tx.close()

    def settle_exit(self, error: BaseException | None, *, absorb: bool) -> bool:
        """Decide which error leaves the block; return whether the block's own is absorbed.

        | error of the block | session failed | connection lost | hang-up or left |
        |---|---|---|---|
        | none | failure | DisconnectedError | none |
        | the session's own DisconnectedError | failure | that error | none, if `absorb` |
        | any other | that error, with a note | the same | the same |
        """
        outcome = self.outcome or Outcome(DisconnectReason.CLIENT_INITIATED)
        if error is not None and not self._is_own(error):
            if outcome.failure is not None:
                error.add_note(f"livekit: the session had failed: {outcome.failure!r}")
            elif outcome.reason is not DisconnectReason.CLIENT_INITIATED:
                error.add_note(f"livekit: the session had been disconnected: {outcome.reason}")
            return False
        if outcome.failure is not None:
            raise outcome.failure from None
        if outcome.is_loss and not isinstance(error, DisconnectedError):
            raise first_of(error or self._disconnected_error(outcome)) from None
        if error is None or outcome.is_loss or not absorb:
            return False
        self.log.info("the block was left by: %s", first_of(error))  # the rest of it has not run
        return True

    def _is_own(self, error: BaseException) -> bool:
        """Return whether this is the session's own DisconnectedError, or a group of these."""
        if isinstance(error, BaseExceptionGroup):
            return all(self._is_own(inner) for inner in error.exceptions)
        return isinstance(error, DisconnectedError) and error._origin is self  # noqa: SLF001 - ours

    def _disconnected_error(self, outcome: Outcome) -> DisconnectedError:
        error = DisconnectedError(f"livekit: disconnected: {outcome}", reason=outcome.reason)
        error._origin = self  # noqa: SLF001 - ours
        return error

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    await tasks.start(self.readers.run)
                    tasks.start_soon(coordinate, self.connection, self.readers, self.room_state)
                    await self.connection.join()
                    tasks.start_soon(self._send)
                    if self.options.departure_timeout < math.inf:
                        tasks.start_soon(self._leave_after_departure)
                    self._state = SessionState.OPEN
                    self._ready.set()
                    with self._staying:
                        self._end(await self.connection.run())
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - raised where the user is
            self._end(Outcome(DisconnectReason.UNKNOWN, failure=first_of(error)))
        finally:
            self.readers.close_all()
            with anyio.CancelScope(shield=True):
                await self.pump.aclose()
                reason = await self.connection.leave()
            outcome = self._end(Outcome(reason))
            self.room_state.disconnect(outcome.reason)

    def _end(self, outcome: Outcome) -> Outcome:
        """Set the outcome, unless there is one; return it. Waiting sends read it when woken."""
        if self.outcome is None:
            self.outcome = outcome
            is_raised = self._state is SessionState.JOINING or outcome.failure is not None
            if outcome.is_loss and not is_raised:
                self.log.error("connection failed: %s", outcome)
            elif not is_raised:
                self.log.info("ended: %s", outcome)
        return self.outcome

    async def _drain(self) -> None:
        """Accept nothing more, and wait until what was accepted has arrived."""
        self._state = SessionState.DRAINING
        self.pump.finish()
        if self.outcome is None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._limit_drain, tasks.cancel_scope)
                await self._wait_until_arrived()
                tasks.cancel_scope.cancel()

    async def _limit_drain(self, drain: anyio.CancelScope) -> None:
        """Cancel a drain that takes too long, or that cannot succeed without a connection."""
        timeout = self.options.drain_timeout
        reason = f"drain_timeout ({timeout:g} s) expired"
        with anyio.move_on_after(timeout):
            await self.pump.gate.wait_until_paused(RESUME_TIMEOUT)
            reason = self.pump.gate.reason
        unplayed = self.pump.seconds_unplayed
        self.log.warning("drain failed: %s; discarded %.1f s of audio", reason, unplayed)
        drain.cancel()

    async def _send(self) -> None:
        try:
            await self.pump.run()
        except Exception as error:
            # Before the task group cancels the rest: sends that wait read the outcome.
            self._end(Outcome(DisconnectReason.UNKNOWN, failure=error))
            raise
        if self._state is not SessionState.DRAINING:  # tx was closed; the session receives on
            await self._wait_until_arrived()
            await self.connection.unpublish()

    async def _wait_until_arrived(self) -> None:
        await self.pump.finished.wait()
        await anyio.sleep(max(0.0, self.connection.linger - self.pump.source.seconds_idle))

    async def _leave_after_departure(self) -> None:
        """End the session when the last selected participant has been gone for long enough."""
        timeout = self.options.departure_timeout
        while not self._has_participants():
            await self.room_state.changed.wait()
        while True:
            if self._has_participants() or self.room_state.is_reconnecting:
                await self.room_state.changed.wait()
                continue
            with anyio.move_on_after(timeout) as scope:
                while not self._has_participants():
                    await self.room_state.changed.wait()
            if scope.cancelled_caught and not self.room_state.is_reconnecting:
                self.log.info("the last selected participant left %g s ago", timeout)
                self._end(Outcome(DisconnectReason.DEPARTURE_TIMEOUT))
                self._staying.cancel()
                return

    def _has_participants(self) -> bool:
        return any(map(self.options.selects, self.room_state.participants.values()))
