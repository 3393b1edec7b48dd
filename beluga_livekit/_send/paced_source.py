"""`PacedAudioSource`: the SDK's audio queue, and the clock by which it is played."""

import math
import time
from collections import deque
from typing import NamedTuple

import anyio
import numpy as np

from .._options import SessionOptions
from .._sdk import rtc
from .._sdk.audio_source import AudioSource
from ..audio.fades import fade_out
from ..audio.format import BLOCK, WIRE_FRAME, WIRE_RATE, Samples

# Time between two clock ticks (s). At each one a native thread of the SDK takes a block out of the
# queue, or silence if there is less. The ticks do not drift (0.4 ms in 7 minutes), and the SDK does
# not report them.
BLOCK_SECONDS = 0.01
# Part of a tick's interval (s since the tick) for operations that must fall between two certain
# ticks: a tick is up to 1 ms late, and a capture takes up to 2 ms to arrive.
EARLIEST, LATEST = 0.0025, 0.007
# Accept the clock's phase once two probes agree within this tolerance (s). Scheduling can delay a
# probe, never advance it. Measured on an idle machine: 0.33 ms at most, in 400 probes.
PHASE_TOLERANCE = 0.0005
MAX_PROBES = 20
# Capacity of the SDK's queue beyond `send_buffer` (blocks). The SDK answers a capture at once while
# its queue has room. `play` is paced by the clock, so ours never fills: while a capture waits for a
# tick, the SDK refuses all others.
SPARE_BLOCKS = 10
# Audio that is kept to be played again after a loss (blocks). The SDK reports that media is down up
# to 0.3 s after the loss (measured: a killed server).
HISTORY = 100


class _Captured(NamedTuple):
    """Whole blocks that were given to the SDK, and the tick that takes the last of them."""

    samples: Samples
    last_tick: int


class Cut(NamedTuple):
    """Result of a cut."""

    position: int  # of the audio being played at that moment
    moved: int  # samples by which the audio behind the cut has moved; negative: it plays earlier


