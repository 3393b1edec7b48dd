"""Keywords that the public functions share, their defaults, and their validation."""

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
    ParticipantKind,
    ParticipantKinds,
    TrackSource,
    TrackSources,
    check_filter,
    check_kinds,
    check_sources,
    is_selected,
)
from .audio.format import check_channels, check_rate, to_number, to_whole

# Limits of a frame's duration (s). Speech models take 10 to 100 ms; longer than 1 s is a recording.
MIN_FRAME, MAX_FRAME = 0.001, 1.0
DEFAULT_FRAME = 0.02


class ParticipantKeywords(TypedDict, total=False):
    """The keywords of `open_livekit` that concern a stream of one participant."""

    sample_rate: int
    num_channels: int
    frame_size: int | None
    receive_buffer: float
    max_delay: float | None
    participants: ParticipantFilter
    participant_kinds: ParticipantKinds | None
    sources: TrackSources


class ReceiveKeywords(ParticipantKeywords, total=False):
    """The keywords of `open_livekit` that concern a receive stream."""

    mix: bool


class LoopbackKeywords(ReceiveKeywords, total=False):
    """The keywords of `open_livekit` that concern a session without a server."""

    send_buffer: float
    subscription_timeout: float | None
    drain_timeout: float | None
    departure_timeout: float | None
    publish: bool
    subscribe: bool


class SessionKeywords(LoopbackKeywords, total=False):
    """The keywords of `open_livekit` that concern a session on a connected room."""

    pre_connect_audio: bool
    connect_timeout: float | None
    publish_options: Any


def check_url(url: object) -> str:
    """Return `url`, or raise `ConfigError` if no LiveKit server can be at it."""
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


def check_names(keywords: Iterable[str], known: Collection[str]) -> None:
    """Raise `TypeError` if a keyword is not among those known."""
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise TypeError(f"unexpected keyword {name!r}: did you mean {near!r}?")


def _seconds(low: float = 0.0, high: float = math.inf) -> Callable[[Any, Any, object], None]:
    """Return a validator of seconds. Without an upper bound, None is valid: no limit."""
    limits = f"{low:g} to {high:g} seconds"
    if high == math.inf:
        limits = f"{low:g} or more seconds, or None for no limit"

    def check(_: object, attribute: Any, value: object) -> None:
        is_valid = value is None and high == math.inf
        if isinstance(value, float):  # see _float
            is_valid = low <= value <= high
        if not is_valid:
            raise ConfigError(f"{attribute.name} must be {limits}, got {value!r}")

    return check


# These converters leave a value of another type as it is: the validator that follows rejects it.
def _float(value: Any) -> Any:
    return value if (number := to_number(value)) is None else number


def _or_inf(value: Any) -> Any:
    return math.inf if value is None else _float(value)


def _int(value: Any) -> Any:
    return value if (number := to_whole(value)) is None else number


def _callable_or_none(_: object, attribute: Any, value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigError(f"{attribute.name} must be callable, got {type(value).__name__}")


def _frame_size(options: ReceiveOptions, _: object, value: Any) -> None:
    low = math.ceil(options.sample_rate * MIN_FRAME)
    high = math.floor(options.sample_rate * MAX_FRAME)
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        raise ConfigError(f"frame_size must be {low} to {high} samples per channel, got {value!r}")


def _flag(_: object, attribute: Any, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} must be True or False, got {value!r}")


@attrs.frozen(kw_only=True)
class ReceiveOptions:
    """Validated options of one receive stream; `open_livekit` documents each."""

    sample_rate: int = attrs.field(default=16_000, converter=check_rate)
    num_channels: int = attrs.field(default=1, converter=check_channels)
    frame_size: int | None = attrs.field(default=None, converter=_int, validator=_frame_size)
    receive_buffer: float = attrs.field(
        default=1.0, converter=_float, validator=_seconds(0.02, 30.0)
    )
    max_delay: float | None = attrs.field(default=0.04, converter=_float, validator=_seconds())
    participants: ParticipantFilter = attrs.field(default=None, converter=check_filter)
    participant_kinds: frozenset[ParticipantKind] | None = attrs.field(
        default=None, converter=check_kinds
    )
    sources: frozenset[TrackSource] = attrs.field(
        default=frozenset({TrackSource.MICROPHONE}), converter=check_sources
    )
    mix: bool = attrs.field(default=True, validator=_flag)

    @property
    def samples_per_frame(self) -> int:
        """Samples per channel in every frame."""
        return self.frame_size or round(self.sample_rate * DEFAULT_FRAME)

    @property
    def is_selective(self) -> bool:
        """Whether participants were chosen by the user."""
        return self.participants is not None or self.participant_kinds is not None

    @property
    def named_participants(self) -> frozenset[str]:
        """The identities that are selected whether or not they are present."""
        if self.participants is None or callable(self.participants):
            return frozenset()
        names = self.participants
        return frozenset([names] if isinstance(names, str) else names)

    def selects(self, participant: Participant, source: TrackSource | None = None) -> bool:
        """Return whether a participant, or its track of this source, is selected."""
        return (source is None or source in self.sources) and is_selected(
            participant, self.participants, self.participant_kinds
        )

    def evolve(self, **keywords: Unpack[ReceiveKeywords]) -> ReceiveOptions:
        """Return options that differ by the keywords.

        Naming other participants without `participant_kinds`, or another rate without
        `frame_size`, resets these two: they were chosen for the old values.
        """
        names = [field.name for field in attrs.fields(ReceiveOptions)]
        check_names(keywords, names)
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        if "sample_rate" in keywords:
            values["frame_size"] = None
        if "participants" in keywords:
            values["participant_kinds"] = None
        values.update(keywords)
        return ReceiveOptions(**values)


@attrs.frozen(kw_only=True)
class SessionOptions(ReceiveOptions):
    """Validated options of a session; `open_livekit` documents each."""

    send_buffer: float = attrs.field(default=0.2, converter=_float, validator=_seconds(0.02, 1.0))
    connect_timeout: float = attrs.field(default=10.0, converter=_or_inf, validator=_seconds(0.1))
    rejoin_timeout: float = attrs.field(default=60.0, converter=_or_inf, validator=_seconds())
    subscription_timeout: float = attrs.field(default=10.0, converter=_or_inf, validator=_seconds())
    drain_timeout: float = attrs.field(default=5.0, converter=_or_inf, validator=_seconds())
    departure_timeout: float = attrs.field(default=None, converter=_or_inf, validator=_seconds())
    pre_connect_audio: bool = attrs.field(default=False, validator=_flag)
    publish: bool = attrs.field(default=True, validator=_flag)
    subscribe: bool = attrs.field(default=True, validator=_flag)
    rtc_config: Any = None
    encryption: Any = None
    publish_options: Any = None
    on_room: Callable[[Any], object] | None = attrs.field(default=None, validator=_callable_or_none)
