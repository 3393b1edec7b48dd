"""`ReceivePipeline`: mixes (or separates) tracks, converts, cuts and buffers their audio."""

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

# Frame duration (s) up to which tracks are read in half wire frames. That delivers 10 ms sooner and
# costs more CPU. With longer frames, a half would only wait for its other half.
SHORT_FRAME = 0.01


class ReceivePipeline:
    """Turns the wire frames of tracks into frames in `buffer`, whose `rx` is one receive stream.

    The stream is continuous, in real time, from its first frame until it is closed. A muted or
    silent track delivers silence by itself (50 frames of zeros a second; measured with
    livekit-server 1.13). While no track is read, `fill_silence` delivers it.
    """

    def __init__(
        self,
        options: ReceiveOptions,
        log: SessionLog,
        name: str = "rx",
        remedy: str = "read it, or close it",
    ) -> None:
        self.options = options
        self.buffer: FrameBuffer = FrameBuffer(
            options.receive_buffer, options.max_delay, log, name, remedy
        )
        is_short = options.samples_per_frame / options.sample_rate <= SHORT_FRAME
        self.frame_ms = WIRE_FRAME_MS // (2 if is_short else 1)  # of the wire frames to be pushed
        self._mixer = TrackMixer()
        self._formats: dict[str | None, tuple[Converter, Framer]] = {}  # None: the mix
        self._tracks: dict[str, str] = {}  # identities by SID, of the tracks pushed so far
        self._audio_until: float | None = None  # time.monotonic() at the end of the last audio
        self._changed = anyio.Event()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether the stream is not closed and has a reader."""
        return not self._closed and self.buffer.has_reader

    def push(self, track: Track, samples: Samples, now: float, *, separate: bool = False) -> None:
        """Add a wire frame, shape (n,) or (n, 2), read at the time `now` (s) of `time.monotonic()`.

        Audio that is older than that of the other tracks is `separate`: not mixed with theirs.
        """
        if track.sid not in self._tracks:
            self._tracks[track.sid] = track.participant
            self._changed.set()
        if self.options.mix and not separate:
            for mixed in self._mixer.push(track.sid, samples, now):
                self._put(None, mixed.samples, now, mixed.tracks)
        else:
            self._put(None if self.options.mix else track.sid, samples, now, (track.sid,))

    def remove(self, sid: str) -> None:
        """End a track; what is held of it is put into the stream."""
        if sid not in self._tracks:
            return
        now = self._audio_until or time.monotonic()
        for mixed in self._mixer.remove(sid):
            self._put(None, mixed.samples, now, mixed.tracks)
        if sid in self._formats:
            converter, framer = self._formats.pop(sid)
            rest = framer.push(converter.finish())
            if framer.held:
                rest.append(framer.take(self.options.samples_per_frame))
            self._deliver(sid, rest, now, (sid,))
        del self._tracks[sid]
        self._changed.set()

    async def fill_silence(self) -> None:
        """Continue the stream with silence while it has no track, until it is no longer open."""
        silence = np.zeros(WIRE_RATE * self.frame_ms // 1000, np.int16)
        while self.is_open:
            self._changed = anyio.Event()
            if self._tracks or self._audio_until is None:
                await self._changed.wait()
                continue
            with anyio.move_on_after(self._audio_until - time.monotonic()):
                await self._changed.wait()
            if not self._changed.is_set():
                self._put(None, silence, self._skip_missed(self._audio_until), ())

    def _skip_missed(self, since: float) -> float:
        """Return when silence continues: `since` (s), or `receive_buffer` ago if that is later.

        A process that was suspended for an hour would otherwise deliver 180,000 frames at once.
        """
        missed = time.monotonic() - since - self.options.receive_buffer
        if missed <= 0:
            return since
        frame = self.options.samples_per_frame / self.options.sample_rate
        self.buffer.skip(missed, round(missed / frame))
        return since + missed

    def close(self) -> None:
        """End the stream: unread frames can still be read."""
        self._closed = True
        self.buffer.close()
        self._changed.set()

    def _put(self, track: str | None, samples: Samples, now: float, sids: tuple[str, ...]) -> None:
        """Convert and cut the audio of a track, or of the mix of these tracks, and deliver it."""
        self._audio_until = now + len(samples) / WIRE_RATE
        if track not in self._formats:
            converter = Converter(self.options.sample_rate, self.options.num_channels)
            self._formats[track] = converter, Framer(self.options.samples_per_frame)
        converter, framer = self._formats[track]
        frames = framer.push(converter.push(samples, WIRE_RATE))
        self._deliver(track, frames, now, sids)

    def _deliver(
        self, track: str | None, frames: list[Samples], now: float, sids: tuple[str, ...]
    ) -> None:
        participants = {self._tracks.get(sid) for sid in sids}
        for samples in frames if self.is_open else ():
            frame = AudioFrame(
                samples.tobytes(),
                self.options.sample_rate,
                self.options.num_channels,
                participant=next(iter(participants)) if len(participants) == 1 else None,
                track_sid=sids[0] if len(sids) == 1 else None,
                timestamp=now,
            )
            self.buffer.put(frame, track)
