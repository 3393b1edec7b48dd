"""End-to-end encryption of remote tracks: which of them cannot be decrypted.

| the session has | the SDK gives | found by |
|---|---|---|
| no key | noise at full scale | `can_decrypt`, for each frame |
| no key for this participant | silence | `e2ee_state_changed` |
| another key | silence, without an event by default | `watch` |
"""

from collections.abc import Callable
from typing import Any

import anyio

from .._sdk import rtc
from .base import SessionParts

# Interval between two checks of the statistics of an encrypted track (s).
WATCH_INTERVAL = 1.0
# Packets of which at least one can be decrypted if any can. A second of speech has 50; a muted
# track sends few, and with the right key the first one is decoded within 20 ms.
MIN_PACKETS = 25


def decryption_of(room: rtc.Room, publication: Any) -> Callable[[], bool] | None:
    """Return a function that checks whether we decrypt a track; None if it is not encrypted."""
    if not publication.encryption_type:
        return None
    return lambda: room.e2ee_manager.enabled


def set_state(parts: SessionParts, participant: Any, state: Any) -> None:
    """Report the encrypted tracks of a participant if the SDK cannot decrypt them."""
    if participant is not None and state in rtc.UNDECRYPTABLE:
        for track in list(parts.room_state.tracks.values()):
            if track.participant == participant.identity and track.can_decrypt is not None:
                parts.readers.report_undecryptable(track, rtc.UNDECRYPTABLE[state])


async def watch(parts: SessionParts, sid: str, audio: Any) -> None:
    """Report an encrypted track of which packets arrive and none can be decoded."""
    while True:
        await anyio.sleep(WATCH_INTERVAL)
        track = parts.room_state.tracks.get(sid)
        if track is None or track.audio is not audio or track.is_undecryptable:
            return
        packets, samples = await rtc.received(audio)
        if samples:
            return
        if packets >= MIN_PACKETS:
            parts.readers.report_undecryptable(track, "the key is another one")
