"""TransportConfig, and the registry of providers."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
from support.tokens import make_jwt

from beluga_livekit import ConfigError, open_loopback, transport
from beluga_livekit.transport import LiveKitTransport, TransportConfig


@pytest.mark.parametrize(
    "make", [lambda config: transport.new("livekit", config), LiveKitTransport]
)
def test_transport_config_is_validated_when_session_is_made(make: Any) -> None:
    """Contract: a provider rejects a wrong TransportConfig at the call."""
    url = "ws://127.0.0.1:1"
    good = make_jwt()
    for config, message in [
        (TransportConfig(), "^livekit: URL is required$"),
        (TransportConfig(url=url), "^livekit: Token is required$"),
        (TransportConfig(url, good, extra={"room": "other"}), "not for 'other'"),
        (TransportConfig(url, good, sample_rate=1), "sample_rate must be 8000"),
        (TransportConfig(url, good, extra={"recieve_buffer": 1}), "mean 'receive_buffer'"),
        (TransportConfig(url, good, extra={"num_channels": 2}), "TransportConfig.channels"),
        (TransportConfig(url, good, extra={"token": good}), "TransportConfig.token"),
        ({"url": url}, "expected a TransportConfig, got dict"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make(config)
    make(TransportConfig(url, good, extra={"room": "voice-room", "frame_size": 512}))


def test_transport_extra_must_be_mapping() -> None:
    """Contract: `extra` is checked when the TransportConfig is made."""
    with pytest.raises(ConfigError, match="extra must be a mapping, got NoneType"):
        TransportConfig("ws://host", "token", extra=None)  # type: ignore[arg-type]


def test_providers_are_registered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: `register` adds a provider, once, and `new` finds it."""
    monkeypatch.setattr(transport, "_registered", {})
    assert "livekit" in transport.providers()
    with pytest.raises(ConfigError, match=r"unknown provider 'daily'; known: .*livekit"):
        transport.new("daily", TransportConfig())
    with pytest.raises(ConfigError, match="registered already"):
        transport.register("livekit", LiveKitTransport)
    made: list[TransportConfig] = []

    def loopback(config: TransportConfig) -> Any:
        made.append(config)
        return open_loopback(sample_rate=config.sample_rate)

    transport.register("loopback", loopback)
    assert "loopback" in transport.providers()
    transport.new("loopback", TransportConfig(sample_rate=8000))
    assert [config.sample_rate for config in made] == [8000]


def test_providers_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: the entry point group beluga.transports adds providers."""
    (entry,) = importlib.metadata.entry_points(group="beluga.transports", name="livekit")
    assert entry.load() is LiveKitTransport
    other = importlib.metadata.EntryPoint("other", "builtins:repr", "beluga.transports")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [other])
    assert transport.providers() == ["livekit", "other"]
    assert "TransportConfig" in str(transport.new("other", TransportConfig()))
