"""`PlaybackGate`: blocks playback until the track is connected and subscribed."""

import anyio

from .._logging import SessionLog
from .._tasks import ChangeSignal


class PlaybackGate:
    """Blocks playback while disconnected, and until a remote participant subscribes."""

    def __init__(self, subscription_timeout: float, log: SessionLog) -> None:
        self._timeout = subscription_timeout  # for the first subscriber of a track (s)
        self._log = log
        self._changed = ChangeSignal()
        self._is_subscribed = False
        self.is_connected: bool = False

    def pause(self) -> None:
        """Block playback: the connection is away, and the audio would be lost."""
        self.is_connected = False
        self._changed.set()

    def resume(self) -> None:
        """Unblock playback: the track is published and connected."""
        self.is_connected = True
        self._changed.set()

    def subscribed(self) -> None:
        """Note a subscriber of the track: the first frame waits no longer."""
        self._is_subscribed = True
        self._changed.set()

    def unsubscribed(self) -> None:
        """Note a track without subscribers: its first frame waits for one."""
        self._is_subscribed = False

    async def wait(self) -> None:
        """Wait for the connection and for a subscriber."""
        while not (self.is_connected and self._is_subscribed):
            if not self.is_connected:
                await self._changed.wait()
                continue
            with anyio.move_on_after(self._timeout) as scope:
                while not self._is_subscribed:
                    await self._changed.wait()
            if scope.cancelled_caught and self._timeout > 0:
                timeout = self._timeout
                self._log.warning("no participant has subscribed within %g s; playing", timeout)
            self._is_subscribed = True

    async def wait_until_paused(self, seconds: float) -> None:
        """Wait until the gate has been paused for this long (s)."""
        while True:
            while self.is_connected:
                await self._changed.wait()
            with anyio.move_on_after(seconds):
                while not self.is_connected:
                    await self._changed.wait()
                continue
            return
