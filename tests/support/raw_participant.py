"""A participant made with the SDK alone: the other side of a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from beluga_livekit import AudioFrame
from support.waiting import DEADLINE, wait_for


def subscribed_sids(room: rtc.Room) -> set[str]:
    """Return the SIDs of the remote tracks that a room is subscribed to."""
    participants = room.remote_participants.values()
    each = [p for participant in participants for p in participant.track_publications.values()]
    return {publication.sid for publication in each if publication.subscribed}


class RawParticipant:
    """Publishes one 48 kHz track, and receives the tracks of others."""

    def __init__(self, room: rtc.Room, channels: int) -> None:
        self.room = room
        self._source = rtc.AudioSource(48000, channels, 100)
        self._channels = channels
        self._publication: rtc.LocalTrackPublication | None = None

    async def publish(self, source: str = "UNKNOWN", **options: Any) -> str:
        """Publish the track with the SDK's own options; return its SID."""
        track = rtc.LocalAudioTrack.create_audio_track("peer", self._source)
        chosen = rtc.TrackPublishOptions(
            source=rtc.TrackSource.Value(f"SOURCE_{source}"), **options
        )
        self._publication = await self.room.local_participant.publish_track(track, chosen)
        return self._publication.sid

    async def unpublish(self) -> None:
        assert self._publication is not None
        await self.room.local_participant.unpublish_track(self._publication.sid)

    async def play(self, samples: NDArray[np.int16]) -> None:
        """Play 48 kHz samples, once the track has a subscriber; return when they have played."""
        assert self._publication is not None
        with anyio.fail_after(DEADLINE):
            await self._publication.wait_for_subscription()
        for at in range(0, len(samples), 960):
            part = samples[at : at + 960]
            frame = rtc.AudioFrame(part.tobytes(), 48000, self._channels, len(part))
            await self._source.capture_frame(frame)
        await self._source.wait_for_playout()

    async def frames(self, identity: str = "bot") -> AsyncGenerator[AudioFrame, None]:
        """Yield 48 kHz mono frames of a participant's track, from its subscription on."""
        await wait_for(lambda: self._track_of(identity))
        track = self._track_of(identity)
        assert track is not None
        stream = rtc.AudioStream(track, sample_rate=48000, num_channels=1)
        try:
            async for event in stream:
                yield AudioFrame(bytes(event.frame.data), 48000)
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    def _track_of(self, identity: str) -> rtc.Track | None:
        participant = self.room.remote_participants.get(identity)
        publications = participant.track_publications.values() if participant else ()
        return next((p.track for p in publications if p.track is not None), None)


@asynccontextmanager
async def join_raw(
    url: str, token: str, *, channels: int = 1, auto_subscribe: bool = True
) -> AsyncIterator[RawParticipant]:
    """Join a room with the SDK alone, and leave it at the end of the block."""
    room = rtc.Room()
    participant = RawParticipant(room, channels)
    try:
        # Unshielded, a cancelled connect of the raw SDK ends the process 15 s later.
        with anyio.CancelScope(shield=True):
            await room.connect(url, token, rtc.RoomOptions(auto_subscribe=auto_subscribe))
        yield participant
    finally:
        with anyio.CancelScope(shield=True):
            await room.disconnect()
