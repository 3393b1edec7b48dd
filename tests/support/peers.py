"""A participant made of the raw SDK: what a session has to get on with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
from anyio.abc import SocketAttribute, SocketStream
from livekit import rtc
from numpy.typing import NDArray

from beluga_livekit import AudioFrame
from support.audio import DEADLINE


def subscribed(room: rtc.Room) -> set[str]:
    """The SIDs of the tracks that somebody in a room is subscribed to."""
    participants = room.remote_participants.values()
    each = [p for participant in participants for p in participant.track_publications.values()]
    return {publication.sid for publication in each if publication.subscribed}


class Peer:
    """Publishes one 48 kHz track and hears whatever else is in the room."""

    def __init__(self, room: rtc.Room, channels: int) -> None:
        self.room = room
        self._source = rtc.AudioSource(48000, channels, 100)
        self._channels = channels
        self._publication: rtc.LocalTrackPublication | None = None

    async def publish(self, source: str = "UNKNOWN", **options: Any) -> str:
        """Publishes the track, with the SDK's own options; returns its SID."""
        track = rtc.LocalAudioTrack.create_audio_track("peer", self._source)
        chosen = rtc.TrackPublishOptions(
            source=rtc.TrackSource.Value(f"SOURCE_{source}"), **options
        )
        self._publication = await self.room.local_participant.publish_track(track, chosen)
        return self._publication.sid

    async def unpublish(self) -> None:
        assert self._publication is not None
        await self.room.local_participant.unpublish_track(self._publication.sid)

    async def say(self, samples: NDArray[np.int16]) -> None:
        """Says 48 kHz samples, once somebody listens."""
        assert self._publication is not None
        with anyio.fail_after(DEADLINE):
            await self._publication.wait_for_subscription()
        for at in range(0, len(samples), 960):
            part = samples[at : at + 960]
            frame = rtc.AudioFrame(part.tobytes(), 48000, self._channels, len(part))
            await self._source.capture_frame(frame)
        await self._source.wait_for_playout()

    async def frames(self, identity: str = "bot") -> AsyncGenerator[AudioFrame, None]:
        """Hears somebody's track, as 48 kHz mono frames, as soon as there is one."""
        with anyio.fail_after(DEADLINE):
            while (track := self._track_of(identity)) is None:
                await anyio.sleep(0.01)
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
async def join(
    url: str, token: str, *, channels: int = 1, auto_subscribe: bool = True
) -> AsyncIterator[Peer]:
    room = rtc.Room()
    peer = Peer(room, channels)
    try:
        # Cancelled in the middle of it, the raw SDK ends the process 15 s later.
        with anyio.CancelScope(shield=True):
            await room.connect(url, token, rtc.RoomOptions(auto_subscribe=auto_subscribe))
        yield peer
    finally:
        with anyio.CancelScope(shield=True):
            await room.disconnect()


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """A fake server, for what no real one does: it accepts, and never answers. Gives its URL."""

    async def accept(stream: SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, accept)
        yield f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()
