"""What is wrong with the arguments is said at once: no server, no event loop, nothing opened."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_livekit import ConfigError, open_livekit, open_loopback
from beluga_livekit._token import read_token
from beluga_livekit.transport import TransportConfig

URL = "ws://127.0.0.1:7880"


def jwt(header: Any = None, **changes: Any) -> str:
    claims = {
        "sub": "ann",
        "exp": time.time() + 600,
        "video": {"roomJoin": True, "room": "voice-room"},
    } | changes
    parts = [{"alg": "HS256"} if header is None else header, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), "c2ln"])


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("", jwt(), "^livekit: URL is required$"),
        (None, jwt(), "^livekit: URL is required$"),
        (URL, "", "^livekit: Token is required$"),
        (URL, None, "^livekit: Token is required$"),
        (b"ws://x", jwt(), "must be a string, got bytes"),
        ("127.0.0.1:7880", jwt(), "must look like wss://"),
        ("ftp://host", jwt(), "must look like wss://"),
        ("ws://", jwt(), "must look like wss://"),
        ("ws://host:port", jwt(), "malformed"),
        (URL, b"token", "must be a string, got bytes"),
        (URL, "secret", "no JWT"),
        (URL, "a.b.c", "no JWT"),
        (URL, jwt() + "\n", "white space around it"),
        (URL, jwt(header=[]), "no JWT"),
        (URL, jwt(video={"room": "voice-room"}), "roomJoin"),
        (URL, jwt(video={"roomJoin": "yes", "room": "voice-room"}), "roomJoin"),
        (URL, jwt(video={"roomJoin": True}), "names no room"),
        (URL, jwt(sub=""), "names no identity"),
        (URL, jwt(exp="soon"), "not a time"),
        (URL, jwt(exp=time.time() - 60), r"expired \d+ s ago"),
    ],
)
def test_a_wrong_url_or_token_says_what_is_wrong(url: Any, token: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_livekit(url, token)


def test_the_token_has_to_be_for_the_room() -> None:
    with pytest.raises(ConfigError, match="for room 'voice-room', not for 'other'"):
        open_livekit(URL, jwt(), room="other")
    open_livekit(URL, jwt(), room="voice-room")


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
def test_all_schemes_of_a_server_are_fine(scheme: str) -> None:
    open_livekit(f"{scheme}://host.example:7880/path", jwt())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sample_rate": 7999}, "sample_rate must be 8000 to 192000"),
        ({"sample_rate": 192_001}, "sample_rate must be 8000 to 192000"),
        ({"sample_rate": 0}, "sample_rate must be 8000 to 192000"),
        ({"sample_rate": "16k"}, "sample_rate must be a whole number"),
        ({"num_channels": 0}, "num_channels must be a whole number from 1 to 8"),
        ({"num_channels": 9}, "num_channels must be a whole number from 1 to 8"),
        ({"frame_size": 0}, "frame_size must be 16 to 16000"),
        ({"frame_size": 320.0}, "frame_size must be 16 to 16000"),
        ({"receive_buffer": 0}, "receive_buffer must be 0.02 to 30 seconds"),
        ({"receive_buffer": float("nan")}, "receive_buffer must be"),
        ({"send_buffer": 0.001}, "send_buffer must be 0.02 to 1 seconds"),
        ({"send_buffer": 5}, "send_buffer must be 0.02 to 1 seconds"),
        ({"connect_timeout": 0}, "connect_timeout must be 0.1 or more seconds, or None"),
        ({"connect_timeout": float("nan")}, "connect_timeout must be 0.1 or more"),
        ({"rtc_config": {}}, "rtc_config must be an rtc.RtcConfiguration, got dict"),
        ({"encryption": "key"}, "encryption must be an rtc.E2EEOptions, got str"),
        ({"publish_options": {}}, "publish_options must be an rtc.TrackPublishOptions, got dict"),
        ({"subscription_timeout": -1}, "subscription_timeout must be 0 or more seconds"),
        ({"drain_timeout": "5"}, "drain_timeout must be 0 or more seconds"),
        ({"publish": "no"}, "publish must be True or False"),
        ({"on_room": 5}, "on_room must be callable"),
    ],
)
def test_a_wrong_keyword_says_what_was_expected(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_livekit(URL, jwt(), **keywords)


def test_a_loopback_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        open_loopback(sample_rate=50)


def test_what_a_token_says() -> None:
    grants = read_token(jwt(video={"roomJoin": True, "room": "r", "canPublish": False}))
    assert (grants.identity, grants.room, grants.can_publish) == ("ann", "r", False)
    assert read_token(jwt()).can_publish
    for sources, can_publish in [([], True), (["camera"], False), (["camera", "microphone"], True)]:
        video = {"roomJoin": True, "room": "r", "canPublishSources": sources}
        assert read_token(jwt(video=video)).can_publish is can_publish


@given(st.text() | st.binary().map(lambda b: ".".join([base64.b64encode(b).decode()] * 3)))
def test_no_text_whatever_makes_reading_a_token_fail_otherwise(text: str) -> None:
    with pytest.raises(ConfigError):
        read_token(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_claims_whatever_do_either(claims: Any) -> None:
    with pytest.raises(ConfigError):
        read_token(jwt(video=claims))


def test_no_message_and_no_repr_shows_the_token() -> None:
    expired = jwt(exp=1)
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
