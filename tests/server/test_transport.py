"""A provider opens a session in a room."""

from __future__ import annotations

import anyio
import pytest
from support.livekit_server import Server
from support.tokens import TokenFactory

from beluga_livekit import AudioFrame, LiveKitSession, transport
from beluga_livekit.transport import TransportConfig

pytestmark = pytest.mark.anyio


async def test_provider_opens_session(server: Server, token: TokenFactory, room_name: str) -> None:
    """Contract: `transport.new` gives a LiveKitSession with the configured format."""
    config = TransportConfig(server.url, token("bot"), 24000, 2, extra={"room": room_name})
    async with transport.new("livekit", config) as session:
        assert isinstance(session, LiveKitSession)
        assert session.sample_rate == 24000
        assert session.room.name == room_name
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        await session.send(AudioFrame(bytes(640), 16000))
