"""Errors: their types, pickling, and the removal of secrets."""

from __future__ import annotations

import pickle

import anyio
import pytest
from livekit import rtc

from beluga_livekit import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectedError,
    DisconnectReason,
    LiveKitError,
)
from beluga_livekit._errors import display_url, scrub
from beluga_livekit._sdk.rtc import disconnect_reason

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def test_errors_derive_from_builtin_and_anyio_errors() -> None:
    """Contract: each error derives from the built-in or anyio error that callers catch."""
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConnectError, ConnectionError)
    assert issubclass(AuthenticationError, ConnectError)
    assert issubclass(DisconnectedError, anyio.BrokenResourceError)
    for error in (ConfigError, ConnectError, DisconnectedError):
        assert issubclass(error, LiveKitError)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("bad"),
        ConnectError("refused", retryable=False),
        AuthenticationError("who?"),
        DisconnectedError("gone", reason=DisconnectReason.ROOM_DELETED),
    ],
)
def test_errors_survive_pickling(error: LiveKitError) -> None:
    """Contract: errors keep their type and fields when pickled."""
    error.add_note("seen")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.args == error.args
    for name in ("retryable", "reason"):
        assert getattr(copy, name, None) == getattr(error, name, None)


def test_scrub_removes_tokens_and_credentials() -> None:
    """Contract: text from the SDK never shows a token or URL credentials."""
    text = f"401: invalid token: {JWT}, at wss://user:secret@host/rtc?access_token={JWT}&x=1"
    assert scrub(text) == "401: invalid token: <token>, at wss://host/rtc?access_token=&x=1"
    spaced = "eyAiYWxnIjogIkhTMjU2In0.eyAic3ViIjogIngiIH0.c2lnbmF0dXJl"
    assert scrub(f"invalid token: {spaced}, error") == "invalid token: <token>, error"
    harmless = "my-project-abcd.livekit-cloud.io: livekit_ffi.room_apis"
    assert scrub(harmless) == harmless
    assert display_url("wss://u:p@host:7880/a?access_token=abc#f") == "wss://host:7880/a"


def test_reason_of_names_every_sdk_reason() -> None:
    """SDK quirk: reasons are numbers, and a newer server may send unknown ones."""
    for name, value in rtc.DisconnectReason.items():
        expected = "UNKNOWN" if name == "UNKNOWN_REASON" else name
        assert disconnect_reason(value).name == expected
    assert disconnect_reason(9999) is DisconnectReason.UNKNOWN
    assert DisconnectReason.ROOM_DELETED.is_hangup
    assert not DisconnectReason.DUPLICATE_IDENTITY.is_hangup
