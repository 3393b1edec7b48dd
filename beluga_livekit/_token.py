"""Reads and checks the claims of an access token."""

import base64
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from ._errors import ConfigError
from .audio.format import to_number

Token = str | Callable[[], str | Awaitable[str]]
"""An access token, or a function that returns one, sync or async; called for every join."""


@attrs.frozen
class Grants:
    """The claims of a token that a session uses."""

    identity: str
    room: str
    can_publish: bool  # a microphone, as a session does


def read_token(token: object, *, room: str | None = None) -> Grants:
    """Return the claims of a token for joining `room` (None: any), or raise `ConfigError`.

    The server checks its signature.
    """
    if not token:
        raise ConfigError("livekit: Token is required")
    if not isinstance(token, str):
        raise ConfigError(f"livekit: the token must be a string, got {type(token).__name__}")
    claims = _claims(token)
    video = claims.get("video")
    if not isinstance(video, dict) or video.get("roomJoin") is not True:
        raise ConfigError(
            "livekit: the token does not grant joining a room; mint one with roomJoin"
        )
    granted, identity, expiry = video.get("room"), claims.get("sub"), claims.get("exp", math.inf)
    if not isinstance(granted, str) or not granted:
        raise ConfigError("livekit: the token names no room; mint one for a room")
    if room is not None and room != granted:
        raise ConfigError(f"livekit: the token is for room {granted!r}, not for {room!r}")
    if not isinstance(identity, str) or not identity:
        raise ConfigError("livekit: the token names no identity (sub); mint one with it")
    if (expiry := to_number(expiry)) is None:
        raise ConfigError("livekit: the token's expiry (exp) is not a time; mint another one")
    if expiry <= time.time():
        ago = time.time() - expiry
        raise ConfigError(f"livekit: the token has expired {ago:.0f} s ago; mint another one")
    sources = video.get("canPublishSources")
    microphone = not sources or not isinstance(sources, list) or "microphone" in sources
    can_publish = microphone and video.get("canPublish") is not False
    return Grants(identity, granted, can_publish)


def _claims(token: str) -> dict[str, Any]:
    try:
        header, payload, _ = (_decode(part) for part in token.split("."))
        claims = (json.loads(header), json.loads(payload))
    except (ValueError, RecursionError):
        claims = (None, None)
    if not isinstance(claims[0], dict) or not isinstance(claims[1], dict):
        hint = "; strip the white space around it" if token != token.strip() else ""
        raise ConfigError(f"livekit: the token is no JWT (three base64url parts){hint}")
    return claims[1]


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
