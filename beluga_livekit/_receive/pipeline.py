"""`ReceivePipeline`: what one stream of frames hears, in its own format, mixed or told apart."""

from __future__ import annotations

import time

import anyio
import numpy as np

from .._logging import SessionLog
from .._options import ReceiveOptions
from .._room.state import Track
from ..audio.converter import Converter
from ..audio.format import WIRE_FRAME_MS, WIRE_RATE, Samples
from ..audio.frame import AudioFrame
from ..audio.framing import Framer
from ..audio.track_mixer import TrackMixer
from .frame_buffer import FrameBuffer

__all__ = ["ReceivePipeline"]

# Whoever asks for frames as short as this, in seconds, wants them as soon as they are there: a
# track is read in halves of a wire frame then, which comes 10 ms sooner and costs more CPU. (Half
# a frame would only wait for its other half otherwise.)
SHORT = 0.01


class _FormatPipeline:
    """Sound on its way from the wire's format into frames; None is the one for all."""

    def __init__(self, options: ReceiveOptions, key: str | None) -> None:
        self.key = key
        self.converter = Converter(options.sample_rate, options.num_channels)
        self.framer = Framer(options.samples_per_frame)


class ReceivePipeline:
    """Puts what is heard of the tracks that it wants into `queue`.

    Once something was heard it goes on, in real time, until it is closed: a track that is muted or
    has nothing to say delivers silence by itself (50 frames a second of zeros; measured with
    livekit-server 1.13), and while there is no track at all the listener does.

    Args:
        options: Whom it hears, and in which format.
        log: The session's.
        name: What it is, for the log.
    """

    def __init__(self, options: ReceiveOptions, log: SessionLog, name: str = "rx") -> None:
        self.options = options
        self.queue = FrameBuffer(options.receive_buffer, options.max_delay, log, name)
        short = options.samples_per_frame / options.sample_rate <= SHORT
        self.wire_ms = WIRE_FRAME_MS // 2 if short else WIRE_FRAME_MS
        self._mixer = TrackMixer()
        self._lanes: dict[str | None, _FormatPipeline] = {}
        self._tracks: dict[str, str] = {}  # identities by SID, of those that have delivered sound
        self._heard_until: float | None = None  # time.monotonic() at the end of the last sound
        self._changed = anyio.Event()
        self._closed = False
        self.frames_received = 0
        self.seconds_received = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether anybody reads it."""
        return not self._closed and self.queue.has_reader

    def hear(self, track: Track, samples: Samples, now: float, *, apart: bool = False) -> None:
        """Takes a wire frame of a track, which was read just now.

        Args:
            track: Which.
            samples: At the wire's rate, shape (n,) or (n, 2).
            now: In seconds of `time.monotonic()`.
            apart: Whether it was said before, so that it is not mixed with what others say now.
        """
        if track.sid not in self._tracks:
            self._tracks[track.sid] = track.participant
            self._changed.set()
        if not self.options.mix:
            self._put(self._lane(track.sid), samples, now, (track.sid,))
        elif apart:
            self._put(self._lane(None), samples, now, (track.sid,))
        else:
            for mixed in self._mixer.push(track.sid, samples, now):
                self._put(self._lane(None), mixed.samples, now, mixed.tracks)

    def lose(self, sid: str) -> None:
        """A track has ended, or is not wanted any more."""
        if sid not in self._tracks:
            return
        now = self._heard_until or time.monotonic()
        for mixed in self._mixer.remove(sid):
            self._put(self._lane(None), mixed.samples, now, mixed.tracks)
        if (lane := self._lanes.pop(sid, None)) is not None:
            self._finish(lane, now)
        del self._tracks[sid]
        self._changed.set()

    async def fill_silence(self) -> None:
        """Goes on where there is no track, until nobody reads any more."""
        silence = np.zeros(WIRE_RATE * self.wire_ms // 1000, np.int16)
        while self.is_wanted:
            self._changed = anyio.Event()
            if self._tracks or self._heard_until is None:
                await self._changed.wait()
                continue
            with anyio.move_on_after(self._heard_until - time.monotonic()):
                await self._changed.wait()
            if not self._changed.is_set():
                self._put(self._lane(None), silence, self._heard_until, ())

    def close(self) -> None:
        """Ends the stream: what waits can still be read."""
        self._closed = True
        self.queue.close()
        self._changed.set()

    def _lane(self, key: str | None) -> _FormatPipeline:
        if key not in self._lanes:
            self._lanes[key] = _FormatPipeline(self.options, key)
        return self._lanes[key]

    def _put(
        self, lane: _FormatPipeline, samples: Samples, now: float, tracks: tuple[str, ...]
    ) -> None:
        self._heard_until = now + len(samples) / WIRE_RATE
        for cut in lane.framer.push(lane.converter.push(samples, WIRE_RATE)):
            self._deliver(lane, cut, now, tracks)

    def _finish(self, lane: _FormatPipeline, now: float) -> None:
        """Delivers the end of a track that has a lane of its own."""
        rest = lane.framer.push(lane.converter.finish())
        if lane.framer.held:
            rest.append(lane.framer.take(self.options.samples_per_frame))
        for cut in rest:
            self._deliver(lane, cut, now, (lane.key,) if lane.key is not None else ())

    def _deliver(
        self, lane: _FormatPipeline, samples: Samples, now: float, tracks: tuple[str, ...]
    ) -> None:
        if not self.is_wanted:
            return
        speakers = {self._tracks.get(sid) for sid in tracks}
        frame = AudioFrame(
            samples.tobytes(),
            self.options.sample_rate,
            self.options.num_channels,
            participant=speakers.pop() if len(speakers) == 1 else None,
            track_sid=tracks[0] if len(tracks) == 1 else None,
            timestamp=now,
        )
        self.frames_received += 1
        self.seconds_received += frame.duration
        self.queue.put(frame, lane.key)
