"""Errors that advise code: each remedy is run as the message shows it."""

from __future__ import annotations

import io
import tomllib
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import soundfile
from livekit import rtc
from support.tokens import make_jwt

from beluga_livekit import AudioFrame, ConfigError, open_livekit, transport
from beluga_livekit._send.interrupt import Epoch
from beluga_livekit._send.send_stream import SendQueue
from beluga_livekit.audio import ChannelMixer, Converter, Framer, Resampler
from beluga_livekit.audio.framing import PcmDecoder
from beluga_livekit.transport import TransportConfig

URL = "ws://127.0.0.1:7880"
PCM = np.array([100, -100, 32767, -32768], np.int16)
HALF = np.array([0.5, -0.5])
NAMES = {"np": np, "AudioFrame": AudioFrame, "sample_rate": 16_000, "num_channels": 1}


def from_samples(samples: Any) -> AudioFrame:
    return AudioFrame.from_samples(samples, 16_000)


def as_frame(frame: Any) -> AudioFrame:
    """Return a frame of what a row passes: itself, or of its samples."""
    return frame if isinstance(frame, AudioFrame) else from_samples(frame)


# The call that fails, what it is given, the remedy in the message, and the samples that result.
Row = tuple[Callable[[Any], Any], Any, str, Any]
ROWS: list[Row] = [
    (as_frame, (HALF * 128).astype(np.int8), "samples / 128.0", HALF),
    (as_frame, (HALF * 128 + 128).astype(np.uint8), "samples / 128.0 - 1", HALF),
    (as_frame, (HALF * 32768 + 32768).astype(np.uint16), "samples / 32768.0 - 1", HALF),
    (as_frame, (HALF * 2**31 + 2**31).astype(">u4"), "samples / 2147483648.0 - 1", HALF),
    (as_frame, PCM.view(np.uint8), "AudioFrame(samples.tobytes(), sample_rate)", PCM),
    (as_frame, HALF + 0j, "samples.real", HALF),
    (as_frame, PCM.astype(np.float32), "samples.astype(np.int16)", PCM),
    (as_frame, (HALF * 2**31).astype(np.int32), "samples / 2147483648.0", HALF),
    (as_frame, np.tile(HALF, (1, 200)), "samples.T", np.tile(HALF, (1, 200)).T),
    *(
        (stage, HALF, "AudioFrame.from_samples(samples, sample_rate).samples", HALF)
        for stage in (
            *(Resampler(16_000, 16_000).push, ChannelMixer(1, 1).push, Framer(2).push),
            lambda samples: Converter(16_000).push(samples, 16_000),
        )
    ),
    (Framer(2).push, from_samples(HALF), "frame.samples", HALF),
    (
        lambda data: data if isinstance(data, AudioFrame) else AudioFrame(data, 16_000),
        *(HALF, "AudioFrame.from_samples(samples, sample_rate)", HALF),
    ),
]


@pytest.mark.parametrize(("call", "samples", "remedy", "expected"), ROWS)
def test_remedy_for_samples_works(
    call: Callable[[Any], Any], samples: Any, remedy: str, expected: Any
) -> None:
    """Contract: the expression in the message converts what was refused."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(samples)
    assert remedy in str(caught.value)
    result = call(eval(remedy, NAMES, {"samples": samples, "frame": samples}))
    got = result[0] if isinstance(result, list) else result
    got = got.samples if isinstance(got, AudioFrame) else got
    assert np.array_equal(got, from_samples(expected).samples)


async def _frames() -> Any:
    yield AudioFrame(b"", 16_000)


def _sdk_frame() -> rtc.AudioFrame:
    return rtc.AudioFrame(PCM.tobytes(), 16_000, 1, len(PCM))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("make", "name", "remedy"),
    [
        (PCM.tobytes, "pcm", "AudioFrame(pcm, sample_rate, num_channels)"),
        (lambda: bytearray(PCM.tobytes()), "pcm", "AudioFrame(pcm, sample_rate, num_channels)"),
        (lambda: PCM, "samples", "AudioFrame.from_samples(samples, sample_rate)"),
        (lambda: PCM / 32768, "samples", "AudioFrame.from_samples(samples, sample_rate)"),
        (_sdk_frame, "frame", "AudioFrame.from_rtc(frame)"),
    ],
)
async def test_remedy_for_send_works(make: Callable[[], Any], name: str, remedy: str) -> None:
    """Contract: the expression in tx's TypeError makes the frame that `send` takes."""
    queue, item = SendQueue(RuntimeError, Epoch), make()
    with pytest.raises(TypeError, match=r"^tx takes beluga_livekit\.AudioFrame, got ") as caught:
        await queue.tx.send(item)
    assert remedy in str(caught.value)
    frame = eval(remedy, NAMES, {name: item})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.tx.send, frame)
        assert (await queue.items.receive()).frame.data == PCM.tobytes()  # type: ignore[union-attr]
    queue.tx.close()
    queue.close()


