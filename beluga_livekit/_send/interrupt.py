"""Interrupts: an epoch is the time between two of them, and ends with all that it accepted.

`Epochs.silence` ends the pump's work and fades out the paced source; `Epochs.replace` begins the
next epoch. Frames of an ended epoch are dropped wherever the pump meets them.
"""

import anyio

from .._sdk.audio_source import CAPTURE_TIMEOUT
from .paced_source import PacedAudioSource

# Timeout for silencing the audio (s). It takes 1 to 20 ms, unless captures time out: two may.
SILENCE_TIMEOUT = 2 * CAPTURE_TIMEOUT


class Epoch:
    """The time between two interrupts."""

    def __init__(self) -> None:
        self.scope: anyio.CancelScope = anyio.CancelScope()  # of the pump's work
        self.idle: anyio.Event = anyio.Event()  # set when the pump has left it, without audio
        self.ended: anyio.Event = anyio.Event()  # set when the next epoch has begun
        self.cut_at = 0  # position at which the interrupt cut off the audio


class Epochs:
    """The current epoch, and its end."""

    def __init__(self, source: PacedAudioSource, pump_finished: anyio.Event) -> None:
        self._source = source
        self._pump_finished = pump_finished  # set when there is no pump that could become idle
        self._turn = anyio.Semaphore(1, fast_acquire=True)  # a lock that another task releases
        self.current = Epoch()

    async def silence(self) -> None:
        """Cancel the pump's work and cut off the audio, within `SILENCE_TIMEOUT`.

        Interrupts take turns, in order: `replace`, which must follow, admits the next one.
        """
        timeout = anyio.CancelScope(deadline=anyio.current_time() + SILENCE_TIMEOUT)
        await self._turn.acquire()  # earlier interrupts have earlier deadlines
        epoch = self.current
        epoch.cut_at = self._source.position
        epoch.scope.cancel()
        with timeout:
            epoch.cut_at = (await self._source.cut()).position
            if not self._pump_finished.is_set():
                await epoch.idle.wait()

    def replace(self) -> int:
        """Begin the next epoch; return the position at which the audio was cut off."""
        epoch, self.current = self.current, Epoch()
        epoch.ended.set()
        self._turn.release()
        return epoch.cut_at
