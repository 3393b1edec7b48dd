"""What a session is asked for, checked before anything is opened."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit

import attrs

from ._errors import ConfigError, display_url, scrub
from ._room.participants import (
    Participant,
    ParticipantFilter,
    TrackSource,
    check_filter,
    check_sources,
    is_wanted,
)
from .audio.format import check_channels, check_rate, is_number, is_whole

__all__ = [
    "EachKeywords",
    "ListenKeywords",
    "ListenOptions",
    "SessionOptions",
    "check_names",
    "check_url",
]

# A speech model gets its answer in frames of 10 to 100 ms; beyond 1 s a "frame" is a recording.
MIN_FRAME, MAX_FRAME = 0.001, 1.0
DEFAULT_FRAME = 0.02


def check_url(url: object) -> str:
    """Returns `url` if a LiveKit server can be at it, or raises `ConfigError`."""
    if not url:
        raise ConfigError("livekit: URL is required")
    if not isinstance(url, str):
        raise ConfigError(f"livekit: the URL must be a string, got {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is parsed, and may raise, only here
    except ValueError as error:
        raise ConfigError(f"livekit: the URL is malformed: {scrub(str(error))}") from None
    if parts.scheme not in ("ws", "wss", "http", "https") or not host:
        raise ConfigError(
            "livekit: the URL must look like wss://my-project.livekit.cloud "
            f"(ws, wss, http or https), got {display_url(url)!r}"
        )
    return url


def _seconds(
    low: float, high: float = math.inf, *, or_none: bool = False
) -> Callable[[Any, Any, object], None]:
    def check(_: object, attribute: Any, value: object) -> None:
        if or_none and value is None:
            return
        if not (is_number(value) and low <= value <= high):
            limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            none = ", or None" if or_none else ""
            raise ConfigError(f"{attribute.name} must be {limits} seconds{none}, got {value!r}")

    return check


def _callable_or_none(_: object, attribute: Any, value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigError(f"{attribute.name} must be callable, got {type(value).__name__}")


def _frame_size(options: ListenOptions, _: object, value: Any) -> None:
    low = math.ceil(options.sample_rate * MIN_FRAME)
    high = math.floor(options.sample_rate * MAX_FRAME)
    if value is not None and not (is_whole(value) and low <= value <= high):
        raise ConfigError(f"frame_size must be {low} to {high} samples per channel, got {value!r}")


def _flag(_: object, attribute: Any, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} must be True or False, got {value!r}")


def check_names(keywords: Iterable[str], known: Collection[str]) -> None:
    """Raises `TypeError` for a keyword that there is not."""
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise TypeError(f"unexpected keyword {name!r}: did you mean {near!r}?")


class EachKeywords(TypedDict, total=False):
    """The keywords of what hears one participant, as `open_livekit` documents them."""

    sample_rate: int
    num_channels: int
    frame_size: int | None
    receive_buffer: float
    max_delay: float | None
    participant: ParticipantFilter
    sources: str | Iterable[str]


class ListenKeywords(EachKeywords, total=False):
    """The keywords of what hears, as `open_livekit` documents them."""

    mix: bool


@attrs.frozen(kw_only=True)
class ListenOptions:
    """Whom a stream hears, and in which format, checked."""

    sample_rate: int = attrs.field(default=16_000, converter=check_rate)
    num_channels: int = attrs.field(default=1, converter=check_channels)
    frame_size: int | None = attrs.field(default=None, validator=_frame_size)
    receive_buffer: float = attrs.field(default=1.0, validator=_seconds(0.02, 30.0))
    max_delay: float | None = attrs.field(default=0.04, validator=_seconds(0.0, or_none=True))
    participant: ParticipantFilter = attrs.field(default=None, converter=check_filter)
    sources: frozenset[TrackSource] = attrs.field(
        default=frozenset({TrackSource.MICROPHONE}), converter=check_sources
    )
    mix: bool = attrs.field(default=True, validator=_flag)

    @property
    def samples_per_frame(self) -> int:
        """Per channel, in every frame."""
        return self.frame_size or round(self.sample_rate * DEFAULT_FRAME)

    def wants(self, participant: Participant, source: TrackSource | None = None) -> bool:
        """Whether a participant is to be heard, or what is from this source of theirs."""
        is_source = source is None or source in self.sources
        return is_source and is_wanted(participant, self.participant)

    def but(self, **keywords: Unpack[ListenKeywords]) -> ListenOptions:
        """Returns these, but for what the keywords say."""
        names = [field.name for field in attrs.fields(ListenOptions)]
        check_names(keywords, names)
        known: dict[str, Any] = {name: getattr(self, name) for name in names}
        if "sample_rate" in keywords:  # a number of samples is not what is meant at another rate
            known["frame_size"] = None
        known.update(keywords)
        return ListenOptions(**known)


@attrs.frozen(kw_only=True)
class SessionOptions(ListenOptions):
    """The keywords of `open_livekit` and its like, checked; they document each."""

    send_buffer: float = attrs.field(default=0.2, validator=_seconds(0.02, 1.0))
    connect_timeout: float = attrs.field(default=10.0, validator=_seconds(0.1, 3600.0))
    rejoin_timeout: float = attrs.field(default=60.0, validator=_seconds(0.0))
    listener_timeout: float = attrs.field(default=10.0, validator=_seconds(0.0))
    drain_timeout: float = attrs.field(default=5.0, validator=_seconds(0.0))
    leave_when_alone: float | None = attrs.field(
        default=None, validator=_seconds(0.0, or_none=True)
    )
    preconnect: bool = attrs.field(default=False, validator=_flag)
    send: bool = attrs.field(default=True, validator=_flag)
    rtc_config: Any = None
    encryption: Any = None
    publish_options: Any = None
    on_room: Callable[[Any], object] | None = attrs.field(default=None, validator=_callable_or_none)
