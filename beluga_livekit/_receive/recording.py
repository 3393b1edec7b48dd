"""`decode_recording`: a client's recording as wire frames. Its bytes are not trusted."""

import io
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from ..audio.converter import Converter
from ..audio.format import WIRE_FRAME, WIRE_RATE, Samples, check_channels, check_rate
from ..audio.framing import PcmDecoder

# Limits of a recording (s, bytes). Clients record at most 10 s. The bytes are those of 15 s of
# stereo PCM at 48 kHz; a compressed recording of the same size may hold an hour.
MAX_SECONDS = 15.0
MAX_BYTES = 3_000_000

# The types of raw PCM. Phones send it with the default of a byte stream, or with none.
_PCM_TYPES = ("", "application/octet-stream", "audio/pcm", "audio/raw", "audio/l16")


def decode_recording(data: bytes, mime_type: str, attributes: Mapping[str, str]) -> list[Samples]:
    """Decode a recording to mono wire frames, the last of them shorter.

    Takes up to 0.1 s for MAX_SECONDS: call it in a thread.

    Raises:
        ValueError: It is too long, or neither Opus in WebM or Ogg nor raw PCM.
    """
    container = next((each for each in ("webm", "ogg") if each in mime_type), None)
    if container is not None:
        parts, count = [], 0
        for part in _decode_opus(data, container):
            parts.append(part)
            count += len(part)
            if count > MAX_SECONDS * WIRE_RATE:  # checked here: the whole may not fit the memory
                raise ValueError(f"longer than {MAX_SECONDS:g} s")
    elif mime_type.partition(";")[0].strip().lower() in _PCM_TYPES:
        parts = _decode_pcm(data, attributes)
    else:
        raise ValueError(f"{mime_type[:40]!r} is neither Opus in WebM or Ogg nor raw PCM")
    whole = np.concatenate([np.empty(0, np.int16), *parts])
    return [whole[at : at + WIRE_FRAME] for at in range(0, len(whole), WIRE_FRAME)]


def _decode_pcm(data: bytes, attributes: Mapping[str, str]) -> list[Samples]:
    rate, channels = (int(attributes.get(name, "")) for name in ("sampleRate", "channels"))
    size = 2 * check_channels(channels)
    if len(data) % size:
        raise ValueError(f"its PCM ends within a sample: {len(data) % size} of {size} bytes")
    if len(data) > MAX_SECONDS * check_rate(rate) * size:
        raise ValueError(f"longer than {MAX_SECONDS:g} s")
    if (frame := PcmDecoder(rate, channels).push(data)) is None:
        return []
    converter = Converter(WIRE_RATE)
    return [converter.push(frame.samples, rate), converter.finish()]


def _decode_opus(data: bytes, container: str) -> Iterator[Samples]:
    """Yield the audio of a container with one Opus stream, packet by packet."""
    try:
        import av  # noqa: PLC0415 - an extra
    except ImportError:
        remedy = "install it: pip install 'beluga-livekit[preconnect]'"
        raise ValueError(f"{container} needs PyAV; {remedy}") from None
    resampler = av.AudioResampler(format="s16", layout="mono", rate=WIRE_RATE)
    # Without the whitelist, opening decodes the beginning of whatever the container holds.
    options = {"codec_whitelist": "opus,libopus"}
    try:
        with av.open(io.BytesIO(data), "r", container, options=options) as recording:
            frames: Iterator[Any] = recording.decode(_only_opus_stream(recording))
            for frame in chain(frames, (None,)):
                for each in resampler.resample(frame):
                    yield each.to_ndarray()[0]
    except av.FFmpegError as error:
        raise ValueError(f"not decodable as {container}: {error}") from None


def _only_opus_stream(recording: Any) -> Any:
    """Return the stream of a container; a bomb may be another codec, or between its packets."""
    names = [getattr(each.codec_context, "name", "unknown") for each in recording.streams]
    if len(names) != 1 or "opus" not in names[0]:
        raise ValueError(f"expected one stream of Opus, got {', '.join(names[:8]) or 'none'}")
    if (channels := recording.streams[0].codec_context.channels) > 2:
        raise ValueError(f"expected 1 or 2 channels, got {channels}")
    return recording.streams[0]
