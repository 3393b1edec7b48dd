"""Session options: rejected at the call, before anything is opened."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import pytest
from support.tokens import make_jwt

from beluga_livekit import ConfigError, open_livekit, open_loopback
from beluga_livekit._options import SessionOptions

URL = "ws://127.0.0.1:7880"


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("", make_jwt(), "^livekit: URL is required$"),
        (None, make_jwt(), "^livekit: URL is required$"),
        (URL, "", "^livekit: Token is required$"),
        (URL, None, "^livekit: Token is required$"),
        (b"ws://x", make_jwt(), "must be a string, got bytes"),
        ("127.0.0.1:7880", make_jwt(), "must look like wss://"),
        ("ftp://host", make_jwt(), "must look like wss://"),
        ("ws://", make_jwt(), "must look like wss://"),
        ("ws://host:port", make_jwt(), "malformed"),
        (URL, b"token", "must be a string, got bytes"),
        (URL, "secret", "no JWT"),
        (URL, "a.b.c", "no JWT"),
        (URL, make_jwt() + "\n", "white space around it"),
        (URL, make_jwt(header=[]), "no JWT"),
        (URL, make_jwt(video={"room": "voice-room"}), "roomJoin"),
        (URL, make_jwt(video={"roomJoin": "yes", "room": "voice-room"}), "roomJoin"),
        (URL, make_jwt(video={"roomJoin": True}), "names no room"),
        (URL, make_jwt(sub=""), "names no identity"),
        (URL, make_jwt(exp="soon"), "not a time"),
        (URL, make_jwt(exp=-(10**400)), "not a time"),
        (URL, make_jwt(exp=time.time() - 60), r"expired \d+ s ago"),
    ],
)
def test_open_livekit_rejects_wrong_url_or_token(url: Any, token: Any, message: str) -> None:
    """Contract: the URL and the token's claims are checked when called."""
    with pytest.raises(ConfigError, match=message):
        open_livekit(url, token)


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
def test_all_url_schemes_are_accepted(scheme: str) -> None:
    """Contract: ws, wss, http and https name a server."""
    open_livekit(f"{scheme}://host.example:7880/path", make_jwt())


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
        ({"frame_size": np.int64(16_001)}, "frame_size must be 16 to 16000"),
        ({"frame_size": True}, "frame_size must be 16 to 16000"),
        ({"sample_rate": 16_000.0}, "sample_rate must be a whole number"),
        ({"num_channels": True}, "num_channels must be a whole number from 1 to 8"),
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
        ({"subscribe": 0}, "subscribe must be True or False"),
        ({"on_room": 5}, "on_room must be callable"),
    ],
)
def test_open_livekit_rejects_wrong_keyword(keywords: dict[str, Any], message: str) -> None:
    """Contract: each error names the keyword and its limits."""
    with pytest.raises(ConfigError, match=message):
        open_livekit(URL, make_jwt(), **keywords)


def test_open_loopback_rejects_wrong_keyword() -> None:
    """Contract: a loopback validates as `open_livekit` does."""
    with pytest.raises(ConfigError, match="sample_rate"):
        open_loopback(sample_rate=50)


def test_options_take_numbers_of_any_type() -> None:
    """Contract: whole numbers are stored as int, seconds as float, whatever their type was."""
    options = SessionOptions(
        sample_rate=np.int64(16_000),
        num_channels=np.uint8(2),
        frame_size=np.int32(512),
        receive_buffer=np.float32(0.5),
        max_delay=Fraction(1, 8),
        drain_timeout=np.float64(3),
        connect_timeout=np.int16(4),
    )
    stored = attrs.asdict(options)
    for name, value in (
        *(("sample_rate", 16_000), ("num_channels", 2), ("frame_size", 512)),
        *(("receive_buffer", 0.5), ("max_delay", 0.125), ("drain_timeout", 3.0)),
        *(("connect_timeout", 4.0), ("rejoin_timeout", 60.0), ("departure_timeout", math.inf)),
    ):
        assert (stored[name], type(stored[name])) == (value, type(value)), name
    assert SessionOptions(max_delay=None).max_delay is None


@pytest.mark.parametrize("wrong", [True, np.True_, "1", 1j, float("nan"), 10**400, [1.0]])
@pytest.mark.parametrize(
    "name", ["max_delay", "receive_buffer", "send_buffer", "drain_timeout", "connect_timeout"]
)
def test_options_reject_seconds_that_are_no_number(name: str, wrong: Any) -> None:
    """Contract: a bool, a text, NaN and a number beyond a float are ConfigErrors."""
    with pytest.raises(ConfigError, match=f"^{name} must be "):
        SessionOptions(**{name: wrong})
