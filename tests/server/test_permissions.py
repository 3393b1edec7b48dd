"""Permissions that the server revokes and grants while a session is in the room."""

from __future__ import annotations

import anyio
import pytest
from support.audio import (
    frames_of_tone,
    measure,
    receive_until_silent,
    samples_of,
    send_frames,
    tone,
)
from support.events import EventRecorder
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.playback import seconds_played
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_for

from beluga_livekit import AudioFrame, LiveKitSession, Playout, open_livekit
from beluga_livekit.events import PermissionsChanged

pytestmark = pytest.mark.anyio

SECOND = AudioFrame.from_samples(tone(440, 1.0, 16000), 16000)


@measures_network_audio
async def test_audio_waits_while_publishing_is_not_permitted(
    server: Server, token: TokenFactory, admin: RoomAdmin, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: nothing counts as played until the grant; then all of it is received."""
    playouts: list[Playout] = []

    async def play(session: LiveKitSession) -> None:
        playouts.append(await session.play(SECOND))

    async with (
        open_livekit(server.url, token("bot")) as bot,
        open_livekit(server.url, token("ann")) as ann,
        anyio.create_task_group() as tasks,
    ):
        recorder = EventRecorder()
        tasks.start_soon(recorder.record, bot)
        await bot.play(SECOND)
        await receive_until_silent(ann.rx)
        await admin.permit("bot", publish=False)
        revoked = await recorder.wait_for(PermissionsChanged)
        assert (revoked.participant.identity, revoked.can_publish) == ("bot", False)
        tasks.start_soon(play, bot)
        before = seconds_played(bot)
        await anyio.sleep(1.5)  # Longer than the audio.
        assert not playouts
        assert seconds_played(bot) == pytest.approx(before, abs=0.01)
        await admin.permit("bot", publish=True)
        received = samples_of(await receive_until_silent(ann.rx))
        assert measure(received, 16000).duration == pytest.approx(1.0, abs=0.1)
        await wait_for(lambda: playouts)
        assert playouts[0] == Playout(1.0, 0.0, 0.0, interrupted=False)
        tasks.cancel_scope.cancel()
    assert caplog.text.count("publishing is not permitted; sends wait for the grant") == 1


@measures_network_audio
async def test_sends_fail_until_publishing_is_permitted_for_the_first_time(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: a token without the grant fails sends at once, until the server grants it."""
    async with (
        open_livekit(server.url, token("bot", can_publish=False)) as bot,
        open_livekit(server.url, token("ann")) as ann,
    ):
        for call in (bot.send(SECOND), bot.play(SECOND)):
            with pytest.raises(anyio.ClosedResourceError, match="does not allow to publish"):
                await call
        await admin.permit("bot", publish=True)
        with anyio.fail_after(DEADLINE):
            while True:
                try:
                    await bot.send(SECOND)
                    break
                except anyio.ClosedResourceError:
                    await anyio.sleep(0.05)  # The grant is on its way.
        received = samples_of(await receive_until_silent(ann.rx))
        assert measure(received, 16000).duration == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("wanted", ["ann", lambda participant: participant.identity == "ann"])
@measures_network_audio
async def test_first_frame_waits_for_a_selected_participant(
    server: Server, token: TokenFactory, wanted: object
) -> None:
    """Contract: another subscriber does not start a greeting, and may subscribe afterwards."""
    async with (
        open_livekit(server.url, token("bot"), participants=wanted) as bot,  # type: ignore[arg-type]
        open_livekit(server.url, token("agent"), participant_kinds=("standard",)) as agent,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.play, SECOND)
        await anyio.sleep(1.0)  # A subscription takes 0.05 s.
        assert seconds_played(bot) == 0
        async with open_livekit(server.url, token("ann")) as ann:
            received = samples_of(await receive_until_silent(ann.rx))
            assert measure(received, 16000).duration == pytest.approx(1.0, abs=0.1)
            tasks.start_soon(send_frames, bot.tx, frames_of_tone(440, 0.5, 16000))
            received = samples_of(await receive_until_silent(agent.rx))
            assert measure(received, 16000).duration >= 0.4


async def test_first_frame_waits_while_a_phone_rings(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: `subscription_timeout` does not run while a selected phone rings."""
    ringing = {"sip.callStatus": "ringing"}
    async with (
        open_livekit(server.url, token("bot"), subscription_timeout=0.2) as bot,
        open_livekit(server.url, token("phone", kind="sip", attributes=ringing)) as phone,
        anyio.create_task_group() as tasks,
    ):
        await wait_for(lambda: "phone" in bot.participants)
        tasks.start_soon(bot.play, SECOND)
        await anyio.sleep(0.6)  # Three times the timeout.
        assert seconds_played(bot) == 0
        await admin.update_attributes("phone", {"sip.callStatus": "active"})
        received = samples_of(await receive_until_silent(phone.rx))
        assert measure(received, 16000).duration == pytest.approx(1.0, abs=0.1)
