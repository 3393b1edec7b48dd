"""Exceptions, disconnect reasons, and the removal of secrets from texts."""

import re
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio

# A JWT in a text: two JSON objects and a signature in base64url, where "{" is "e" and one of 16
# characters. Some of the server's texts cut the signature off.
_JWT = re.compile(r"e[w-z0-9_-][\w-]{8,}\.e[w-z0-9_-][\w-]{8,}(?:\.[\w-]*)?")
_URL_SECRETS = re.compile(r"(?<=://)[^\s/@?#]*@|(?<=access_token=)[^\s&#]+")


def scrub(text: str) -> str:
    """Return `text` without access tokens and without the credentials of URLs."""
    return _URL_SECRETS.sub("", _JWT.sub("<token>", text))


def display_url(url: str) -> str:
    """Return `url` without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "<malformed URL>"
    host = parts.netloc.rpartition("@")[2]
    return scrub(urlunsplit((parts.scheme, host, parts.path, "", "")))


class DisconnectReason(StrEnum):
    """Why a session is no longer in its room, named as in LiveKit.

    DEPARTURE_TIMEOUT is our own: the last selected participant has left (`departure_timeout`).
    """

    UNKNOWN = "unknown"
    CLIENT_INITIATED = "client_initiated"
    DUPLICATE_IDENTITY = "duplicate_identity"
    SERVER_SHUTDOWN = "server_shutdown"
    PARTICIPANT_REMOVED = "participant_removed"
    ROOM_DELETED = "room_deleted"
    STATE_MISMATCH = "state_mismatch"
    JOIN_FAILURE = "join_failure"
    MIGRATION = "migration"
    SIGNAL_CLOSE = "signal_close"
    ROOM_CLOSED = "room_closed"
    USER_UNAVAILABLE = "user_unavailable"
    USER_REJECTED = "user_rejected"
    SIP_TRUNK_FAILURE = "sip_trunk_failure"
    CONNECTION_TIMEOUT = "connection_timeout"
    MEDIA_FAILURE = "media_failure"
    AGENT_ERROR = "agent_error"
    DEPARTURE_TIMEOUT = "departure_timeout"

    @property
    def is_hangup(self) -> bool:
        """Whether this is a normal end of a conversation, and no failure."""
        return self in _HANGUPS

    @property
    def is_retryable(self) -> bool:
        """Whether joining again may succeed: the connection or the server failed."""
        return self in _RETRYABLE


# Not DUPLICATE_IDENTITY: a second participant under our identity is a mistake in the deployment,
# and an end without an error would hide it.
_HANGUPS = (
    DisconnectReason.CLIENT_INITIATED,
    DisconnectReason.PARTICIPANT_REMOVED,
    DisconnectReason.ROOM_DELETED,
    DisconnectReason.ROOM_CLOSED,
    DisconnectReason.USER_UNAVAILABLE,
    DisconnectReason.USER_REJECTED,
    DisconnectReason.DEPARTURE_TIMEOUT,
)
_RETRYABLE = (
    DisconnectReason.UNKNOWN,  # the SDK's own attempts to reconnect have failed
    DisconnectReason.SERVER_SHUTDOWN,
    DisconnectReason.STATE_MISMATCH,
    DisconnectReason.MIGRATION,
    DisconnectReason.SIGNAL_CLOSE,
    DisconnectReason.CONNECTION_TIMEOUT,
    DisconnectReason.MEDIA_FAILURE,
)


def first_of(error: BaseException) -> BaseException:
    """Return the first error of an exception group, or the error if it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class LiveKitError(Exception):
    """The base class of this package's exceptions."""


class ConfigError(LiveKitError, ValueError):
    """An argument, or what a callable argument returned, is invalid."""


class ConnectError(LiveKitError, ConnectionError):
    """Joining the room, or publishing in it, failed.

    Attributes:
        retryable: Whether the same call may succeed later. False if the server refused it.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class AuthenticationError(ConnectError):
    """The server refused the token (401 or 403)."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)


class DisconnectedError(LiveKitError, anyio.BrokenResourceError):
    """The session is no longer in its room.

    Attributes:
        reason: Why it is not.
    """

    def __init__(
        self, message: str, *, reason: DisconnectReason = DisconnectReason.UNKNOWN
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self._origin: object = None  # what raised it; not pickled

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args, {"reason": self.reason})
