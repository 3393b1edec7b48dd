"""`PreconnectAudio`: audio recorded by a client while it connected, received as a byte stream.

LiveKit's clients record while they connect, and send the recording to the agent that subscribes:
raw PCM from phones, Opus in WebM from browsers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import anyio

from .._errors import ConfigError
from .._logging import SessionLog
from .._sdk import rtc
from ..audio.converter import Converter
from ..audio.format import WIRE_FRAME, WIRE_RATE, Samples
from ..audio.framing import Framer, PcmDecoder

__all__ = ["PreconnectAudio"]

TOPIC = "lk.agent.pre-connect-audio-buffer"

# The recording is sent as soon as the track is subscribed to; a client that has none sends nothing.
TIMEOUT = 3.0
# Clients record 10 s at most, which is 1 MB. Of what is longer nothing is kept, and of what nobody
# has asked for yet no more than this many, and of one pump.
MAX_BYTES = 4_000_000
MAX_RECORDINGS, MAX_OF_ONE = 32, 2


class _Recording:
    def __init__(self) -> None:
        self.frames: list[Samples] = []
        self.complete = anyio.Event()


class PreconnectAudio:
    """Receives recordings, and gives each once.

    Args:
        log: The session's.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._recordings: dict[tuple[str, str], _Recording] = {}  # by track SID and pump

    def register(self, room: rtc.Room, start_soon: Callable[..., None]) -> None:
        """Takes the recordings that are sent in a room, in a task for each.

        Raises:
            ConfigError: Somebody else takes them.
        """
        try:
            room.register_byte_stream_handler(
                TOPIC, lambda reader, pump: start_soon(self._receive, reader, pump)
            )
        except ValueError:
            raise ConfigError(
                f"livekit: preconnect=True, but the room has a handler for {TOPIC} already"
            ) from None

    def unregister(self, room: rtc.Room) -> None:
        room.unregister_byte_stream_handler(TOPIC)

    async def sound_of(self, sid: str, pump: str) -> list[Samples]:
        """Waits for the recording of somebody's track; returns it as wire frames, or nothing."""
        recording = self._recording(sid, pump)
        with anyio.move_on_after(TIMEOUT):
            await recording.complete.wait()
        self._recordings.pop((sid, pump), None)
        if not recording.complete.is_set():
            self._log.warning("%r sent no pre-connect sound within %g s", pump, TIMEOUT)
        return recording.frames

    def _recording(self, sid: str, pump: str) -> _Recording:
        """Returns where a recording goes; where there are many, the oldest makes room for it."""
        recording = self._recordings.setdefault((sid, pump), _Recording())
        of_one = [key for key in self._recordings if key[1] == pump]
        if len(of_one) > MAX_OF_ONE:
            del self._recordings[of_one[0]]
        elif len(self._recordings) > MAX_RECORDINGS:
            del self._recordings[next(iter(self._recordings))]
        return recording

    async def _receive(self, reader: Any, pump: str) -> None:
        try:
            recording = self._recording(reader.info.attributes.get("trackId", ""), pump)
            try:
                recording.frames = await self._read(reader)
            except (ConfigError, KeyError, ValueError, ConnectionError) as error:
                self._log.warning("pre-connect sound of %r was not understood: %r", pump, error)
            recording.complete.set()
        finally:
            reader.close()

    async def _read(self, reader: Any) -> list[Samples]:
        """Reads a recording to its end, as wire frames."""
        mime_type, attributes = reader.info.mime_type, reader.info.attributes
        data = bytearray()
        async for chunk in reader:
            data += chunk
            if len(data) > MAX_BYTES:
                raise ConfigError(f"it is longer than {MAX_BYTES} bytes")
        if "webm" in mime_type or "ogg" in mime_type:
            container = "ogg" if "ogg" in mime_type else "webm"
            sound = await anyio.to_thread.run_sync(_decode, bytes(data), container)
        else:
            maker = PcmDecoder(int(attributes["sampleRate"]), int(attributes["channels"]))
            frame = maker.push(bytes(data))
            maker.finish()
            converter = Converter(WIRE_RATE)
            sound = [converter.push(frame.samples, frame.sample_rate)] if frame is not None else []
            sound.append(converter.finish())
        framer = Framer(WIRE_FRAME)
        frames = [wire_frame for samples in sound for wire_frame in framer.push(samples)]
        return [*frames, framer.take()] if framer.held else frames


def _decode(data: bytes, container: str) -> list[Samples]:
    """Returns what a browser has recorded: mono, at the wire's rate.

    Raises:
        ConfigError: PyAV is not installed, or does not understand it.
    """
    try:
        import av  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            f"it is {container}; to decode that: pip install 'beluga-livekit[preconnect]'"
        ) from None
    resampler = av.AudioResampler(format="s16", layout="mono", rate=WIRE_RATE)
    sound: list[Samples] = []
    try:
        with av.open(io.BytesIO(data), "r", format=container) as recording:
            for frame in (*recording.decode(audio=0), None):
                sound += [each.to_ndarray()[0] for each in resampler.resample(frame)]
    except (av.FFmpegError, IndexError) as error:
        raise ConfigError(f"it is no {container}: {error}") from None
    return sound
