"""What can be played: `frames_of` a source, and the `Playout` that it became."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from inspect import isawaitable
from typing import Any

import anyio
import numpy as np

from .._errors import ConfigError
from ..audio.format import check_channels, check_rate
from ..audio.frame import AudioFrame
from ..audio.framing import PcmDecoder

__all__ = ["PlaySource", "frames_of"]

PlaySource = (
    AudioFrame | bytes | bytearray | memoryview | Iterable[AudioFrame] | Iterable[bytes]
    | AsyncIterable[AudioFrame] | AsyncIterable[bytes]
)  # fmt: skip
"""What `play` takes: sound in one piece or in many, as frames or as raw PCM cut anywhere."""

# A source that is closed does not make us wait for longer than this, in seconds.
CLOSE_TIMEOUT = 2.0


@asynccontextmanager
async def frames_of(
    source: PlaySource, sample_rate: int | None, num_channels: int
) -> AsyncIterator[AsyncIterator[AudioFrame]]:
    """Gives the frames of a source, and closes the source, whatever happens.

    Raises:
        ConfigError: A format out of range; bytes without a `sample_rate`.
        ValueError: The bytes end within a sample.
        TypeError: Neither frames nor bytes.
    """
    whole = isinstance(source, AudioFrame | bytes | bytearray | memoryview)
    pieces: Any = (source,) if whole else source
    try:
        if sample_rate is not None:
            check_rate(sample_rate)
        check_channels(num_channels)
        if isinstance(pieces, np.ndarray | str):
            raise TypeError(_expected("got", source))
        if isinstance(pieces, AsyncIterable):
            pieces = aiter(pieces)
        elif isinstance(pieces, Iterable):
            pieces = _Steps(pieces)
        else:
            raise TypeError(_expected("got", source))
        async with aclosing(_frames(pieces, sample_rate, num_channels)) as frames:
            yield frames
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            try:
                await _close(pieces)  # where a generator makes the source iterable, the generator
            finally:
                await _close(source)


async def _frames(
    pieces: AsyncIterator[Any], sample_rate: int | None, num_channels: int
) -> AsyncGenerator[AudioFrame]:
    maker: PcmDecoder | None = None
    async for piece in pieces:
        if isinstance(piece, AudioFrame):
            yield piece
        elif isinstance(piece, bytes | bytearray | memoryview):
            if maker is None:
                if sample_rate is None:
                    raise ConfigError("play needs the sample_rate of what comes as bytes")
                maker = PcmDecoder(sample_rate, num_channels)
            if (frame := maker.push(bytes(piece))) is not None:
                yield frame
        else:
            raise TypeError(_expected("its source gave", piece))
    if maker is not None:
        maker.finish()


class _Steps(AsyncIterator[Any]):
    """An ordinary iterator, one step at a time."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces = iter(pieces)

    async def __anext__(self) -> Any:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await _close(self._pieces)


async def _close(source: Any) -> None:
    close = getattr(source, "aclose", None) or getattr(source, "close", None)
    if close is not None and isawaitable(closing := close()):
        await closing


def _expected(how: str, got: object) -> str:
    hint = ""
    if isinstance(got, np.ndarray | np.generic):
        hint = "; use AudioFrame.from_samples for arrays"
    elif isawaitable(got):
        hint = "; await it"
    elif callable(got):
        hint = "; call it"
    return (
        "play takes an AudioFrame, bytes of PCM, or an iterable or async iterable of either, "
        f"{how} {type(got).__name__}{hint}"
    )
