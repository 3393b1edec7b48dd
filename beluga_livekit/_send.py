"""From tx to the track: one pump, paced by the SDK's own queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from . import _rtc
from ._config import SessionOptions
from ._converter import Converter, Framer
from ._frame import AudioFrame
from ._log import SessionLog
from ._mixer import Samples, crossfade

__all__ = ["SendStream", "Sender"]

# The SDK plays in steps of 10 ms; what is shorter sticks in its queue until more comes.
STEP = _rtc.WIRE_RATE // 100
# What is left of a sound is padded to a whole step only when the SDK's queue has at most this
# much left: padded at once, 3.02 s of 7 ms frames became 4.32 s full of holes.
PAD_AT = 0.003
# ... and not before a producer in real time, whose queue is always about to run dry, has had the
# time of one and a half of its frames for the next one, up to this much.
PATIENCE = 0.03
# A producer that the pump had to wait for all of this time, in seconds, is in real time; and so is
# one that sends on what was heard: those frames say when that was. What the SDK's queue never fell
# below meanwhile is only late, and all of it but this much is shed.
STANDING = 1.0
KEEP = 0.005


class SendStream(MemoryObjectSendStream[AudioFrame]):
    """tx: anyio's memory object stream, which refuses what is no frame and tells why it ended."""

    def __init__(self, state: Any, why: Callable[[], Exception]) -> None:
        super().__init__(state)
        self._why = why

    def send_nowait(self, item: AudioFrame) -> None:
        if not isinstance(item, AudioFrame):
            raise TypeError(
                "tx takes beluga_livekit.AudioFrame, got "
                f"{type(item).__module__}.{type(item).__qualname__}; "
                "make one of its PCM: AudioFrame(pcm, sample_rate, num_channels)"
            )
        try:
            super().send_nowait(item)
        except anyio.BrokenResourceError:
            raise self._why() from None

    async def send(self, item: AudioFrame) -> None:
        try:
            await super().send(item)
        except anyio.BrokenResourceError:
            raise self._why() from None

    def clone(self) -> Self:
        if self._closed:
            raise anyio.ClosedResourceError
        return type(self)(self._state, self._why)


