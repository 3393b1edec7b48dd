"""play() and wait_for_playout() in a room of the server."""

from __future__ import annotations

import anyio
import pytest
from support.audio import measure, receive_until_silent, samples_of, split_into_frames, tone
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.playback import NEW, RATE, AsyncIterableSource, frame_of, wait_until_played
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import wait_until_idle

from beluga_livekit import AudioFrame, DisconnectedError, Playout, open_livekit

pytestmark = pytest.mark.anyio


@measures_network_audio
async def test_interrupted_play_is_received_for_reported_seconds(
    server: Server, token: TokenFactory
) -> None:
    """Contract: `played` matches what a subscriber receives, but for codec and jitter buffers."""
    async with (
        open_livekit(server.url, token("ann")) as ann,
        open_livekit(server.url, token("ben")) as ben,
    ):
        await wait_until_idle()
        playouts: list[Playout] = []

        async def play() -> None:
            playouts.append(await ann.play(tone(440, 5.0, 24000).tobytes(), sample_rate=24000))

        async def interrupt() -> None:
            await wait_until_played(ann, 0.8)
            await ann.interrupt()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            tasks.start_soon(interrupt)
            frames = await receive_until_silent(ben.rx)
        (playout,) = playouts
        assert playout.interrupted
        received = measure(samples_of(frames), 16000, onset=0.5)
        assert received.frequency == pytest.approx(440, abs=1)
        # The tolerance covers jitter buffers and the codec's onset.
        assert received.duration == pytest.approx(playout.played, abs=0.08)


@pytest.mark.parametrize(("seconds", "piece"), [(30.0, 0.02), (30.0, 30.0), (0.9, 0.9)])
async def test_play_raises_when_room_is_deleted(
    server: Server, token: TokenFactory, admin: RoomAdmin, seconds: float, piece: float
) -> None:
    """Contract: play raises DisconnectedError, wherever its audio is: source, pump or SDK."""
    source = AsyncIterableSource(split_into_frames(tone(440, seconds, RATE), RATE, piece))
    async with open_livekit(
        server.url, token("bot"), subscription_timeout=0, send_buffer=1.0
    ) as session:

        async def delete() -> None:
            await wait_until_played(session, 0.1)
            await admin.delete_room()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete)
            with pytest.raises(DisconnectedError):
                await session.play(source)
        assert source.closed
        with pytest.raises(DisconnectedError):
            await session.play(frame_of(NEW))
        with pytest.raises(DisconnectedError):
            await session.wait_for_playout()


async def test_wait_for_playout_raises_when_room_is_deleted(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: audio accepted before tx closed cannot be played any more, which raises."""
    async with open_livekit(server.url, token("bot"), subscription_timeout=0) as session:
        await session.send(AudioFrame.from_samples(tone(440, 30.0, 16000), 16000))
        await session.send_eof()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(admin.delete_room)
            with pytest.raises(DisconnectedError):
                await session.wait_for_playout()


async def test_play_raises_when_session_only_receives(server: Server, token: TokenFactory) -> None:
    """Contract: `publish=False` rejects play and wait_for_playout; interrupt does nothing."""
    async with open_livekit(server.url, token("bot"), publish=False) as session:
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.play(frame_of(NEW))
        await session.interrupt()
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            await session.wait_for_playout()
