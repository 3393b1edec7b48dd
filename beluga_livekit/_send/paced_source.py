"""`PacedAudioSource`: the SDK's queue of sound, and the clock by which it is played."""

from __future__ import annotations

import math
import time
from collections import deque

import anyio
import numpy as np

from .._options import SessionOptions
from .._sdk import rtc
from .._sdk.audio_source import AudioSource
from ..audio.fades import fade_out
from ..audio.format import WIRE_RATE, Samples

__all__ = ["STEP", "STEP_SECONDS", "PacedAudioSource"]

# A native thread takes this much sound out of the queue at every tick, or silence where there is
# less than that. It ticks on a grid that does not drift (0.4 ms in 7 minutes), but tells nobody.
STEP = WIRE_RATE // 100
STEP_SECONDS = 0.01

# What has to be on one side of a tick for certain is done in this part of a step, in seconds since
# the last tick: a tick is up to 1 ms late, and a capture takes up to 2 ms to arrive.
EARLIEST, LATEST = 0.0025, 0.007

# The grid is known when two looks at it agree to so many seconds; one that comes late, as others
# had the processor, does not. A third of a millisecond was the most of 400 on an idle machine.
AGREE = 0.0005
MAX_LOOKS = 20

# The SDK answers a capture at once as long as its queue has room. What we play is paced by the
# clock, so its queue is longer than ours ever gets: a capture that waited for a tick would have
# all others refused meanwhile.
ROOM = 10  # steps


class PacedAudioSource:
    """Plays sound through a source of the SDK's, and knows at any time how much has been played.

    Positions are samples per channel since the beginning: the silence that the SDK plays when
    there is nothing else does not count, so a position belongs to a moment of the sound.

    Args:
        options: `send_buffer` says how much is queued before `play` waits.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._lead = round(options.send_buffer / STEP_SECONDS)  # steps
        self._channels = rtc.wire_channels(options.num_channels)
        self._source: AudioSource | None = None
        self._lock = anyio.Lock(fast_acquire=True)
        self._grid = 0.0  # time.perf_counter() at one of the ticks
        self._last = 0  # the tick, counted from that one, that takes the last step of the queue
        self._recent: deque[Samples] = deque()  # what was handed over last: the queue, and a step
        self._faded = 0  # the position at which a fade has ended all sound
        self.end = 0
        """The position of the end of all sound."""

    async def open(self) -> AudioSource:
        """Returns the SDK's end: made when first asked for, as its thread is."""
        if self._source is None:
            steps = self._lead + ROOM
            self._source = AudioSource(WIRE_RATE, self._channels, steps * 10)
            await self._find_ticks(self._source, self._silence(steps * STEP))
        return self._source

    async def _find_ticks(self, source: AudioSource, all_there_is_room_for: Samples) -> None:
        looks: list[float] = []
        for _ in range(MAX_LOOKS):
            await source.capture(all_there_is_room_for)
            await source.capture(all_there_is_room_for[:STEP])  # is answered at the next tick
            await source.wait_until_answered()
            source.clear()
            looks.append(source.answered_at)
            # A look may be late, but never early.
            half = STEP_SECONDS / 2
            late = sorted((look - looks[0] + half) % STEP_SECONDS - half for look in looks)
            if len(late) > 1 and late[1] - late[0] < AGREE:
                break
        self._grid = looks[0] + late[0]

    @property
    def position(self) -> int:
        """Where in the sound we are."""
        return self.end - STEP * max(0, self._last - self._tick())

    @property
    def seconds_queued(self) -> float:
        """How long it takes until all has been played."""
        return max(0.0, self._time_of(self._last) - time.perf_counter())

    @property
    def seconds_idle(self) -> float:
        """For how long all has been played."""
        return max(0.0, time.perf_counter() - self._time_of(self._last))

    def seconds_until(self, position: int) -> float:
        """Returns how long it takes to be there; for what is yet to be handed over, at least."""
        left = self._time_of(self._last - (self.end - position) // STEP) - time.perf_counter()
        return max(left, STEP_SECONDS if position > self.end else 0.0)

    async def play(self, samples: Samples, *, at_once: bool = False) -> None:
        """Hands over whole steps, when no more than `send_buffer` is queued.

        Args:
            samples: int16, shape (n,) or (n, 2).
            at_once: Does not wait, in one of two cases up to 5 ms and so for another tick, until
                it is certain which tick will play it: a `cut` may be a step off then.
        """
        source = await self.open()
        await anyio.sleep(max(0.0, self.seconds_queued - self._lead * STEP_SECONDS))
        async with self._lock:
            await source.wait_until_answered()
            if not at_once:
                await self._between_ticks(only_if_empty=True)
            await self._hand_over(source, samples)

    async def cut(self, start: int = 0, end: int | None = None) -> tuple[int, int]:
        """Takes the sound between two positions out of the queue, and fades what is cut off.

        Returns:
            The position where it was cut, and the number of samples by which what comes after
            `end` has moved.
        """
        async with self._lock:
            if (source := self._source) is None:
                return self.position, 0
            await source.wait_until_answered()
            await self._between_ticks(only_if_empty=False)
            tick, heard = self._tick(), self.position
            over = self.end if end is None else min(end, self.end)
            cut = max(start, heard)
            ends = over == cut and end is None and self._last == tick and self.end != self._faded
            if over < cut or (over == cut and not ends):
                return heard, 0
            sound = np.concatenate([self._silence(STEP), *self._recent])
            offset = self.end - len(sound)
            fade = STEP if start <= heard else 0  # what has not begun needs no end
            new = fade_out(sound, cut - offset, over - offset, fade)[heard - offset :]
            source.clear()
            moved = heard + len(new) - self.end
            self._recent = deque([sound[: heard - offset]])
            self._last, self.end = tick, heard
            if len(new):
                await self._hand_over(source, new)
            if end is None:
                self._faded = self.end
            return heard, moved

    async def aclose(self) -> None:
        async with self._lock:  # a cut may be under way
            source, self._source = self._source, None
            if source is not None:
                await source.aclose()

    async def _hand_over(self, source: AudioSource, samples: Samples) -> None:
        await source.capture(samples)
        tick = self._tick()
        self._last = max(self._last, tick) + len(samples) // STEP
        self.end += len(samples)
        self._recent.append(samples)
        while sum(map(len, self._recent)) - len(self._recent[0]) > (self._lead + 4) * STEP:
            self._recent.popleft()

    async def _between_ticks(self, *, only_if_empty: bool) -> None:
        """Waits until it is certain which tick will be the next.

        Args:
            only_if_empty: What is handed over comes after all that is queued: which tick was the
                last one only matters if it found nothing, or will.
        """
        while True:
            tick, since = divmod(time.perf_counter() - self._grid, STEP_SECONDS)
            if EARLIEST <= since <= LATEST:
                return
            before = since < EARLIEST  # the last tick may be about to come, or the next one
            if only_if_empty and self._last >= (tick if before else tick + 1):
                return
            await anyio.sleep(EARLIEST - since + (0.0 if before else STEP_SECONDS))

    def _tick(self) -> int:
        return math.floor((time.perf_counter() - self._grid) / STEP_SECONDS)

    def _time_of(self, tick: int) -> float:
        return self._grid + tick * STEP_SECONDS

    def _silence(self, count: int) -> Samples:
        return np.zeros(count if self._channels == 1 else (count, self._channels), np.int16)
