"""`MediaWatch`: finds out whether media is lost while the SDK reconnects."""

import time
from collections.abc import Callable
from typing import NamedTuple

import anyio

from .._sdk import rtc
from .._tasks import ChangeSignal

# Interval of the checks (s). WebRTC collects new statistics every 50 ms; a check takes 1 to 3 ms.
POLL_INTERVAL = 0.03
# Audio before the report of a loss that did not arrive (s): in the encoder, in the far jitter
# buffer, and before the SDK noticed it. Chosen with benchmarks/reconnect.py.
IN_FLIGHT = 0.02


class Loss(NamedTuple):
    """A loss of media."""

    since: float  # time.perf_counter()
    is_over: bool = False  # whether media is up again


class MediaWatch:
    """Watches the path of a track's media.

    The SDK reports that it reconnects, and not whether media is down: signalling alone may be.
    """

    def __init__(self, changed: ChangeSignal) -> None:
        self._changed = changed
        self._path: rtc.MediaPath | None = None  # the last one known
        self._since = 0.0  # time.perf_counter() from which media may be lost

    @property
    def loss(self) -> Loss:
        """The loss, if all has been lost since the last suspicion."""
        return Loss(self._since - IN_FLIGHT)

    def suspect(self) -> None:
        """Note that media may be lost from now on."""
        self._since = time.perf_counter()
        self._changed.set()

    async def update(self, track: rtc.LocalTrack) -> None:
        """Note the path while media is up."""
        self._path = await rtc.media_path(track)

    async def find_loss(
        self, track: rtc.LocalTrack | None, is_reconnecting: Callable[[], bool]
    ) -> Loss | None:
        """Return a loss of media, or None if there was none until the SDK was connected again.

        The SDK notices late that a server was killed, or has dropped us: then the loss began with
        the reconnect. Where ICE is restarted, the server drops the old path at once.
        """
        since = restarted_at = self._since
        before = self._path
        while is_reconnecting() and track is not None:
            now = time.perf_counter()
            if (path := await rtc.media_path(track)) is None:
                return Loss(since - IN_FLIGHT)
            before, previous, self._path = before or path, self._path or path, path
            if path.candidate_pair != before.candidate_pair:
                self._since = now
                return Loss(restarted_at, is_over=True)
            if path.ice_fragment == before.ice_fragment:
                restarted_at = now
            if path.packets_received > previous.packets_received:
                since = now
            with anyio.move_on_after(POLL_INTERVAL):
                await self._changed.wait()
        return None
