"""Play sources: `frames_of` converts the argument of `play` to frames."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from inspect import isawaitable
from typing import Any

import anyio
import numpy as np

from .._errors import ConfigError
from ..audio.format import check_channels
from ..audio.frame import AudioFrame
from ..audio.framing import PcmDecoder
from .iterator_thread import IteratorThread

_log = logging.getLogger("beluga_livekit")

PlaySource = (
    AudioFrame | bytes | bytearray | memoryview | Iterable[AudioFrame] | Iterable[bytes]
    | AsyncIterable[AudioFrame] | AsyncIterable[bytes]
)  # fmt: skip
"""The argument of `play`: audio in one piece or many, as frames or as raw PCM cut anywhere."""

# Timeout for closing a play source (s), so that a source that hangs does not block its caller.
CLOSE_TIMEOUT = 2.0


@asynccontextmanager
async def frames_of(
    source: PlaySource, sample_rate: int | None, num_channels: int
) -> AsyncIterator[AsyncIterator[AudioFrame]]:
    """Yield the frames of a play source; close the source on exit, whatever happens."""
    pieces: Any = None
    try:
        pieces = _pieces_of(source)
        decoder = None if sample_rate is None else PcmDecoder(sample_rate, num_channels)
        check_channels(num_channels)
        async with aclosing(_decode(pieces, decoder)) as frames:
            yield frames
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True) as scope:
            try:
                await _close(pieces)  # the iterator, which may be another object than the source
            finally:
                if not isinstance(pieces, IteratorThread):
                    await _close(source)
        if scope.cancelled_caught:
            message = "livekit: closing the play source %s failed: not within %g s"
            _log.warning(message, type(source).__name__, CLOSE_TIMEOUT)


def _pieces_of(source: Any) -> AsyncIterator[Any]:
    """Return the pieces of a source. An iterable that may block is advanced in a thread."""
    if isinstance(source, AudioFrame | bytes | bytearray | memoryview):
        return _as_async((source,))
    if isinstance(source, AsyncIterable):
        return aiter(source)
    if not isinstance(source, Iterable) or isinstance(source, np.ndarray | str):
        raise TypeError(_type_error("got", source))
    # A sequence has its pieces already: a thread would cost 0.1 ms for each.
    return _as_async(source) if isinstance(source, Sequence) else IteratorThread(source)


async def _decode(
    pieces: AsyncIterator[Any], decoder: PcmDecoder | None
) -> AsyncGenerator[AudioFrame]:
    async for piece in pieces:
        if isinstance(piece, AudioFrame):
            yield piece
        elif not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(_type_error("its source gave", piece))
        elif decoder is None:
            raise ConfigError("play failed: bytes have no sample rate; pass sample_rate=")
        elif (frame := decoder.push(bytes(piece))) is not None:
            yield frame
        # Sending a frame may not suspend, and a piece without one never does: endless empty pieces
        # would block the event loop, and could not be cancelled.
        await anyio.lowlevel.checkpoint()
    if decoder is not None:
        decoder.finish()


async def _as_async(pieces: Sequence[Any]) -> AsyncGenerator[Any]:
    for piece in pieces:
        yield piece


async def _close(source: Any) -> None:
    close = getattr(source, "aclose", None) or getattr(source, "close", None)
    if close is not None and isawaitable(closing := close()):
        await closing


def _type_error(context: str, got: object) -> str:
    hint = ""
    if isinstance(got, np.ndarray | np.generic):
        hint = "; use AudioFrame.from_samples for arrays"
    elif isawaitable(got):
        hint = "; await it"
    elif callable(got):
        hint = "; call it"
    return (
        "play takes an AudioFrame, bytes of PCM, or an iterable or async iterable of either, "
        f"{context} {type(got).__name__}{hint}"
    )
