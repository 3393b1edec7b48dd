"""`LatencyTrimmer`: keeps a real-time producer in real time."""

import time

from ..audio.backlog import StandingBacklog
from ..audio.fades import crossfade
from ..audio.format import BLOCK, Samples
from ..audio.frame import AudioFrame
from .paced_source import BLOCK_SECONDS

# Trim latency for real-time producers only. A producer is real-time if, during this window (s), the
# pump waited for every frame, or every frame had just been received: a relay fills the queue and is
# never waited for. The minimum of the SDK's queue over the window is excess latency; all but KEEP
# (s) is trimmed.
WINDOW = 1.0
KEEP = 0.005
# A frame received longer ago (s) was kept by the program. What a program has kept for less cannot
# be refused for a window: the queue takes `send_buffer` of it at once.
MAX_RELAY_AGE = 1.0


class LatencyTrimmer:
    """Detects the excess latency of a real-time producer, and trims it with crossfades."""

    def __init__(self) -> None:
        self.is_relay = False  # whether the producer relays: its last frame was just received
        self.blocks_left = 0  # to be trimmed
        self.samples_trimmed = 0  # per channel
        self._backlog = StandingBacklog(WINDOW)

    def observe(self, frame: AudioFrame, seconds_queued: float, *, waited: bool) -> None:
        """Note a frame of tx, what is queued before it, and whether the pump waited for it."""
        now = time.monotonic()
        self.is_relay = frame.timestamp is not None and 0 <= now - frame.timestamp < MAX_RELAY_AGE
        if not (self.is_relay or waited):
            self._backlog.reset()
        elif (excess := self._backlog.observe(now, seconds_queued)) is not None:
            self.blocks_left = max(0, int((excess - KEEP) / BLOCK_SECONDS))

    def reset(self) -> None:
        """Note a frame of a playback, which is never trimmed."""
        self.is_relay = False
        self._backlog.reset()

    def cancel(self) -> None:
        """Trim no more until the next window has passed."""
        self.blocks_left = 0

    def trim(self, samples: Samples) -> Samples:
        """Return two blocks crossfaded to one while there are blocks to be trimmed."""
        if not self.blocks_left or len(samples) != 2 * BLOCK:
            return samples
        self.blocks_left -= 1
        self.samples_trimmed += BLOCK
        return crossfade(samples[:BLOCK], samples[BLOCK:])