class Sender:
    """Plays what is sent to `tx`.

    `tx` holds no frames: a send returns when the pump takes the frame, and the pump waits for the
    SDK's queue, so a producer is never further ahead than one frame and `send_buffer`.

    Args:
        options: The session's.
        why: Returns what a send to an ended session raises.
        log: The session's.
    """

    def __init__(
        self, options: SessionOptions, why: Callable[[], Exception], log: SessionLog
    ) -> None:
        self._options = options
        self._log = log
        send, self._accept = anyio.create_memory_object_stream[AudioFrame](0)
        self.tx = SendStream(send._state, why)  # noqa: SLF001 - a subclass has no other way in
        send.close()
        self._converter = Converter(_rtc.WIRE_RATE, _rtc.wire_channels(options.num_channels))
        self._framer = Framer(_rtc.WIRE_FRAME)
        self._source: _rtc.AudioSource | None = None
        self._stopped = anyio.CancelScope()
        self._flowing = anyio.Event()  # replaced while the connection is away
        self._held = anyio.Event()  # the other way round
        self._heard = anyio.Event()
        self._settled = anyio.Event()  # nothing of a sound is left to be handed to the SDK
        self._patience = 0.0  # seconds
        self._starved_since: float | None = None  # time.monotonic()
        self._standing = 0.0  # seconds: the least that was in the SDK's queue since
        self._shorten = 0  # steps to be shed
        self._done = False
        self._captured = 0  # samples per channel
        self._shed = 0
        self.plays_until = 0.0
        """When the last sound leaves the SDK's queue, in seconds of `time.monotonic()`."""

    @property
    def source(self) -> _rtc.AudioSource:
        """The SDK's end: made when first asked for, as its native thread is."""
        if self._source is None:
            self._source = _rtc.new_source(self._options)
        return self._source

    @property
    def seconds_sent(self) -> float:
        return self._captured / _rtc.WIRE_RATE

    @property
    def seconds_shed(self) -> float:
        return self._shed / _rtc.WIRE_RATE

    @property
    def seconds_queued(self) -> float:
        return self._source.queued_duration if self._source is not None else 0.0

    async def run(self) -> None:
        """Plays until tx and its clones are closed, or `finish` or `stop` was called."""
        try:
            with self._stopped:
                await self._play_all()
        finally:
            self._done = True
            self._accept.close()
            self._settled.set()

    async def _play_all(self) -> None:
        while (frame := await self._next()) is not None:
            sound = self._converter.push(frame.samples, frame.sample_rate)
            await self._play(self._framer.push(sound))
            if self._framer.held >= STEP:
                rest = self._framer.take()
                await self._play([rest[:STEP]])
                self._framer.push(rest[STEP:])
        await self._pad()

    @property
    def is_done(self) -> bool:
        """Whether nothing will be sent any more."""
        return self._done

    @property
    def is_flowing(self) -> bool:
        return self._flowing.is_set()

    def hold(self) -> None:
        """The connection is away: keeps what comes instead of playing into nothing."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()
        self._held.set()

    def release(self) -> None:
        """The connection is there, or back."""
        if self._held.is_set():
            self._held = anyio.Event()
        self._flowing.set()

    async def wait_until_held(self, seconds: float) -> None:
        """Waits until the connection is away, and has been for this long."""
        while True:
            await self._held.wait()
            with anyio.move_on_after(seconds):
                await self._flowing.wait()
                continue
            return

    def heard(self) -> None:
        """Somebody listens: the first frame need not wait any longer."""
        self._heard.set()

    def unheard(self) -> None:
        """Nobody listens, as the track is new: the next frame is a first one."""
        if self._heard.is_set():
            self._heard = anyio.Event()

    def finish(self) -> None:
        """Accepts nothing more; `run` returns when it has handed over what was accepted."""
        self._accept.close()

    def stop(self) -> None:
        """Accepts nothing more, and drops what was accepted: there is nowhere to play it."""
        self._accept.close()
        self._stopped.cancel()

    async def wait_for_playout(self) -> None:
        """Waits until what was accepted has left the SDK's queue."""
        while not self._idle() or self.seconds_queued > 0:
            await self._settled.wait()
            await anyio.sleep(self.seconds_queued)

    async def aclose(self) -> None:
        self._accept.close()
        if self._source is not None:
            await self._source.aclose()

    async def _audience(self) -> None:
        """Waits for the connection, and for somebody who listens."""
        while True:
            await self._flowing.wait()  # where a cancellation is noticed: a capture has no place
            if self._heard.is_set():
                return
            await self._wait_for_listener()

    async def _wait_for_listener(self) -> None:
        timeout = self._options.listener_timeout
        with anyio.move_on_after(timeout) as scope:
            await self._heard.wait()
        if scope.cancelled_caught and timeout > 0:
            self._log.warning("nobody has subscribed within %g s, sending anyway", timeout)
        self._heard.set()

    def _idle(self) -> bool:
        # A send to a waiting pump returns before the pump has run: only a pump that waits, with
        # nothing held, has nothing to play.
        waits = self._accept.statistics().tasks_waiting_receive > 0
        return self._done or (self._settled.is_set() and waits)

    async def _next(self) -> AudioFrame | None:
        """Returns the next frame, or None after the last."""
        try:
            while True:
                with suppress(anyio.WouldBlock):
                    frame = self._take(self._accept.receive_nowait())
                    if frame.timestamp is not None:
                        return self._heal(frame)
                    self._starved_since = None
                    return frame
                if not (self._converter.holds_sound or self._framer.held):
                    self._settled.set()
                    return self._heal(self._take(await self._accept.receive()))
                with anyio.move_on_after(max(self.seconds_queued - PAD_AT, self._patience)):
                    return self._heal(self._take(await self._accept.receive()))
                await self._pad()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return None

    def _take(self, frame: AudioFrame) -> AudioFrame:
        if self._settled.is_set():
            self._settled = anyio.Event()
        self._patience = min(1.5 * frame.duration, PATIENCE)
        return frame

    def _heal(self, frame: AudioFrame) -> AudioFrame:
        """Notes how much was queued before this frame of a producer in real time."""
        now, queued = time.monotonic(), self.seconds_queued
        if self._starved_since is None:
            self._starved_since, self._standing = now, queued
        self._standing = min(self._standing, queued)
        if now - self._starved_since >= STANDING:
            self._shorten = max(0, int((self._standing - KEEP) * _rtc.WIRE_RATE / STEP))
            self._starved_since = None
        return frame

    async def _pad(self) -> None:
        """Plays what is left of a sound that has ended, up to a whole step."""
        await self._play(self._framer.push(self._converter.finish()))
        if self._framer.held:
            await self._play([self._framer.take(STEP)])

    async def _play(self, cuts: list[Samples]) -> None:
        for samples in cuts:
            await self._audience()
            if self._shorten and len(samples) == 2 * STEP:
                self._shorten -= 1
                self._shed += STEP
                samples = crossfade(samples[:STEP], samples[STEP:])  # noqa: PLW2901
            await _rtc.capture(self.source, samples)
            self._captured += len(samples)
            self.plays_until = time.monotonic() + self.seconds_queued
