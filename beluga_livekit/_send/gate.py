"""`PlaybackGate`: nothing is played while nobody can hear it."""

from __future__ import annotations

import anyio

from .._logging import SessionLog

__all__ = ["PlaybackGate"]


class PlaybackGate:
    """Is shut while the connection is away, and until somebody listens.

    Args:
        subscription_timeout: How long it waits for somebody who listens, in seconds.
        log: The session's.
    """

    def __init__(self, subscription_timeout: float, log: SessionLog) -> None:
        self._timeout = subscription_timeout
        self._log = log
        self._connected = anyio.Event()  # replaced while the connection is away
        self._away = anyio.Event()  # the other way round
        self._heard = anyio.Event()

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    def hold(self) -> None:
        """The connection is away: what comes waits instead of being played into nothing."""
        if self._connected.is_set():
            self._connected = anyio.Event()
        self._away.set()

    def release(self) -> None:
        """The connection is there, or back."""
        if self._away.is_set():
            self._away = anyio.Event()
        self._connected.set()

    def heard(self) -> None:
        """Somebody listens: the first frame need not wait any longer."""
        self._heard.set()

    def unheard(self) -> None:
        """Nobody listens, as the track is new: the next frame is a first one."""
        if self._heard.is_set():
            self._heard = anyio.Event()

    async def wait(self) -> None:
        """Waits for the connection, and for somebody who listens."""
        while not (self._connected.is_set() and self._heard.is_set()):
            await self._connected.wait()
            if not self._heard.is_set():
                await self._wait_for_listener()

    async def wait_until_away(self, seconds: float) -> None:
        """Waits until the connection is away, and has been for this long."""
        while True:
            await self._away.wait()
            with anyio.move_on_after(seconds):
                await self._connected.wait()
                continue
            return

    async def _wait_for_listener(self) -> None:
        with anyio.move_on_after(self._timeout) as scope:
            await self._heard.wait()
        if scope.cancelled_caught and self._timeout > 0:
            self._log.warning("nobody has subscribed within %g s, sending anyway", self._timeout)
        self._heard.set()
