"""Hostile pre-connect audio: floods of streams, and streams that never end."""

from __future__ import annotations

import asyncio

import anyio
import numpy as np
import pytest
from support.audio import collect_frames, level_of, samples_of, tone
from support.leaks import native_event_subscribers
from support.livekit_server import Server
from support.raw_participant import RawParticipant, join_raw
from support.recordings import encode, opus_bomb
from support.tokens import TokenFactory
from support.waiting import wait_for

from beluga_livekit import open_livekit
from beluga_livekit._receive import preconnect
from beluga_livekit._receive.preconnect import MAX_OF_ONE, TOPIC
from beluga_livekit._receive.recording import MAX_BYTES

pytestmark = [pytest.mark.anyio, pytest.mark.faults]


async def open_recording(
    sender: RawParticipant, sid: str, mime_type: str = "audio/webm", to: str = "bot"
) -> object:
    """Open a byte stream as a client that sends a recording of its track."""
    return await sender.room.local_participant.stream_bytes(
        name="preconnect", topic=TOPIC, attributes={"trackId": sid}, mime_type=mime_type,
        destination_identities=[to],
    )  # fmt: skip
