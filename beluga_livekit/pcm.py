"""Streams of frames as anyio byte streams of raw PCM: for sockets, subprocesses and files."""

import copy

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ObjectReceiveStream, ObjectSendStream

from .audio.format import check_positive
from .audio.frame import AudioFrame
from .audio.framing import PcmDecoder

__all__ = ["PcmReceiveStream", "PcmSendStream"]


class PcmSendStream(ByteSendStream):
    """Sends raw PCM, in chunks of any size, as frames.

    Closing it closes `tx`. To keep `tx` open, give it a clone. Use one for each continuous piece of
    PCM: half a sample that one piece leaves would shift all samples of the next.

    Args:
        tx: Stream that the frames are sent to.
        sample_rate: Sample rate of the bytes (Hz).
        num_channels: Channels of the bytes, which are interleaved little-endian int16.

    Raises:
        ConfigError: The format is out of range.
    """

    def __init__(
        self, tx: ObjectSendStream[AudioFrame], *, sample_rate: int = 16_000, num_channels: int = 1
    ) -> None:
        self._tx = tx
        self._decoder = PcmDecoder(sample_rate, num_channels)
        self._guard = anyio.ResourceGuard("sending to")
        self._closed = False

    async def send(self, item: bytes) -> None:
        """Send a chunk. A sample that it leaves incomplete is held until the next chunk.

        After a send that failed or was cancelled, repeat the chunk: what is held is as before it.

        Raises:
            anyio.BusyResourceError: Another task sends.
            anyio.ClosedResourceError: This stream is closed.
            ConfigError: The bytes are those of an audio file.
            DisconnectedError: The session is disconnected.
            TypeError: Not bytes.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        with self._guard:
            decoder = copy.copy(self._decoder)
            if (frame := decoder.push(item)) is not None:
                await self._tx.send(frame)
            else:
                await anyio.lowlevel.checkpoint()
            self._decoder = decoder

    async def aclose(self) -> None:
        """Close this stream and `tx`. An incomplete last sample is dropped, with a warning."""
        if self._closed:
            return
        self._closed = True
        self._decoder.finish()
        await self._close_tx()

    async def _close_tx(self) -> None:
        await self._tx.aclose()


class PcmReceiveStream(ByteReceiveStream):
    """Receives frames as raw PCM: interleaved little-endian int16 in the session's format.

    Closing it closes `rx`. To keep `rx` open, give it a clone.
    """

    def __init__(self, rx: ObjectReceiveStream[AudioFrame]) -> None:
        self._rx = rx
        self._guard = anyio.ResourceGuard("receiving from")
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive at least one and at most `max_bytes` bytes.

        Raises:
            anyio.BusyResourceError: Another task receives.
            ConfigError: `max_bytes` is no positive whole number.
        """
        size = check_positive(max_bytes, "max_bytes")
        with self._guard:
            if self._rest:
                await anyio.lowlevel.checkpoint()
            while not self._rest:
                self._rest = (await self._rx.receive()).data
            data, self._rest = self._rest[:size], self._rest[size:]
            return data

    async def aclose(self) -> None:
        self._rest = b""
        await self._rx.aclose()
