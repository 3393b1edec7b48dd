"""Raw PCM bytes over the streams: for sockets, subprocesses and files.

`PcmSendStream` and `PcmReceiveStream` are anyio byte streams around a frame stream, so whatever
reads or writes bytes with anyio can be plugged in.
"""

from __future__ import annotations

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ObjectReceiveStream, ObjectSendStream

from .audio.frame import AudioFrame
from .audio.framing import PcmDecoder

__all__ = ["PcmReceiveStream", "PcmSendStream"]


class PcmSendStream(ByteSendStream):
    """Sends raw PCM, in chunks of any size, as frames.

    Closing it closes `tx`; give it a clone to keep yours.

    Args:
        tx: Where the frames go.
        sample_rate: Of the bytes, in Hz.
        num_channels: Of the bytes: interleaved little-endian int16.

    Raises:
        ConfigError: A format out of range.
    """

    def __init__(
        self, tx: ObjectSendStream[AudioFrame], *, sample_rate: int = 16_000, num_channels: int = 1
    ) -> None:
        self._tx = tx
        self._maker = PcmDecoder(sample_rate, num_channels)
        self._closed = False

    async def send(self, item: bytes) -> None:
        """Sends a chunk; half a sample at its end waits for the next one.

        Raises:
            anyio.ClosedResourceError: This stream is closed.
            DisconnectedError: The session is no longer in its room.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        if (frame := self._maker.push(bytes(item))) is not None:
            await self._tx.send(frame)
        else:
            await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Closes this stream and `tx`.

        Raises:
            ValueError: The last sample is incomplete.
        """
        if self._closed:
            return
        self._closed = True
        await self._close_tx()
        self._maker.finish()

    async def _close_tx(self) -> None:
        await self._tx.aclose()


class PcmReceiveStream(ByteReceiveStream):
    """Receives frames as raw PCM: interleaved little-endian int16 in the session's format.

    Closing it closes `rx`; give it a clone to keep yours.
    """

    def __init__(self, rx: ObjectReceiveStream[AudioFrame]) -> None:
        self._rx = rx
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receives at least one and at most `max_bytes` bytes."""
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
