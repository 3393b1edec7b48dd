"""What a session is asked for, checked before anything is opened."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
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
from .audio.frame import check_channels, check_rate, is_number, is_whole

__all__ = [
    "EachKeywords",
    "Grants",
    "ListenKeywords",
    "ListenOptions",
    "SessionOptions",
    "Token",
    "TransportConfig",
    "check_names",
    "check_url",
    "read_token",
]

Token = str | Callable[[], str | Awaitable[str]]
"""An access token, or what returns one (called for every join), sync or async."""

# A speech model gets its answer in frames of 10 to 100 ms; beyond 1 s a "frame" is a recording.
MIN_FRAME, MAX_FRAME = 0.001, 1.0
DEFAULT_FRAME = 0.02


def _mapping(_: object, attribute: Any, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{attribute.name} must be a mapping, got {type(value).__name__}")


@attrs.frozen
class TransportConfig:
    """What a transport provider is made from: Beluga's configuration, field by field.

    Attributes:
        url: Where the server is: ws, wss, http or https.
        token: An access token, or a callable returning one.
        sample_rate: Of the received frames, in Hz.
        channels: Of the received frames.
        extra: What only this provider knows: for LiveKit `room` and the keywords of
            `open_livekit`.
    """

    url: str = attrs.field(default="", repr=lambda url: repr(display_url(str(url))))
    token: Token = attrs.field(default="", repr=lambda token: "<token>" if token else "''")
    sample_rate: int = 16_000
    channels: int = 1
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=_mapping)


@attrs.frozen
class Grants:
    """What a token says about who may join where, and until when.

    Attributes:
        can_publish: Whether a microphone may be published, as is what a session does.
    """

    identity: str
    room: str
    expires_at: float
    can_publish: bool


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


def read_token(token: object, *, room: str | None = None) -> Grants:
    """Reads a token's claims. The signature is the server's to check.

    Args:
        token: The JSON web token.
        room: The room that it must be for, if any.

    Raises:
        ConfigError: It is missing, no JWT, lets nobody join, has expired, or is for another room.
    """
    if not token:
        raise ConfigError("livekit: Token is required")
    if not isinstance(token, str):
        raise ConfigError(f"livekit: the token must be a string, got {type(token).__name__}")
    claims = _claims(token)
    video = claims.get("video")
    if not isinstance(video, dict) or video.get("roomJoin") is not True:
        raise ConfigError("livekit: the token does not let its holder join a room (roomJoin)")
    granted, identity, expiry = video.get("room"), claims.get("sub"), claims.get("exp", math.inf)
    if not isinstance(granted, str) or not granted:
        raise ConfigError("livekit: the token names no room")
    if room is not None and room != granted:
        raise ConfigError(f"livekit: the token is for room {granted!r}, not for {room!r}")
    if not isinstance(identity, str) or not identity:
        raise ConfigError("livekit: the token names no identity (sub)")
    if not is_number(expiry):
        raise ConfigError("livekit: the token's expiry (exp) is not a time")
    if expiry <= time.time():
        ago = time.time() - expiry
        raise ConfigError(f"livekit: the token has expired {ago:.0f} s ago")
    sources = video.get("canPublishSources")
    microphone = not sources or not isinstance(sources, list) or "microphone" in sources
    can_publish = microphone and video.get("canPublish") is not False
    return Grants(identity, granted, float(expiry), can_publish)


def _claims(token: str) -> dict[str, Any]:
    try:
        header, payload, _ = (_decode(part) for part in token.split("."))
        claims = (json.loads(header), json.loads(payload))
    except (ValueError, binascii.Error, RecursionError):
        claims = (None, None)
    if not isinstance(claims[0], dict) or not isinstance(claims[1], dict):
        blank = ", and there is white space around it" if token != token.strip() else ""
        raise ConfigError(f"livekit: the token is no JWT (three base64url parts){blank}")
    return claims[1]


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


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
