"""Access tokens: reading their claims, and never showing them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tokens import make_jwt

from beluga_livekit import ConfigError, open_livekit
from beluga_livekit._token import read_token
from beluga_livekit.transport import TransportConfig

URL = "ws://127.0.0.1:7880"


def test_token_for_another_room_is_rejected() -> None:
    """Contract: `room` has to be the token's room."""
    with pytest.raises(ConfigError, match="for room 'voice-room', not for 'other'"):
        open_livekit(URL, make_jwt(), room="other")
    open_livekit(URL, make_jwt(), room="voice-room")


def test_read_token_returns_identity_room_and_permission() -> None:
    """Contract: identity, room and the permission to publish come from the claims."""
    grants = read_token(make_jwt(video={"roomJoin": True, "room": "r", "canPublish": False}))
    assert (grants.identity, grants.room, grants.can_publish) == ("ann", "r", False)
    assert read_token(make_jwt()).can_publish
    for sources, can_publish in [([], True), (["camera"], False), (["camera", "microphone"], True)]:
        video = {"roomJoin": True, "room": "r", "canPublishSources": sources}
        assert read_token(make_jwt(video=video)).can_publish is can_publish


@given(st.text() | st.binary().map(lambda b: ".".join([base64.b64encode(b).decode()] * 3)))
def test_read_token_raises_config_error_for_any_text(text: str) -> None:
    """Contract: text that is no token is a ConfigError, whatever it is."""
    with pytest.raises(ConfigError):
        read_token(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_read_token_raises_config_error_for_any_claims(claims: Any) -> None:
    """Contract: claims of any JSON type are a ConfigError or read."""
    with pytest.raises(ConfigError):
        read_token(make_jwt(video=claims))


def test_token_and_password_are_never_shown() -> None:
    """Contract: no message and no repr shows a token or a password."""
    expired = make_jwt(exp=1)
    with pytest.raises(ConfigError) as caught:
        open_livekit("ws://user:password@host", expired)
    assert expired[:20] not in str(caught.value)
    shown = repr(TransportConfig(url="ws://user:password@host", token=expired))
    assert expired[:20] not in shown
    assert "password" not in shown
    assert "malformed" in repr(TransportConfig(url="http://[bad"))
    with pytest.raises(ConfigError) as caught:
        open_livekit("ftp://user:password@host", expired)
    assert "password" not in str(caught.value)
