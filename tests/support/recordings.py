"""Recordings as clients make them, and as an attacker would."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# A packet of Opus without audio, as discontinuous transmission makes it: 2 bytes for 120 ms, six
# empty frames of 20 ms.
EMPTY_OPUS_PACKET = bytes([1 << 3 | 3, 6])


def encode(
    samples: NDArray[np.int16],
    rate: int,
    codec: str = "libopus",
    container: str = "webm",
    streams: int = 1,
) -> bytes:
    """Return mono samples as the `MediaRecorder` of a browser, or another encoder, makes them."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        added: list[Any] = [
            file.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)
        ]
        for stream in added:
            for at in range(0, len(samples), rate):
                part = samples[None, at : at + rate]
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate = rate
                file.mux(stream.encode(frame))
            file.mux([packet for packet in stream.encode(None) if packet.size])
    return out.getvalue()


def opus_of_packets(packets: Iterable[bytes], milliseconds: int = 20) -> bytes:
    """Return Opus in WebM of packets made by hand, each said to last this long (ms)."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as file:
        stream = file.add_stream("libopus", rate=48000, layout="mono")
        stream.codec_context.open()
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(milliseconds, 1000)
            file.mux(packet)
    return out.getvalue()


def opus_bomb(size: int) -> bytes:
    """Return about `size` bytes of Opus in WebM: an hour of silence in 0.4 MB."""
    return opus_of_packets([EMPTY_OPUS_PACKET] * (size // 14), milliseconds=120)
