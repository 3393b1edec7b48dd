"""End-to-end encryption: which audio reaches rx, with which key."""

from __future__ import annotations

import anyio
import pytest
from livekit import rtc
from support.audio import collect_frames, is_loud, play_tone
from support.events import EventRecorder
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.tokens import TokenFactory
from support.waiting import wait_for

from beluga_livekit import open_livekit
from beluga_livekit.events import TrackUndecryptable

pytestmark = pytest.mark.anyio

KEY, OTHER = b"a key of 16 bytes", b"another one of 16"
NO_KEY = b""  # encryption is on, and the key of this participant is missing


def encryption(key: bytes | None) -> rtc.E2EEOptions | None:
    if key is None:
        return None
    return rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=key or None))


@pytest.mark.slow_audio
@measures_network_audio
@pytest.mark.parametrize(
    ("own", "theirs", "reason"),
    [
        (None, KEY, "the session has no key"),
        (OTHER, KEY, "the key is another one"),
        (NO_KEY, KEY, "there is no key for this participant"),
        (KEY, KEY, None),
        (KEY, None, None),
    ],
    ids=["no key", "another key", "key missing", "right key", "not encrypted"],
)
async def test_undecryptable_audio_is_received_as_silence_and_reported(
    server: Server,
    token: TokenFactory,
    caplog: pytest.LogCaptureFixture,
    own: bytes | None,
    theirs: bytes | None,
    reason: str | None,
) -> None:
    """Contract: rx has audio of a participant or silence, never noise; one event, one warning."""
    log = EventRecorder()
    async with (
        open_livekit(server.url, token("bot"), encryption=encryption(own), publish=False) as bot,
        open_livekit(
            server.url, token("ann"), encryption=encryption(theirs), subscribe=False
        ) as ann,
        collect_frames(bot.rx) as received,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(log.record, bot)
        await play_tone(ann, 440, 1.0)
        if reason is None:
            await wait_for(lambda: received.loud_seconds_from("ann") > 0.8)
        else:
            assert (await log.wait_for(TrackUndecryptable)).participant.identity == "ann"
            await play_tone(ann, 440, 0.5)
            await wait_for(lambda: len(received.frames) > 50)
            assert not any(map(is_loud, received.frames))
        tasks.cancel_scope.cancel()
    assert caplog.text.count("decrypting track") == (reason is not None)
    assert reason is None or reason in caplog.text
    assert not [each for each in log.events if isinstance(each, TrackUndecryptable)]


@pytest.mark.slow_audio
@measures_network_audio
async def test_audio_is_silence_while_own_encryption_is_disabled(
    server: Server, token: TokenFactory
) -> None:
    """SDK quirk: without its own encryption the SDK decodes an encrypted track to noise."""
    both = encryption(KEY)
    async with (
        open_livekit(server.url, token("bot"), encryption=both, publish=False) as bot,
        open_livekit(server.url, token("ann"), encryption=both, subscribe=False) as ann,
        collect_frames(bot.rx) as received,
    ):
        await play_tone(ann, 440, 1.0)
        await wait_for(lambda: received.loud_seconds_from("ann") > 0.8)
        await wait_for(lambda: not any(map(is_loud, received.frames[-10:])))
        bot.room.e2ee_manager.set_enabled(False)
        before = len(received.frames)
        await play_tone(ann, 440, 1.0)
        assert not any(map(is_loud, received.frames[before:]))
