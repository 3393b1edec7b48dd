"""Attack a room until killed: python -m support.attacker URL TOKEN_1 TOKEN_2 ...

A process of its own, so that its memory and its processor time are not counted as the session's.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from livekit import rtc

from beluga_livekit._receive.preconnect import TOPIC
from support.raw_participant import RawParticipant, join_raw
from support.recordings import opus_bomb

BOMB = opus_bomb(200_000)  # half an hour of audio

Attack = Callable[[rtc.LocalParticipant, int], Awaitable[Any]]


async def open_stream(participant: rtc.LocalParticipant, number: int) -> rtc.ByteStreamWriter:
    """Open a recording that never ends."""
    attributes = {"trackId": f"TR_{number}"}
    writer = await participant.stream_bytes(
        name="preconnect", topic=TOPIC, attributes=attributes, mime_type="audio/webm"
    )
    await writer.write(bytes(1000))
    return writer


async def send_bomb(participant: rtc.LocalParticipant, number: int) -> None:
    attributes = {"trackId": f"TR_bomb_{number}"}
    writer = await participant.stream_bytes(
        name="preconnect", topic=TOPIC, attributes=attributes, mime_type="audio/webm"
    )
    await writer.write(BOMB)
    await writer.aclose()


async def press_key(participant: rtc.LocalParticipant, number: int) -> None:
    await participant.publish_dtmf(code=number % 10, digit=str(number % 10))


async def update_metadata(participant: rtc.LocalParticipant, number: int) -> None:
    await participant.set_metadata(f"{number}" * 1000)


async def publish_track(participant: rtc.LocalParticipant, number: int) -> None:
    source = rtc.AudioSource(48000, 1, 100)
    track = rtc.LocalAudioTrack.create_audio_track(f"{number}", source)
    publication = await participant.publish_track(track)
    await participant.unpublish_track(publication.sid)
    await source.aclose()


# Interval between two of each (s), for each participant.
ATTACKS: dict[Attack, float] = {
    open_stream: 0.02,
    send_bomb: 1.0,
    press_key: 0.02,
    update_metadata: 0.05,
    publish_track: 0.1,
}


async def repeat(attacker: RawParticipant, attack: Attack, interval: float) -> None:
    for number in itertools.count():
        try:
            await attack(attacker.room.local_participant, number)
        except Exception as error:  # noqa: BLE001 - the server may refuse it; the flood goes on
            print(f"{attack.__name__}: {error}", file=sys.stderr)
        await anyio.sleep(interval)


async def main(*arguments: str) -> None:
    url, *tokens = arguments
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        for token in tokens:
            attacker = await stack.enter_async_context(join_raw(url, token, auto_subscribe=False))
            for attack, interval in ATTACKS.items():
                tasks.start_soon(repeat, attacker, attack, interval)
        print("attacking", flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
