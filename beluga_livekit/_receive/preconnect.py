"""`PreconnectAudio`: audio recorded by a client while it connected, received as a byte stream.

Clients send it to the agent that subscribes: raw PCM from phones, Opus in WebM from browsers. Any
participant may send anything, so each step is bounded: the streams received at once, their time and
bytes, the audio that they decode to, the recordings kept, and the warnings.
"""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import anyio

from .._errors import ConfigError
from .._logging import MAX_NAME, SessionLog
from .._sdk import rtc
from ..audio.format import Samples
from .recording import MAX_BYTES, decode_recording

TOPIC = "lk.agent.pre-connect-audio-buffer"

# Timeout for a recording (s). A client sends it as soon as its track is subscribed to; a client
# without a recording sends nothing.
TIMEOUT = 3.0
# Timeout for receiving one (s). A client begins to send when the agent is active, or when it has
# subscribed; after TIMEOUT from the track's first audio no reader waits for the recording.
RECEPTION_TIMEOUT = 2 * TIMEOUT
# Limits of the recordings received at once and of those kept until `audio_of` asks for them, each
# of all participants and of one. Received, each takes up to MAX_BYTES; kept, up to 1.5 MB.
MAX_RECEPTIONS, MAX_RECORDINGS, MAX_OF_ONE = 16, 32, 2
# Limit of the identities whose first warning is remembered: it is the only one that is logged.
MAX_WARNED = 100
# Limit of an error in a warning (characters): some hold a part of the recording.
MAX_ERROR = 200

_Recording = tuple[anyio.Event, list[Samples]]  # set when the wire frames are complete


class _Reception(NamedTuple):
    """A byte stream that is received: cancelled at a deadline, or when the room is left."""

    reader: Any
    identity: str
    scope: anyio.CancelScope


class PreconnectAudio:
    """Receives the recordings of a room, and returns each once."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._receptions: list[_Reception] = []
        self._decoding = anyio.CapacityLimiter(1)  # one at a time, of all
        self._recordings: dict[tuple[str, str], _Recording] = {}  # by track SID and identity
        self._warned: deque[str] = deque(maxlen=MAX_WARNED)  # identities

    def register(self, room: rtc.Room, start_soon: Callable[..., None]) -> None:
        """Receive a room's recordings, or raise `ConfigError` if it has a handler for them."""
        try:
            room.register_byte_stream_handler(TOPIC, partial(self._open, start_soon))
        except ValueError:
            reason = f"the room has a handler for {TOPIC} already; unregister it"
            raise ConfigError(f"livekit: pre_connect_audio=True failed: {reason}") from None

    def unregister(self, room: rtc.Room) -> None:
        """Receive no more recordings, and close the streams that are being received."""
        room.unregister_byte_stream_handler(TOPIC)
        for reception in self._receptions:
            reception.scope.cancel()
            reception.reader.close()
        self._receptions.clear()

    async def audio_of(self, sid: str, identity: str) -> list[Samples]:
        """Wait for the recording of a participant's track; return its wire frames, or none."""
        complete, frames = self._recording(sid, identity)
        with anyio.move_on_after(TIMEOUT):
            await complete.wait()
        self._recordings.pop((sid, identity), None)
        if not complete.is_set():
            self._warn("receiving", identity, f"none within {TIMEOUT:g} s")
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

    def _open(self, start_soon: Callable[..., None], reader: Any, identity: str) -> None:
        """Receive a stream. Beyond a limit, close it at once: its queue is not bounded.

        A stream that is open costs a filter for each native event of the process, too.
        """
        of_one = sum(each.identity == identity for each in self._receptions)
        if of_one >= MAX_OF_ONE or len(self._receptions) >= MAX_RECEPTIONS:
            reader.close()
            self._warn("receiving", identity, "too many streams at once")
            return
        scope = anyio.CancelScope(deadline=anyio.current_time() + RECEPTION_TIMEOUT)
        reception = _Reception(reader, identity, scope)
        self._receptions.append(reception)
        start_soon(self._receive, reception)

    async def _receive(self, reception: _Reception) -> None:
        reader, identity, scope = reception
        complete, frames = self._recording(reader.info.attributes.get("trackId", ""), identity)
        with closing(reader):
            try:
                with scope:
                    frames[:] = await self._read(reader)  # a client may send it twice
            except Exception as error:  # noqa: BLE001 - bytes of others must not end the session
                self._warn("decoding", identity, repr(error)[:MAX_ERROR])
        complete.set()
        if reception in self._receptions:  # unless the room was left meanwhile
            self._receptions.remove(reception)
            if scope.cancelled_caught:
                self._warn("receiving", identity, f"not complete within {RECEPTION_TIMEOUT:g} s")

    async def _read(self, reader: Any) -> list[Samples]:
        """Read a recording to its end; return it as wire frames."""
        data = bytearray()
        async for chunk in reader:
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"longer than {MAX_BYTES} bytes")
        decode = partial(decode_recording, bytes(data), reader.info.mime_type)
        return await anyio.to_thread.run_sync(
            decode, reader.info.attributes, limiter=self._decoding
        )

    def _warn(self, operation: str, identity: str, reason: str) -> None:
        """Log that an operation failed, once for each participant."""
        if identity not in self._warned:
            self._warned.append(identity)
            message = "%s pre-connect audio of %r failed: %s"
            self._log.warning(message, operation, identity[:MAX_NAME], reason)
