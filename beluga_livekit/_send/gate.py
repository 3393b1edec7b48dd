"""`PlaybackGate`: blocks playback until the track is connected and subscribed."""

import anyio

from .._logging import SessionLog


class PlaybackGate:
    """Blocks playback while disconnected, and until a remote participant subscribes."""

    def __init__(self, subscription_timeout: float, log: SessionLog) -> None:
        self._timeout = subscription_timeout  # for the first subscriber of a track (s)
        self._log = log
        self._connected = anyio.Event()  # replaced when the gate pauses
        self._paused = anyio.Event()  # replaced when it resumes
        self._subscribed = anyio.Event()  # replaced for a new track

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    def pause(self) -> None:
        """Block playback: the connection is away, and the audio would be lost."""
        if self._connected.is_set():
            self._connected = anyio.Event()
        self._paused.set()

    def resume(self) -> None:
        """Unblock playback: the track is published and connected."""
        if self._paused.is_set():
            self._paused = anyio.Event()
        self._connected.set()

    def subscribed(self) -> None:
        """Note a subscriber of the track: the first frame waits no longer."""
        self._subscribed.set()

    def unsubscribed(self) -> None:
        """Note a track without subscribers: its first frame waits for one."""
        if self._subscribed.is_set():
            self._subscribed = anyio.Event()

    async def wait(self) -> None:
        """Wait for the connection and for a subscriber."""
        while not (self._connected.is_set() and self._subscribed.is_set()):
            await self._connected.wait()
            if self._subscribed.is_set():
                continue
            with anyio.move_on_after(self._timeout) as scope:
                await self._subscribed.wait()
            if scope.cancelled_caught and self._timeout > 0:
                timeout = self._timeout
                self._log.warning("no participant has subscribed within %g s; playing", timeout)
            self._subscribed.set()

    async def wait_until_paused(self, seconds: float) -> None:
        """Wait until the gate has been paused for this long (s)."""
        while True:
            await self._paused.wait()
            with anyio.move_on_after(seconds):
                await self._connected.wait()
                continue
            return
