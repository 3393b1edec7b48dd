"""Beluga's provider surface, and raw PCM in and out."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from conftest import MakeToken
from support.audio import hear, measure, samples_of, tone
from support.livekit_server import Server

from beluga_livekit import AudioFrame, ConfigError, LiveKitSession, open_loopback, transport
from beluga_livekit.pcm import PcmReceiveStream, PcmSendStream
from beluga_livekit.transport import AsVoiceTransport, LiveKitTransport, TransportConfig

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session() -> AsyncIterator[LiveKitSession]:
    async with open_loopback() as session:
        yield session


@pytest.mark.parametrize(
    "make", [lambda config: transport.new("livekit", config), LiveKitTransport]
)
def test_a_configuration_is_checked_at_once(make: Any, token: MakeToken, room: str) -> None:
    url = "ws://127.0.0.1:1"
    good = token("bot")
    for config, message in [
        (TransportConfig(), "^livekit: URL is required$"),
        (TransportConfig(url=url), "^livekit: Token is required$"),
        (TransportConfig(url, good, extra={"room": "other"}), "not for 'other'"),
        (TransportConfig(url, good, sample_rate=1), "sample_rate must be 8000"),
        (TransportConfig(url, good, extra={"recieve_buffer": 1}), "mean 'receive_buffer'"),
        (TransportConfig(url, good, extra={"num_channels": 2}), "TransportConfig.channels"),
        (TransportConfig(url, good, extra={"token": good}), "TransportConfig.token"),
        ({"url": url}, "expected a TransportConfig, got dict"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make(config)
    make(TransportConfig(url, good, extra={"room": room, "frame_size": 512}))


async def test_a_provider_gives_a_session(server: Server, token: MakeToken, room: str) -> None:
    config = TransportConfig(server.url, token("bot"), 24000, 2, extra={"room": room})
    async with transport.new("livekit", config) as session:
        assert isinstance(session, LiveKitSession)
        assert session.sample_rate == 24000
        assert session.room.name == room
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        await session.send(AudioFrame(bytes(640), 16000))


def test_extra_is_a_mapping() -> None:
    with pytest.raises(ConfigError, match="extra must be a mapping, got NoneType"):
        TransportConfig("ws://host", "token", extra=None)  # type: ignore[arg-type]


async def test_audio_out_is_the_sessions_to_close() -> None:
    async with open_loopback() as session:
        out = AsVoiceTransport(session).audio_out
        await out.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await out.send(bytes(2))
        await AsVoiceTransport(session).audio_out.send(bytes(2))
        assert session.tx.statistics().open_send_streams == 1


def test_providers_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_registered", {})
    assert "livekit" in transport.providers()
    with pytest.raises(ConfigError, match=r"unknown provider 'daily'; known: .*livekit"):
        transport.new("daily", TransportConfig())
    with pytest.raises(ConfigError, match="registered already"):
        transport.register("livekit", LiveKitTransport)
    made: list[TransportConfig] = []

    def loopback(config: TransportConfig) -> Any:
        made.append(config)
        return open_loopback(sample_rate=config.sample_rate)

    transport.register("loopback", loopback)
    assert "loopback" in transport.providers()
    transport.new("loopback", TransportConfig(sample_rate=8000))
    assert [config.sample_rate for config in made] == [8000]


def test_providers_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = importlib.metadata.entry_points(group="beluga.transports", name="livekit")
    assert entry.load() is LiveKitTransport
    other = importlib.metadata.EntryPoint("other", "builtins:repr", "beluga.transports")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [other])
    assert transport.providers() == ["livekit", "other"]
    assert "TransportConfig" in str(transport.new("other", TransportConfig()))


async def test_a_voice_transport_hears_and_speaks(session: LiveKitSession) -> None:
    voice: transport.VoiceTransport = AsVoiceTransport(session)
    pcm = tone(440, 0.5, 16000).tobytes()
    async with anyio.create_task_group() as tasks:

        async def speak() -> None:
            for at in range(0, len(pcm), 333):  # chunks that cut samples in two
                await voice.audio_out.send(pcm[at : at + 333])

        tasks.start_soon(speak)
        heard = measure(samples_of(await hear(voice.recv())), 16000)
    assert heard.frequency == pytest.approx(440, abs=1)
    assert heard.duration == pytest.approx(0.5, abs=0.04)
    await voice.send(AudioFrame(bytes(640), 16000))
    await voice.close()
    await voice.close()
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        voice.recv()
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        _ = voice.audio_out
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        await voice.send(AudioFrame(bytes(640), 16000))


async def test_pcm_may_have_another_rate(session: LiveKitSession) -> None:
    pcm = tone(440, 0.5, 24000, channels=2).tobytes()
    async with anyio.create_task_group() as tasks:

        async def speak() -> None:
            async with PcmSendStream(session.tx.clone(), sample_rate=24000, num_channels=2) as out:
                for at in range(0, len(pcm), 1001):
                    await out.send(pcm[at : at + 1001])

        tasks.start_soon(speak)
        frames = await hear(session.rx)
    # Left is 440 Hz, right an octave above: the mean has both, and 440 Hz at half the level.
    assert measure(samples_of(frames), 16000).duration == pytest.approx(0.5, abs=0.04)


async def test_pcm_comes_in_chunks_of_any_size(session: LiveKitSession) -> None:
    async with PcmReceiveStream(session.rx.clone()) as source:
        assert 1 <= len(await source.receive()) <= 65536
        assert len(await source.receive(7)) == 7
        assert len(await source.receive(7)) == 7
        with pytest.raises(ValueError, match="positive"):
            await source.receive(0)
    await session.receive()


async def test_pcm_that_ends_within_a_sample_is_an_error(session: LiveKitSession) -> None:
    out = PcmSendStream(session.tx.clone(), num_channels=2)
    await out.send(b"abc")
    with pytest.raises(ValueError, match="3 of 4 bytes"):
        await out.aclose()
    await out.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await out.send(b"abcd")
    await session.send(AudioFrame(bytes(640), 16000))