class PacedAudioSource:
    """Plays audio through the SDK's audio source, paced by the SDK's clock.

    Positions are samples per channel since the beginning. The silence that the SDK plays when the
    queue is empty does not count, so a position belongs to a moment of the audio.

    While audio would be lost, `hold` takes back what did not arrive, and positions go back with it.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._max_blocks = round(options.send_buffer / BLOCK_SECONDS)
        self._channels = rtc.wire_channels(options.num_channels)
        self._source: AudioSource | None = None
        self._lock = anyio.Lock(fast_acquire=True)
        self._first_tick = 0.0  # time.perf_counter() of the tick with number 0
        self._last_tick = 0  # number of the tick that takes the last block of the queue
        self._recent: deque[_Captured] = deque()  # the SDK's queue, and the history before it
        self._held: deque[Samples] = deque()  # accepted, and not captured: it comes first
        self._is_holding = False
        self._faded_at = 0  # position at which a fade-out ended the audio
        self.end: int = 0  # position behind the last sample that was accepted

    async def open(self) -> AudioSource:
        """Return the SDK's audio source. The first call makes it, as it starts a thread."""
        if self._source is None:
            blocks = self._max_blocks + SPARE_BLOCKS
            self._source = AudioSource(WIRE_RATE, self._channels, blocks * 10)
            await self._find_phase(self._source, self._silence(blocks * BLOCK))
        return self._source

    async def _find_phase(self, source: AudioSource, capacity: Samples) -> None:
        probes: list[float] = []
        for _ in range(MAX_PROBES):
            await source.capture(capacity)
            await source.capture(capacity[:BLOCK])  # is answered at the next tick
            await source.wait_until_answered()
            source.clear()
            probes.append(source.answered_at)
            half = BLOCK_SECONDS / 2
            delays = sorted((probe - probes[0] + half) % BLOCK_SECONDS - half for probe in probes)
            if len(delays) > 1 and delays[1] - delays[0] < PHASE_TOLERANCE:
                break
        self._first_tick = probes[0] + delays[0]

    @property
    def position(self) -> int:
        """Position of the audio being played, or of the next sample while audio is held."""
        return self._captured_end - BLOCK * max(0, self._last_tick - self._tick())

    @property
    def seconds_queued(self) -> float:
        """Time until the last sample has been played (s), if none is held from now on."""
        return self._seconds_captured + (self.end - self._captured_end) / WIRE_RATE

    @property
    def _captured_end(self) -> int:
        """Position behind the last sample that was given to the SDK."""
        return self.end - sum(map(len, self._held))

    @property
    def _seconds_captured(self) -> float:
        """Time until the SDK's queue is empty (s)."""
        return max(0.0, self._time_of(self._last_tick) - time.perf_counter())

    @property
    def seconds_idle(self) -> float:
        """Time since the last sample was played (s)."""
        return max(0.0, time.perf_counter() - self._time_of(self._last_tick))

    def seconds_until(self, position: int) -> float:
        """Return the time until this position is played (s); the least time, if it is unknown."""
        captured = self._captured_end
        tick = self._last_tick - (captured - position) // BLOCK
        left = self._time_of(tick) - time.perf_counter()
        return max(left, BLOCK_SECONDS if position > captured else 0.0)

    async def play(self, samples: Samples, *, at_once: bool = False) -> None:
        """Queue whole blocks, once no more than `send_buffer` is queued.

        `at_once`: do not wait until it is certain which tick plays them. Every second such wait
        takes up to 5 ms, and so costs a tick. Without it, a later `cut` may be wrong by a block.
        """
        source = await self.open()
        await self.flush()
        await self._wait_for_room()
        async with self._lock:
            await source.wait_until_answered()
            if self._is_holding or self._held:
                self._held.append(samples)
                self.end += len(samples)
                return
            if not at_once:
                await self._between_ticks(only_if_empty=True)
            await self._capture(source, samples)
            self.end += len(samples)

    async def hold(self, since: float) -> None:
        """Take back what is queued, and what was played since a time (s of `perf_counter()`).

        Until `release`, nothing more is played.
        """
        async with self._lock:
            self._is_holding = True
            if (source := self._source) is None:
                return
            await source.wait_until_answered()
            source.clear()
            tick = min(self._tick(), self._tick(since))
            played, again = deque[_Captured](), deque[Samples]()
            for samples, last_tick in self._recent:
                split = max(0, len(samples) - BLOCK * max(0, last_tick - tick))
                if split:
                    played.append(_Captured(samples[:split], min(last_tick, tick)))
                if split < len(samples):
                    again.append(samples[split:])
            self._recent, self._held = played, again + self._held
            self._last_tick = min(self._last_tick, tick)

    def release(self) -> None:
        """Allow to play again; `flush`, and each `play`, begins with what was held."""
        self._is_holding = False

    async def flush(self) -> None:
        """Play what was held, paced as by `play`, unless it is held again."""
        while self._held and not self._is_holding:
            await self._wait_for_room()
            async with self._lock:
                if self._source is None:
                    return
                await self._source.wait_until_answered()
                await self._between_ticks(only_if_empty=True)
                await self._capture_held(self._source, WIRE_FRAME)

    async def drain(self) -> None:
        """Wait until everything that was accepted has been played."""
        while self.position < self.end:  # noqa: ASYNC110 - the SDK does not report its clock ticks
            await anyio.sleep(self.seconds_until(self.end))

    async def cut(self, start: int = 0, end: int | None = None) -> Cut:
        """Take the audio between two positions out of the queue, and fade out what is cut off.

        What has been played stays. `end` None: all of the audio from `start`.
        """
        async with self._lock:
            if (source := self._source) is None:
                return Cut(self.position, 0)
            await source.wait_until_answered()
            await self._between_ticks(only_if_empty=False)
            position = self.position
            first, last = max(start, position), self.end if end is None else min(end, self.end)
            # The next tick would follow the last sample with silence: a click. Fade out once.
            has_ended = self._last_tick == self._tick() and self.end != self._faded_at
            has_just_ended = has_ended and not self._is_holding
            if not (first < last or (first == last and end is None and has_just_ended)):
                return Cut(position, 0)
            is_playing = start <= position and not self._is_holding
            fade = BLOCK if is_playing else 0  # what has not begun needs no fade-out
            recent = np.concatenate(
                [self._silence(BLOCK), *(samples for samples, _ in self._recent), *self._held]
            )
            offset = self.end - len(recent)
            played = position - offset
            queued = fade_out(recent, first - offset, last - offset, fade)[played:]
            source.clear()
            moved = position + len(queued) - self.end
            self._last_tick = self._tick()
            self._recent = deque([_Captured(recent[:played], self._last_tick)])
            self._held = deque([queued] if len(queued) else ())
            self.end = position + len(queued)
            await self._capture_held(source, (self._max_blocks + SPARE_BLOCKS) * BLOCK)
            if end is None:
                self._faded_at = self.end
            return Cut(position, moved)

    async def aclose(self) -> None:
        async with self._lock:  # a `cut` under way must not clear a closed source
            source, self._source = self._source, None
            if source is not None:
                await source.aclose()

    async def _wait_for_room(self) -> None:
        """Wait until no more than `send_buffer` is in the SDK's queue."""
        limit = self._max_blocks * BLOCK_SECONDS
        await anyio.sleep(max(0.0, self._seconds_captured - limit))

    async def _capture_held(self, source: AudioSource, limit: int) -> None:
        """Capture the next samples that were held, up to a limit, unless they still are."""
        if self._held and not self._is_holding:
            samples = self._held[0]
            await self._capture(source, samples[:limit])
            self._held.popleft()
            if len(samples) > limit:
                self._held.appendleft(samples[limit:])

    async def _capture(self, source: AudioSource, samples: Samples) -> None:
        await source.capture(samples)
        self._last_tick = max(self._last_tick, self._tick()) + len(samples) // BLOCK
        self._recent.append(_Captured(samples, self._last_tick))
        while self._recent[0].last_tick < self._last_tick - self._max_blocks - HISTORY:
            self._recent.popleft()

    async def _between_ticks(self, *, only_if_empty: bool) -> None:
        """Wait until it is certain which tick is the next.

        `only_if_empty`: only if a tick found, or may find, an empty queue. Samples behind others
        are played after them, whichever tick is the next.
        """
        while True:
            tick, since = divmod(time.perf_counter() - self._first_tick, BLOCK_SECONDS)
            if EARLIEST <= since <= LATEST:
                return
            is_early = since < EARLIEST  # this tick may not have come yet
            if only_if_empty and self._last_tick >= (tick if is_early else tick + 1):
                return
            await anyio.sleep(EARLIEST - since + (0.0 if is_early else BLOCK_SECONDS))

    def _tick(self, at: float | None = None) -> int:
        """Return the number of the last tick, now or at a time of `perf_counter()`."""
        at = time.perf_counter() if at is None else at
        return math.floor((at - self._first_tick) / BLOCK_SECONDS)

    def _time_of(self, tick: int) -> float:
        return self._first_tick + tick * BLOCK_SECONDS

    def _silence(self, count: int) -> Samples:
        return np.zeros(count if self._channels == 1 else (count, self._channels), np.int16)
