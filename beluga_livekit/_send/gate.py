"""`PlaybackGate`: blocks playback until the track is connected and subscribed."""

import anyio

from .._logging import SessionLog
from .._tasks import ChangeSignal


class PlaybackGate:
    """Blocks playback while the track cannot be received, and until a participant subscribes.

    Attributes:
        is_connected: Whether the track is published and media is up.
        is_subscribed: Whether a participant has subscribed to the track, or need not.
        is_ringing: Whether the first frame waits for a phone that has not been answered.
        reason: Why the gate is paused, for messages.
    """

    def __init__(self, subscription_timeout: float, log: SessionLog, changed: ChangeSignal) -> None:
        self._timeout = subscription_timeout  # for the first subscriber of a track (s)
        self._log = log
        self._changed = changed
        self.is_connected: bool = False
        self.is_subscribed: bool = False
        self.is_ringing: bool = False
        self.reason: str = "the track is not published"

    def pause(self, reason: str) -> None:
        """Block playback: the audio would be lost."""
        self.is_connected, self.reason = False, reason
        self._changed.set()

    def resume(self) -> None:
        """Unblock playback: the track is published and connected."""
        self.is_connected = True
        self._changed.set()

    def subscribed(self) -> None:
        """Note a subscriber of the track: the first frame waits no longer."""
        self.is_subscribed = True
        self._changed.set()

    def unsubscribed(self) -> None:
        """Note a track without subscribers: its first frame waits for one."""
        self.is_subscribed = False
        self._changed.set()

    def set_ringing(self, is_ringing: bool) -> None:
        """Note whether the participant that should receive the first frame is still called."""
        if is_ringing != self.is_ringing:
            self.is_ringing = is_ringing
            self._changed.set()

    async def wait(self) -> None:
        """Wait for the connection and for a subscriber; a ringing phone stops the timeout."""
        while not (self.is_connected and self.is_subscribed):
            if not self._awaits_subscriber:
                await self._changed.wait()
                continue
            with anyio.move_on_after(self._timeout) as scope:
                while self._awaits_subscriber:
                    await self._changed.wait()
            if scope.cancelled_caught:
                if (timeout := self._timeout) > 0:
                    self._log.warning("no participant has subscribed within %g s; playing", timeout)
                self.subscribed()

    @property
    def _awaits_subscriber(self) -> bool:
        return self.is_connected and not (self.is_subscribed or self.is_ringing)

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
