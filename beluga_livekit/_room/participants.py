"""Participants, and which of them a receive stream selects."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import attrs

from .._errors import ConfigError

_log = logging.getLogger("beluga_livekit")


class ParticipantKind(StrEnum):
    """The kind of a participant, named as in LiveKit."""

    STANDARD = "standard"
    INGRESS = "ingress"
    EGRESS = "egress"
    SIP = "sip"
    AGENT = "agent"
    CONNECTOR = "connector"
    BRIDGE = "bridge"


class TrackSource(StrEnum):
    """The source of an audio track. Any track that is not a screen share's is a microphone."""

    MICROPHONE = "microphone"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


def _read_only(attributes: Mapping[str, str]) -> Mapping[str, str]:
    if not all(isinstance(each, str) for pair in attributes.items() for each in pair):
        raise ConfigError(f"attributes must be strings, got {dict(attributes)!r}")
    return MappingProxyType(dict(attributes))


@attrs.frozen
class Participant:
    """A participant at the moment when this record was made.

    Attributes:
        identity: Unique in the room.
        name: Display name.
        kind: Person (`standard`), phone (`sip`), agent, ...
        attributes: Set by the token, the server or the participant. Phones have LiveKit's own,
            such as `sip.phoneNumber` and `sip.callStatus`.
        metadata: Set as `attributes` are; one string.
        is_self: Whether the participant is this session.
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
        """Whether the participant is not a phone that is still ringing."""
        status = self.attributes.get("sip.callStatus", "active")
        return self.kind is not ParticipantKind.SIP or status == "active"


ParticipantFilter = str | Collection[str] | Callable[[Participant], bool] | None
"""An identity, several, a predicate, or None for no condition."""

ParticipantKindName = (
    ParticipantKind
    | Literal["standard", "ingress", "egress", "sip", "agent", "connector", "bridge"]
)
ParticipantKinds = ParticipantKindName | Iterable[ParticipantKindName]
"""A kind, or several; `ParticipantKind` itself is all of them."""

_Source = TrackSource | Literal["microphone", "screen_share_audio"]
TrackSources = _Source | Iterable[_Source]
"""A track source, or several."""

E = TypeVar("E", bound=StrEnum)


def check_sources(value: Any) -> frozenset[TrackSource]:
    return _members(TrackSource, value, "sources")


def check_kinds(value: Any) -> frozenset[ParticipantKind] | None:
    return None if value is None else _members(ParticipantKind, value, "participant_kinds")


def _members(enum: type[E], value: Any, parameter: str) -> frozenset[E]:
    """Return the members that `value` names, or raise `ConfigError`."""
    try:
        members = frozenset(map(enum, [value] if isinstance(value, str) else value))
    except (TypeError, ValueError):
        members = frozenset()
    if not members:
        known = ", ".join(repr(str(member)) for member in enum)
        raise ConfigError(f"{parameter} must be one or more of {known}, got {value!r}")
    return members


@attrs.define(eq=False)
class _Predicate:
    """A user's predicate. An exception means False, and is logged once."""

    _function: Callable[[Participant], bool]
    _has_failed: bool = False

    def __call__(self, participant: Participant) -> bool:
        try:
            return bool(self._function(participant))
        except Exception:  # noqa: BLE001 - the SDK's events go on, whatever it does
            if not self._has_failed:
                _log.exception("livekit: the predicate `participants` failed; it selects nothing")
            self._has_failed = True
            return False


def check_filter(value: Any) -> Any:
    """Return a `ParticipantFilter`, or raise `ConfigError`."""
    if value is None or isinstance(value, str | _Predicate):
        return value
    if callable(value) and not iscoroutinefunction(value):
        return _Predicate(value)
    if not isinstance(value, Collection) or not all(isinstance(each, str) for each in value):
        expected = "an identity, a collection of identities, or a predicate (no coroutine)"
        raise ConfigError(f"participants must be {expected}, got {value!r}")
    return value


def is_selected(
    participant: Participant,
    participants: ParticipantFilter,
    kinds: Collection[ParticipantKind] | None,
) -> bool:
    """Return whether a participant is selected; without `kinds`, agents only by `participants`."""
    if kinds is not None and participant.kind not in kinds:
        return False
    if participants is None:  # two agents that receive each other would talk to each other
        return kinds is not None or participant.kind is not ParticipantKind.AGENT
    if isinstance(participants, str):
        return participant.identity == participants
    if callable(participants):
        return participants(participant)
    return participant.identity in participants