@pytest.mark.anyio
async def test_tx_advises_what_fits_the_item() -> None:
    """Contract: a coroutine is to be awaited, an iterable played; other things are only named."""
    queue = SendQueue(RuntimeError, Epoch)
    frames, awaitable = _frames(), anyio.lowlevel.checkpoint()
    for item, message in (
        *(([], "got builtins.list; .*session.play"), (frames, "async_generator; .*session.play")),
        *((awaitable, "got builtins.coroutine; await it"), (None, "got builtins.NoneType; send")),
    ):
        with pytest.raises(TypeError, match=message):
            queue.tx.send_nowait(item)  # type: ignore[arg-type]
    await awaitable
    await frames.aclose()
    queue.tx.close()
    queue.close()


def test_remedy_for_audio_file_works() -> None:
    """Contract: soundfile and wave, which the error names, give the samples of a file."""
    file = io.BytesIO()
    soundfile.write(file, PCM, 16_000, format="WAV", subtype="PCM_16")
    with pytest.raises(ConfigError, match=r"soundfile .*wave.*from_samples\(samples, sample_rate"):
        PcmDecoder(16_000, 1).push(file.getvalue())
    file.seek(0)
    samples, rate = soundfile.read(file)
    assert np.array_equal(AudioFrame.from_samples(samples, rate).samples, PCM)
    file.seek(0)
    with wave.open(file) as reader:
        frame = AudioFrame(reader.readframes(-1), reader.getframerate(), reader.getnchannels())
    assert np.array_equal(frame.samples, PCM)


@pytest.mark.parametrize(
    ("claims", "message", "remedy"),
    [
        ({"video": {"room": "voice-room"}}, "mint one with roomJoin", make_jwt()),
        ({"video": {"roomJoin": True}}, "mint one for a room", make_jwt()),
        ({"sub": ""}, "mint one with it", make_jwt(sub="bot")),
        ({"exp": "soon"}, "mint another one", make_jwt()),
        ({"exp": 1}, "mint another one", make_jwt()),
    ],
)
def test_remedy_for_token_works(claims: dict[str, Any], message: str, remedy: str) -> None:
    """Contract: a token as the message asks for it is accepted."""
    with pytest.raises(ConfigError, match=message):
        open_livekit(URL, make_jwt(**claims))
    open_livekit(URL, remedy)


def test_remedy_for_white_space_around_token_works() -> None:
    """Contract: the stripped token is accepted."""
    token = make_jwt() + "\n"
    with pytest.raises(ConfigError, match="strip the white space"):
        open_livekit(URL, token)
    open_livekit(URL, token.strip())


@pytest.mark.parametrize(
    ("extra", "message", "fields", "fixed"),
    [
        ({"num_channels": 2}, r"set TransportConfig\.channels", {"channels": 2}, {}),
        ({"sample_rate": 8000}, r"set TransportConfig\.sample_rate", {"sample_rate": 8000}, {}),
        ({"recieve_buffer": 1}, "did you mean 'receive_buffer'", {}, {"receive_buffer": 1}),
    ],
)
def test_remedy_for_transport_config_works(
    extra: dict[str, Any], message: str, fields: dict[str, Any], fixed: dict[str, Any]
) -> None:
    """Contract: the field or keyword that the message names is accepted."""
    with pytest.raises(ConfigError, match=message):
        transport.new("livekit", TransportConfig(URL, make_jwt(), extra=extra))
    transport.new("livekit", TransportConfig(URL, make_jwt(), extra=fixed, **fields))


def test_remedy_for_missing_package_names_an_extra() -> None:
    """Contract: the extras that messages name exist, and have the packages that were missing."""
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for file, extra, package in (
        ("_receive/recording.py", "preconnect", "av"),
        ("_cli/app.py", "cli", "typer"),
    ):
        assert (
            f"pip install 'beluga-livekit[{extra}]'" in (root / "beluga_livekit" / file).read_text()
        )
        assert any(each.startswith(package) for each in extras["optional-dependencies"][extra])
