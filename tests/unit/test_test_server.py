"""The server that the tests use: never the one that users export."""

from __future__ import annotations

import pytest
from support.livekit_server import server_from_environment


def test_tests_take_no_server_that_users_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: hostile tests flood and delete rooms; another server has a variable of its own."""
    for name in ("URL", "KEY", "SECRET"):
        monkeypatch.delenv(f"BELUGA_TEST_{name}", raising=False)
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.setenv(name, "ws://production.example")
    assert server_from_environment() is None
    for name in ("URL", "KEY", "SECRET"):
        monkeypatch.setenv(f"BELUGA_TEST_{name}", name)
    chosen = server_from_environment()
    assert chosen is not None
    assert (chosen.url, chosen.api_key, chosen.api_secret) == ("URL", "KEY", "SECRET")
