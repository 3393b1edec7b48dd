"""`PreconnectAudio`: audio recorded by a client while it connected, received as a byte stream.

Clients send it to the agent that subscribes: raw PCM from phones, Opus in WebM from browsers.
"""

import io
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import anyio
import numpy as np

from .._errors import ConfigError
from .._logging import SessionLog
from .._sdk import rtc
from ..audio.converter import Converter
from ..audio.format import WIRE_FRAME, WIRE_RATE, Samples
from ..audio.framing import PcmDecoder

TOPIC = "lk.agent.pre-connect-audio-buffer"

# Timeout for a recording (s). A client sends it as soon as its track is subscribed to; a client
# without a recording sends nothing.
TIMEOUT = 3.0
# Limit of a recording (bytes); a longer one is refused. Clients record at most 10 s, which is 1 MB.
MAX_BYTES = 4_000_000
# Limits of the recordings kept until `audio_of` asks for them: of all participants, and of one.
MAX_RECORDINGS, MAX_OF_ONE = 32, 2


_Recording = tuple[anyio.Event, list[Samples]]  # set when the wire frames are complete


class PreconnectAudio:
    """Receives the recordings of a room, and returns each once."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._recordings: dict[tuple[str, str], _Recording] = {}  # by track SID and identity

    def register(self, room: rtc.Room, start_soon: Callable[..., None]) -> None:
        """Receive a room's recordings, or raise `ConfigError` if it has a handler for them."""
        try:
            room.register_byte_stream_handler(TOPIC, partial(start_soon, self._receive))
        except ValueError:
            reason = f"the room has a handler for {TOPIC} already; unregister it"
            raise ConfigError(f"livekit: pre_connect_audio=True failed: {reason}") from None

    def unregister(self, room: rtc.Room) -> None:
        room.unregister_byte_stream_handler(TOPIC)

    async def audio_of(self, sid: str, identity: str) -> list[Samples]:
        """Wait for the recording of a participant's track; return its wire frames, or none."""
        complete, frames = self._recording(sid, identity)
        with anyio.move_on_after(TIMEOUT):
            await complete.wait()
        self._recordings.pop((sid, identity), None)
        if not complete.is_set():
            message = "receiving pre-connect audio of %r failed: none within %g s"
            self._log.warning(message, identity, TIMEOUT)
        return frames

    def _recording(self, sid: str, identity: str) -> _Recording:
        """Return the recording of a track; beyond a limit, discard the oldest."""
        recording = self._recordings.setdefault((sid, identity), (anyio.Event(), []))
        of_one = [key for key in self._recordings if key[1] == identity]
        if len(of_one) > MAX_OF_ONE:
            del self._recordings[of_one[0]]
        elif len(self._recordings) > MAX_RECORDINGS:
            del self._recordings[next(iter(self._recordings))]
        return recording

    async def _receive(self, reader: Any, identity: str) -> None:
        with closing(reader):
            sid = reader.info.attributes.get("trackId", "")
            complete, frames = self._recording(sid, identity)
            try:
                frames[:] = await self._read(reader)  # a client may send it twice
            except (KeyError, ValueError, ConnectionError) as error:  # of its format or transfer
                self._log.warning("decoding pre-connect audio of %r failed: %r", identity, error)
            complete.set()

    async def _read(self, reader: Any) -> list[Samples]:
        """Read a recording to its end; return it as wire frames."""
        mime_type, attributes = reader.info.mime_type, reader.info.attributes
        data = bytearray()
        async for chunk in reader:
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"longer than {MAX_BYTES} bytes")
        if "webm" in mime_type or "ogg" in mime_type:
            container = "ogg" if "ogg" in mime_type else "webm"
            audio = await anyio.to_thread.run_sync(_decode, bytes(data), container)
        else:
            decoder = PcmDecoder(int(attributes["sampleRate"]), int(attributes["channels"]))
            frame = decoder.push(bytes(data))
            decoder.finish()
            converter = Converter(WIRE_RATE)
            audio = [converter.push(frame.samples, frame.sample_rate)] if frame is not None else []
            audio.append(converter.finish())
        whole = np.concatenate([np.empty(0, np.int16), *audio])
        return [whole[at : at + WIRE_FRAME] for at in range(0, len(whole), WIRE_FRAME)]


def _decode(data: bytes, container: str) -> list[Samples]:
    """Decode a browser's recording to mono at the wire's rate, or raise `ValueError`."""
    try:
        import av  # noqa: PLC0415 - an extra
    except ImportError:
        remedy = "install it: pip install 'beluga-livekit[preconnect]'"
        raise ValueError(f"{container} needs PyAV; {remedy}") from None
    resampler = av.AudioResampler(format="s16", layout="mono", rate=WIRE_RATE)
    audio: list[Samples] = []
    try:
        with av.open(io.BytesIO(data), "r", format=container) as recording:
            for frame in (*recording.decode(audio=0), None):
                audio += [each.to_ndarray()[0] for each in resampler.resample(frame)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not decodable as {container}: {error}") from None
    return audio
