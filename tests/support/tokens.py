"""Mint access tokens for a server, and read their claims."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

from livekit import api

from support.livekit_server import Server

TokenFactory = Callable[..., str]


def mint_token(
    server: Server,
    room: str,
    identity: str,
    *,
    ttl: float = 600.0,
    secret: str = "",
    kind: Any = "standard",
    name: str = "",
    metadata: str = "",
    attributes: dict[str, str] | None = None,
    **grants: Any,
) -> str:
    """Mint a token that may join a room, with further grants by keyword."""
    granted = api.VideoGrants(**{"room_join": True, "room": room, **grants})
    access = api.AccessToken(server.api_key, secret or server.api_secret)
    access = access.with_identity(identity).with_grants(granted).with_kind(kind)
    access = access.with_name(name).with_metadata(metadata)
    if attributes is not None:
        access = access.with_attributes(attributes)
    return access.with_ttl(dt.timedelta(seconds=ttl)).to_jwt()


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token, without checking its signature."""
    payload = token.split(".")[1]
    padded = payload + "=" * (-len(payload) % 4)
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return claims


def make_jwt(header: Any = None, **changes: Any) -> str:
    """Make a token with any claims and no valid signature, for tests without a server."""
    claims = {
        "sub": "ann",
        "exp": time.time() + 600,
        "video": {"roomJoin": True, "room": "voice-room"},
    } | changes
    parts = [{"alg": "HS256"} if header is None else header, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), "c2ln"])
