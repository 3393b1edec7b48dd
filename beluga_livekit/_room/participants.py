"""Who is in a room, and whom of them a stream is to hear."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any

import attrs

from .._errors import ConfigError

__all__ = [
    "Participant",
    "ParticipantFilter",
    "ParticipantKind",
    "TrackSource",
    "check_filter",
    "check_sources",
    "is_wanted",
]

_log = logging.getLogger("beluga_livekit")


class ParticipantKind(StrEnum):
    """What somebody in a room is: LiveKit's own kinds, by its own names."""

    STANDARD = "standard"
    INGRESS = "ingress"
    EGRESS = "egress"
    SIP = "sip"
    AGENT = "agent"
    CONNECTOR = "connector"
    BRIDGE = "bridge"


class TrackSource(StrEnum):
    """What a track's sound is; whatever is not a shared screen's counts as a microphone."""

    MICROPHONE = "microphone"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


def _read_only(attributes: Mapping[str, str]) -> Mapping[str, str]:
    if not all(isinstance(each, str) for pair in attributes.items() for each in pair):
        raise ConfigError(f"attributes must be strings, got {dict(attributes)!r}")
    return MappingProxyType(dict(attributes))


@attrs.frozen
class Participant:
    """Somebody in a room, as of the moment when this was made.

    Attributes:
        identity: Unique in the room.
        name: For display.
        kind: A person, a phone (`sip`), an agent, ...
        attributes: What the token, the server or the participant has set; for phones LiveKit's
            own, such as `sip.phoneNumber` and `sip.callStatus`.
        metadata: The same as one string.
        is_self: Whether it is this session.
    """

    identity: str
    name: str = ""
    kind: ParticipantKind = ParticipantKind.STANDARD
    attributes: Mapping[str, str] = attrs.field(factory=dict, converter=_read_only, hash=False)
    metadata: str = ""
    is_self: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        named = (self.identity, self.name, self.kind)
        return type(self), (*named, dict(self.attributes), self.metadata, self.is_self)

    @property
    def has_answered(self) -> bool:
        """Whether somebody can be spoken to: a phone that is still ringing cannot."""
        status = self.attributes.get("sip.callStatus", "active")
        return self.kind is not ParticipantKind.SIP or status == "active"


ParticipantFilter = str | Collection[str] | Callable[[Participant], bool] | None
"""Who is wanted: an identity, several, or what a predicate says; None: all that are no agents."""


def check_sources(value: Any) -> frozenset[TrackSource]:
    """Returns the sources by their names, or raises `ConfigError`."""
    names = [value] if isinstance(value, str) else value
    try:
        sources = frozenset(TrackSource(name) for name in names)
    except (TypeError, ValueError):
        sources = frozenset()
    if not sources:
        known = " and ".join(repr(str(source)) for source in TrackSource)
        raise ConfigError(f"sources must be some of {known}, got {value!r}")
    return sources


class _Predicate:
    """A user's predicate; one that raises wants nobody, and is told of once."""

    def __init__(self, function: Callable[[Participant], bool]) -> None:
        self._function = function
        self._has_failed = False

    def __call__(self, participant: Participant) -> bool:
        try:
            return bool(self._function(participant))
        except Exception:  # noqa: BLE001 - the SDK's events go on, whatever it does
            if not self._has_failed:
                _log.exception("livekit: the predicate given as `participant` failed")
            self._has_failed = True
            return False


def check_filter(value: Any) -> Any:
    """Returns a `ParticipantFilter`, or raises `ConfigError`."""
    if value is None or isinstance(value, str | _Predicate):
        return value
    if callable(value) and not iscoroutinefunction(value):
        return _Predicate(value)
    if not isinstance(value, Collection) or not all(isinstance(each, str) for each in value):
        raise ConfigError(
            "participant must be an identity, a collection of identities, or a predicate "
            f"(no coroutine), got {value!r}"
        )
    return value


def is_wanted(participant: Participant, wanted: ParticipantFilter) -> bool:
    """Whether a participant is wanted.

    Agents are heard only where they are asked for, by name or by a predicate: of two bots in one
    room each would talk to the other.
    """
    if wanted is None:
        return participant.kind is not ParticipantKind.AGENT
    if isinstance(wanted, str):
        return participant.identity == wanted
    return wanted(participant) if callable(wanted) else participant.identity in wanted
