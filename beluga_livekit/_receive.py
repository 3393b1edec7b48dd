"""From tracks to rx: a reader for each track, and silence where there is none."""

from __future__ import annotations

import time
from contextlib import aclosing

import anyio
import numpy as np
from anyio.abc import TaskGroup, TaskStatus

from . import _rtc
from ._config import SessionOptions
from ._converter import Converter, Framer
from ._frame import AudioFrame
from ._log import SessionLog
from ._mixer import Samples
from ._queue import FrameQueue

__all__ = ["Receiver"]

# Whoever asks for frames as short as this, in seconds, wants them as soon as they are there: the
# track is read in halves of a wire frame then, which comes 10 ms sooner and costs more CPU.
SHORT = 0.01


class Receiver:
    """Reads the tracks that it is told of and puts their sound into `queue`.

    A reader never waits for the user. Once something was heard rx goes on, in real time, until
    the session ends: a track that is muted or has nothing to say delivers silence by itself (50
    frames a second of zeros; measured with livekit-server 1.13), and while there is no track at
    all the receiver does.
    """

    def __init__(self, options: SessionOptions, log: SessionLog) -> None:
        self._options = options
        self._log = log
        self.queue = FrameQueue(options.receive_buffer, options.max_delay, log)
        self._readers: dict[str, anyio.CancelScope] = {}  # by track SID
        self._heard: set[str] = set()  # the tracks of them that have delivered sound
        self._tasks: TaskGroup | None = None
        self._heard_until: float | None = None  # time.monotonic() at the end of the last frame
        self._changed = anyio.Event()
        self.abandoned = anyio.Event()
        """Set when the last clone of rx has been closed."""
        self.frames_received = 0
        self.seconds_received = 0.0

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Reads until cancelled; from the moment it has started, `start` can be called."""
        try:
            async with anyio.create_task_group() as self._tasks:
                task_status.started()
                await self._fill_silence()
        finally:
            self._tasks = None

    def start(self, track: _rtc.Track, sid: str, participant: str, num_channels: int) -> None:
        """Begins to read a track, if `run` runs; a second time under one SID does nothing."""
        if self._tasks is None or sid in self._readers or self.abandoned.is_set():
            return
        stopped = self._readers[sid] = anyio.CancelScope()
        self._tasks.start_soon(self._read, stopped, track, sid, participant, num_channels)

    def stop(self, sid: str) -> None:
        """Stops reading a track, if it is read."""
        if sid in self._readers:
            self._readers[sid].cancel()
            self._forget(sid)

    def stop_all(self) -> None:
        """Stops reading all tracks; from there `queue` gets silence."""
        for sid in list(self._readers):
            self.stop(sid)

    def close(self) -> None:
        self.queue.close()

    async def _read(
        self,
        stopped: anyio.CancelScope,
        track: _rtc.Track,
        sid: str,
        participant: str,
        num_channels: int,
    ) -> None:
        options = self._options
        converter = Converter(options.sample_rate, options.num_channels)
        framer = Framer(options.samples_per_frame)
        # Half a frame would only wait for its other half.
        short = options.samples_per_frame / options.sample_rate <= SHORT
        wire_ms = _rtc.WIRE_FRAME_MS // 2 if short else _rtc.WIRE_FRAME_MS
        now = time.monotonic()
        try:
            with stopped:
                async with aclosing(_rtc.read_track(track, num_channels, wire_ms)) as wire_frames:
                    async for samples in wire_frames:
                        now = time.monotonic()
                        if self._readers.get(sid) is stopped and sid not in self._heard:
                            self._heard.add(sid)
                            self._changed.set()
                        for cut in framer.push(converter.push(samples, _rtc.WIRE_RATE)):
                            self._deliver(cut, now, participant, sid)
        except Exception:  # noqa: BLE001 - one bad track must not take the others' sound away
            self._log.exception("track %s of %r could not be read", sid, participant)
        if stopped.cancelled_caught and (converter.holds_sound or framer.held):
            rest = framer.push(converter.finish())
            if framer.held:
                rest.append(framer.take(options.samples_per_frame))
            for cut in rest:
                self._deliver(cut, now, participant, sid)
        if self._readers.get(sid) is stopped:
            self._forget(sid)

    def _forget(self, sid: str) -> None:
        del self._readers[sid]
        self._heard.discard(sid)
        self._changed.set()

    def _deliver(
        self, samples: Samples, now: float, participant: str | None, sid: str | None
    ) -> None:
        if not self.queue.has_reader:
            self.abandoned.set()
            return
        frame = AudioFrame(
            samples.tobytes(),
            self._options.sample_rate,
            self._options.num_channels,
            participant=participant,
            track_sid=sid,
            timestamp=now,
        )
        self.frames_received += 1
        self.seconds_received += frame.duration
        self._heard_until = now + frame.duration
        self.queue.put(frame)

    async def _fill_silence(self) -> None:
        size, channels = self._options.samples_per_frame, self._options.num_channels
        silence = np.zeros(size if channels == 1 else (size, channels), np.int16)
        while not self.abandoned.is_set():
            self._changed = anyio.Event()
            if self._heard or self._heard_until is None:
                await self._changed.wait()
                continue
            with anyio.move_on_after(self._heard_until - time.monotonic()):
                await self._changed.wait()
                continue
            self._deliver(silence, self._heard_until, None, None)
