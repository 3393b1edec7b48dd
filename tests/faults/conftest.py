"""A server to break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import livekit_server
from support.livekit_server import OwnServer


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A server for this test alone."""
    with livekit_server.run_own_server() as running:
        yield running
