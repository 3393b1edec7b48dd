"""Streams of frames as anyio byte streams of raw PCM: for sockets, subprocesses and files."""

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ObjectReceiveStream, ObjectSendStream

from .audio.frame import AudioFrame
from .audio.framing import PcmDecoder

__all__ = ["PcmReceiveStream", "PcmSendStream"]


class PcmSendStream(ByteSendStream):
    """Sends raw PCM, in chunks of any size, as frames.

    Closing it closes `tx`. To keep `tx` open, give it a clone.

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
        self._closed = False

    async def send(self, item: bytes) -> None:
        """Send a chunk. A sample that it leaves incomplete is held until the next chunk.

        Raises:
            anyio.ClosedResourceError: This stream is closed.
            DisconnectedError: The session is disconnected.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        if (frame := self._decoder.push(bytes(item))) is not None:
            await self._tx.send(frame)
        else:
            await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close this stream and `tx`.

        Raises:
            ValueError: The PCM ended within a sample.
        """
        if self._closed:
            return
        self._closed = True
        await self._close_tx()
        self._decoder.finish()

    async def _close_tx(self) -> None:
        await self._tx.aclose()


class PcmReceiveStream(ByteReceiveStream):
    """Receives frames as raw PCM: interleaved little-endian int16 in the session's format.

    Closing it closes `rx`. To keep `rx` open, give it a clone.
    """

    def __init__(self, rx: ObjectReceiveStream[AudioFrame]) -> None:
        self._rx = rx
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive at least one and at most `max_bytes` bytes."""
        if max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {max_bytes}")
        if self._rest:
            await anyio.lowlevel.checkpoint()
        while not self._rest:
            self._rest = (await self._rx.receive()).data
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def aclose(self) -> None:
        self._rest = b""
        await self._rx.aclose()
