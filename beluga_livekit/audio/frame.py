"""`AudioFrame`: PCM audio and its format, the item of all streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from .format import MAX_CHANNELS, Samples, check_channels, check_rate, to_int16

if TYPE_CHECKING:
    from livekit import rtc  # noqa: TID251 - see to_rtc


def to_bytes(data: object) -> bytes:
    """Return PCM as immutable bytes, or raise `TypeError`; a view has to be of bytes or int16."""
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    got = type(data).__name__
    if isinstance(data, memoryview):
        if data.format in ("B", "b", "c", "h", "<h"):
            return bytes(data)
        got = f"a view of format {data.format!r}"
    hint = ""
    if isinstance(data, np.ndarray):
        hint = "; for an array, use AudioFrame.from_samples(samples, sample_rate)"
    raise TypeError(f"data must be bytes of interleaved int16, got {got}{hint}")


@attrs.frozen(repr=False)
class AudioFrame:
    """Immutable PCM audio: interleaved little-endian int16 samples and their format.

    Args:
        data: The samples, 2 bytes each.
        sample_rate: Samples per second and channel (Hz), 8000 to 192000.
        num_channels: 1 to 8.
        participant: Identity of the participant who talks. None for a mix of several participants,
            for silence that fills a gap, and for frames of your own.
        track_sid: SID of the track that the frame came from, under the same conditions.
        timestamp: `time.monotonic()` (s) when the frame came from the SDK.
        lost: Duration of the audio missing before this frame (s), because it was not read in time.

    Raises:
        ConfigError: A format out of range, or data that is not a whole number of samples.
        TypeError: Data that is not bytes.
    """

    data: bytes = attrs.field(converter=to_bytes)
    sample_rate: int = attrs.field(converter=check_rate)
    num_channels: int = attrs.field(default=1, converter=check_channels)
    participant: str | None = attrs.field(default=None, kw_only=True)
    track_sid: str | None = attrs.field(default=None, kw_only=True)
    timestamp: float | None = attrs.field(default=None, kw_only=True)
    lost: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        size, length = 2 * self.num_channels, len(self.data)
        if length % size:
            layout = f"{self.num_channels} channel(s) of int16"
            raise ConfigError(f"data must be a multiple of {size} bytes ({layout}), got {length}")

    @classmethod
    def from_samples(cls, samples: NDArray[Any], sample_rate: int, **fields: Any) -> Self:
        """Make a frame of an array.

        Args:
            samples: Floats in [-1, 1], or int16, int32 or int64 on the scale of int16, of any
                byte order; up to twice full scale, they are clipped. Shape (n,) for mono,
                (n, channels) otherwise, as in soundfile.
            sample_rate: Sample rate (Hz).
            **fields: `participant`, `track_sid`, `timestamp`, `lost`.

        Raises:
            TypeError: Another dtype.
            ValueError: Another shape, NaN or infinity, or samples beyond twice full scale.
        """
        samples = np.asarray(samples)
        if samples.ndim not in (1, 2):
            raise ValueError(f"expected shape (n,) or (n, channels), got {samples.shape}")
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        if channels > MAX_CHANNELS:
            hint = "; transpose it: samples.T" if samples.shape[0] <= MAX_CHANNELS else ""
            raise ValueError(f"expected shape (n, channels), got {samples.shape}{hint}")
        data = to_int16(samples).astype("<i2", copy=False).tobytes()
        return cls(data, sample_rate, channels, **fields)

    @classmethod
    def concatenate(cls, frames: Iterable[AudioFrame]) -> Self:
        """Join frames of one format; keep the participant and track that they have in common.

        Raises:
            ValueError: No frames, or frames of different formats.
        """
        frames = list(frames)
        formats = sorted({(f.sample_rate, f.num_channels) for f in frames})
        if len(formats) != 1:
            got = ", ".join(f"{rate} Hz x {channels}" for rate, channels in formats) or "no frames"
            raise ValueError(f"expected frames of one format, got {got}")
        participants = {f.participant for f in frames}
        tracks = {f.track_sid for f in frames}
        return cls(
            b"".join(f.data for f in frames),
            *formats[0],
            participant=participants.pop() if len(participants) == 1 else None,
            track_sid=tracks.pop() if len(tracks) == 1 else None,
            timestamp=frames[0].timestamp,
            lost=sum(f.lost for f in frames),
        )

    @classmethod
    def from_rtc(cls, frame: rtc.AudioFrame) -> Self:
        """Make a frame of an SDK frame, as `rtc.AudioStream` or a LiveKit Agents plugin gives it.

        Args:
            frame: The SDK's frame; its samples are copied.

        Raises:
            ConfigError: A format out of range.
        """
        return cls(bytes(frame.data), frame.sample_rate, frame.num_channels)

    def to_rtc(self) -> rtc.AudioFrame:
        """Make an `rtc.AudioFrame`, which has the samples and their format only."""
        from livekit import rtc  # noqa: PLC0415, TID251 - the rest of this package needs no SDK

        count = self.samples_per_channel
        return rtc.AudioFrame(self.data, self.sample_rate, self.num_channels, count)

    @property
    def samples(self) -> Samples:
        """The samples as a read-only view: shape (n,) when mono, (n, channels) otherwise."""
        samples = np.frombuffer(self.data, "<i2")
        return samples if self.num_channels == 1 else samples.reshape(-1, self.num_channels)

    def to_float(self) -> NDArray[np.float32]:
        """Return the samples as float32 in [-1, 1), in the shape of `samples`."""
        return self.samples * np.float32(1 / 32768)

    @property
    def samples_per_channel(self) -> int:
        return len(self.data) // (2 * self.num_channels)

    @property
    def duration(self) -> float:
        """Duration (s)."""
        return self.samples_per_channel / self.sample_rate

    def __repr__(self) -> str:
        # Short on purpose: anyio prints whole buffers of these.
        layout = f"{self.duration * 1000:.4g} ms, {self.sample_rate} Hz x {self.num_channels}"
        origin = f" from {self.participant!r}" if self.participant is not None else ""
        lost = f", {self.lost:.3f} s lost before" if self.lost else ""
        return f"<AudioFrame {layout}{origin}{lost}>"
