"""Play sources: `frames_of` converts the argument of `play` to frames."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from inspect import isawaitable
from typing import Any

import anyio
import numpy as np

from .._errors import ConfigError
from ..audio.format import check_channels
from ..audio.frame import AudioFrame
from ..audio.framing import PcmDecoder

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
    is_whole = isinstance(source, AudioFrame | bytes | bytearray | memoryview)
    pieces: Any = (source,) if is_whole else source
    try:
        decoder = None if sample_rate is None else PcmDecoder(sample_rate, num_channels)
        check_channels(num_channels)
        if isinstance(pieces, AsyncIterable):
            pieces = aiter(pieces)
        elif isinstance(pieces, Iterable) and not isinstance(pieces, np.ndarray | str):
            pieces = _as_async(pieces)
        else:
            raise TypeError(_type_error("got", source))
        async with aclosing(_decode(pieces, decoder)) as frames:
            yield frames
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                await _close(pieces)  # the iterator, which may be another object than the source
            finally:
                await _close(source)


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
    if decoder is not None:
        decoder.finish()


async def _as_async(pieces: Iterable[Any]) -> AsyncGenerator[Any]:
    iterator = iter(pieces)
    try:
        for piece in iterator:
            yield piece
    finally:
        await _close(iterator)


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
