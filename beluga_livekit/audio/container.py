"""Recognises the first bytes of audio files, so that none is played as raw PCM.

Raw PCM has no header: it may begin with any bytes. A match therefore takes at least 45 given bits,
or two MPEG frame headers of one kind, the second at the distance that the first one gives.
"""

import math
import re
from collections.abc import Callable

from .._errors import ConfigError

# Limit of the bytes that decide: the longest ADTS frame and the next header.
MAX_HEAD = 8191 + 6

_SOUNDFILE = "decode it with soundfile (16-bit WAV: also wave)"
_PYAV = "decode it with PyAV (import av)"

# For each kind of file: a regular expression for each of its first bytes, and the remedy.
_MAGICS = [
    (kind, re.findall(rb"\[[^]]+\]|\\x..|.", pattern), remedy)
    for kind, pattern, remedy in (
        ("WAV", rb"RIF[FX]....WAVE", _SOUNDFILE),
        ("WAV", rb"[RB][FW]64....WAVE", _SOUNDFILE),
        ("Wave64", rb"riff\x2e\x91\xcf\x11", _SOUNDFILE),
        ("AIFF", rb"FORM....AIF[FC]", _SOUNDFILE),
        ("AU", rb"[.]snd\x00\x00[\x00-\x0f].....\x00\x00\x00[\x01-\x1b]", _SOUNDFILE),
        ("CAF", rb"caff\x00\x01\x00\x00", _SOUNDFILE),
        ("FLAC", rb"fLaC[\x00\x80]\x00\x00\x22", _SOUNDFILE),
        ("Ogg", rb"OggS\x00[\x00-\x07]", _SOUNDFILE),
        # ID3: version, flags, size in bytes of 7 bits, and the beginning of the first field.
        ("MP3", rb"ID3[\x02-\x04].[\x00\x80]" + b"[\0-\x7f]" * 4 + b"[A-Z0-9\0]" * 3, _SOUNDFILE),
        # EBML: the size of its header, in one byte or in eight, and the beginning of a field.
        ("WebM or Matroska", rb"\x1aE\xdf\xa3[\x80-\xff]B", _PYAV),
        ("WebM or Matroska", rb"\x1aE\xdf\xa3\x01\x00\x00\x00\x00\x00\x00.B", _PYAV),
        ("MP4", rb"\x00\x00..ftyp", _PYAV),
        ("AMR", rb"#!AMR[-\n]", _PYAV),
    )
]
# Bit rates (kbit/s) of MP3 by their index: of MPEG-1, and of MPEG-2 and 2.5. 0 is invalid here.
_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_MPEG_HEADER = 6  # bytes of a header that are parsed


def check_is_raw(head: bytes) -> bool:
    """Check the first bytes of a stream.

    Returns:
        Whether it is raw, whatever follows. False: more bytes, up to `MAX_HEAD`, are needed.

    Raises:
        ConfigError: They begin an audio file.
    """
    is_decided = True
    for kind, atoms, remedy in _MAGICS:
        if re.fullmatch(b"".join(atoms[: len(head)]), head[: len(atoms)], re.DOTALL):
            if len(head) >= len(atoms):
                raise _error(kind, remedy)
            is_decided = False
    for kind, length_of, remedy in (("MP3", _mp3_length, _SOUNDFILE), ("AAC", _adts_length, _PYAV)):
        if (is_file := _has_two_frames(head, length_of)) is None:
            is_decided = False
        elif is_file:
            raise _error(kind, remedy)
    return is_decided


def _error(kind: str, remedy: str) -> ConfigError:
    return ConfigError(
        f"PCM decoding failed: the data is a file ({kind}), not raw PCM; {remedy}, "
        "and pass AudioFrame.from_samples(samples, sample_rate)"
    )


def _has_two_frames(head: bytes, length_of: Callable[[bytes], int]) -> bool | None:
    """Return whether `head` begins with an MPEG frame and another header; None if undecided."""
    if head[:1] not in (b"", b"\xff"):
        return False
    length = length_of(head) if len(head) >= _MPEG_HEADER else math.inf
    if not length:
        return False
    if len(head) < length + _MPEG_HEADER:
        return None
    other = head[int(length) :]
    is_same_kind = head[:2] == other[:2] and (head[2] ^ other[2]) & 0x0C == 0  # the sample rate
    return is_same_kind and length_of(other) > 0


def _mp3_length(header: bytes) -> int:
    """Return the length (bytes) of the MP3 frame of this header; 0: it is none."""
    version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3  # version: 3 is 1, 2 is 2, 0 is 2.5
    is_valid = header[1] & 0xE6 == 0xE2 and version != 1 and rate != 3 and header[3] & 3 != 2
    kbits = _KBITS[version != 3][header[2] >> 4]
    if not is_valid or not kbits:
        return 0
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if version == 3 else 72) * kbits * 1000 // hertz + (header[2] >> 1 & 1)


def _adts_length(header: bytes) -> int:
    """Return the length (bytes) of the AAC frame of this ADTS header; 0: it is none."""
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    is_valid = header[1] & 0xF6 == 0xF0 and header[2] >> 2 & 15 < 13 and length > _MPEG_HEADER
    return length if is_valid else 0
