"""The command line: hear the library work, echo a room, mint a token."""

from __future__ import annotations

import datetime as dt
import logging
import math
import secrets
import signal
import sys
import time
import warnings
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Literal

import anyio
import attrs
import numpy as np
from anyio.abc import TaskStatus
from numpy.typing import NDArray

from .._errors import ConfigError, LiveKitError
from .._open import open_livekit, open_loopback
from .._session import LiveKitSession
from .._token import read_token
from ..audio.format import Samples
from ..audio.frame import AudioFrame
from ..audio.resampler import Resampler

try:
    import soundfile
    import typer
    from livekit import api
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as error:
    sys.exit(f"The command line needs more: pip install 'beluga-livekit[cli]' ({error})")

__all__ = ["main"]

RATE = 16_000
# How long, after the last sound was played, what is still under way is waited for.
TAIL = 1.0
# Sound has survived when this much of it came back, at this level, and sounds alike. A loopback
# gives 1.0, 0 dB and 1.0; a room of a busy machine was seen to give 0.98, -0.3 dB and 0.86.
MIN_RECEIVED, MAX_LEVEL_CHANGE, MIN_SIMILARITY = 0.9, 3.0, 0.7

Floats = NDArray[np.float64]

app = typer.Typer(
    help="Audio between a LiveKit room and your tasks.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

Url = Annotated[str, typer.Option("--url", envvar="LIVEKIT_URL", help="wss://... of the server.")]
TokenOption = Annotated[
    str, typer.Option("--token", envvar="LIVEKIT_TOKEN", help="Access token.", show_envvar=True)
]
Key = Annotated[str, typer.Option("--api-key", envvar="LIVEKIT_API_KEY", help="To mint with.")]
Secret = Annotated[str, typer.Option("--api-secret", envvar="LIVEKIT_API_SECRET", help="Its own.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")]


@app.command()
def demo(
    wav: Annotated[
        Path | None,
        typer.Argument(help="What to send. Default: a babble.", exists=True, dir_okay=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="What came back.")] = Path(
        "beluga-demo.wav"
    ),
    url: Url = "",
    token: TokenOption = "",
    api_key: Key = "",
    api_secret: Secret = "",
    verbose: Verbose = False,
) -> None:
    """Send sound through a session and back, and compare.

    Without a URL nothing else is needed: the sound goes through the SDK's own native audio on
    this machine. With one, it goes through a real room, where somebody has to echo it: `echo` in
    another terminal does; with an API key and secret the demo brings its own.
    """
    _log(verbose)
    if output.suffix != ".wav" or not output.parent.is_dir():
        raise typer.BadParameter(f"{output} is no WAV file in a folder that exists")
    sound = _speech() if wav is None else _read(wav)
    with _one_line_errors():
        measured = anyio.run(_demo, sound, url, token, api_key, api_secret)
        soundfile.write(output, measured.received, RATE, subtype="PCM_16")
    table = Table(title="What came back", show_header=False)
    for name, value in measured.rows():
        table.add_row(name, value)
    console.print(table)
    console.print(f"Listen to it: {output}")
    if not measured.survived:
        console.print("[red]The sound did not survive.[/]")
        if url and not measured.received.any():
            console.print("Nobody echoed it: run `beluga-livekit echo` in the same room.")
        raise typer.Exit(1)


@app.command()
def echo(url: Url, token: TokenOption, verbose: Verbose = False) -> None:
    """Join a room and send back what is heard, until Ctrl-C."""
    _log(verbose)
    with _one_line_errors():
        anyio.run(_echo_until_stopped, url, token)


@app.command()
def token(
    api_key: Key,
    api_secret: Secret,
    room: Annotated[
        str, typer.Option(help="The room that it lets its holder join.")
    ] = "voice-room",
    identity: Annotated[str, typer.Option(help="Who its holder is.")] = "beluga",
    hours: Annotated[float, typer.Option(help="How long it is valid.", min=0.01, max=8760)] = 6.0,
    agent: Annotated[
        bool, typer.Option("--agent", help="Its holder is an agent, whom other agents do not hear.")
    ] = False,
) -> None:
    """Mint an access token from an API key and secret."""
    if not room or not identity:
        raise typer.BadParameter("a token needs a room and an identity")
    minted = _mint(api_key, api_secret, room, identity, hours, "agent" if agent else "standard")
    print(minted)  # noqa: T201 - it is the output


def main() -> None:
    app()


def _log(verbose: bool) -> None:
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("beluga_livekit").setLevel(logging.INFO if verbose else logging.ERROR)
    logging.getLogger("livekit").setLevel(logging.INFO if verbose else logging.CRITICAL)


class _one_line_errors:  # noqa: N801 - reads as the statement that it is
    """Turns what the user can mend into one line and exit code 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, (LiveKitError, OSError, soundfile.SoundFileError)):
            console.print(f"[red]{error}[/]", soft_wrap=True)
            raise typer.Exit(1) from None


def _mint(
    key: str,
    secret: str,
    room: str,
    identity: str,
    hours: float = 1.0,
    kind: Literal["standard", "agent"] = "standard",
) -> str:
    grants = api.VideoGrants(room_join=True, room=room)
    access = api.AccessToken(key, secret).with_identity(identity).with_grants(grants)
    access = access.with_kind(kind)
    with warnings.catch_warnings():  # of the short secret that a development server has
        warnings.simplefilter("ignore")
        return access.with_ttl(dt.timedelta(hours=hours)).to_jwt()


async def _echo_until_stopped(url: str, token: str) -> None:
    async with anyio.create_task_group() as tasks:
        await tasks.start(_cancel_on_signal, tasks.cancel_scope)
        async with open_livekit(url, token) as session:
            console.print(f"Echoing room {session.room.name!r}. Ctrl-C ends it.")
            await _echo(session)
        tasks.cancel_scope.cancel()
    console.print("Ended.")


async def _echo(session: LiveKitSession) -> None:
    rx, tx = session
    async for frame in rx:
        await tx.send(frame)


async def _cancel_on_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


@attrs.frozen
class _Measured:
    """What came back of the sound that was sent."""

    sent: Samples
    received: Samples
    """As long as what was sent, and aligned with it; silence where nothing came."""
    delay: float
    dropped: int

    @property
    def seconds_received(self) -> float:
        """How much of the audible sound came back, as part of all of it."""
        loud = _is_loud(self.sent)
        there = _levels(self.received)[loud] > _levels(self.sent)[loud] - 20.0
        return len(self.sent) / RATE * float(there.mean())

    @property
    def level(self) -> float:
        """The change of the level, in dB."""
        return _level(self.received) - _level(self.sent)

    @property
    def similarity(self) -> float:
        """The correlation of the levels in dB, over time and bands: 1 is the same sound."""
        loud = _is_loud(self.sent)
        sent, received = _bands(self.sent)[loud].ravel(), _bands(self.received)[loud].ravel()
        return float(np.corrcoef(sent, received)[0, 1]) if received.std() > 0 else 0.0

    @property
    def survived(self) -> bool:
        return (
            self.seconds_received >= MIN_RECEIVED * len(self.sent) / RATE
            and abs(self.level) <= MAX_LEVEL_CHANGE
            and self.similarity >= MIN_SIMILARITY
        )

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("QueuedFrame", f"{len(self.sent) / RATE:.2f} s"),
            ("Received", f"{self.seconds_received:.2f} s"),
            ("Delay", f"{self.delay * 1000:.0f} ms"),
            ("Level", f"{self.level:+.2f} dB"),
            ("Spectrum similarity", f"{self.similarity:.3f}"),
            ("Frames dropped", str(self.dropped)),
        ]


async def _demo(sound: Samples, url: str, token: str, key: str, secret: str) -> _Measured:
    measured: _Measured | None = None
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        if not url:
            session = await stack.enter_async_context(open_loopback(sample_rate=RATE))
        else:
            if not token:
                if not (key and secret):
                    raise ConfigError("livekit: Token is required, or an API key and secret")
                token = _mint(key, secret, f"beluga-demo-{secrets.token_hex(4)}", "beluga-demo")
            if key and secret:
                partner = _mint(key, secret, read_token(token).room, "beluga-demo-echo")
                tasks.start_soon(_echo, await stack.enter_async_context(open_livekit(url, partner)))
            joined = open_livekit(url, token, sample_rate=RATE, subscription_timeout=5.0)
            session = await stack.enter_async_context(joined)
        measured = await _measure(session, sound)
        tasks.cancel_scope.cancel()
    if measured is None:  # a hang-up is no error of a session, but ends the demo
        raise LiveKitError(f"livekit: disconnected: {session.disconnect_reason}")
    return measured


async def _measure(session: LiveKitSession, sound: Samples) -> _Measured:
    rx, tx = session
    frames: list[AudioFrame] = []
    played = math.inf

    async def say() -> None:
        nonlocal played
        columns = (TextColumn("Sending"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            size = RATE // 50
            for at in progress.track(range(0, len(sound), size), description=""):
                await tx.send(AudioFrame.from_samples(sound[at : at + size], RATE))
        await session.wait_for_playout()
        played = time.monotonic()
        await anyio.sleep(TAIL)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(say)
        async for frame in rx:
            frames.append(frame)
    heard = np.concatenate([frame.samples for frame in frames]) if frames else sound[:0]
    at = _find(sound, heard)
    received = np.zeros_like(sound)
    part = heard[at : at + len(sound)]
    received[: len(part)] = part
    ends = np.cumsum([frame.samples_per_channel for frame in frames])
    delay = math.nan
    if frames:
        arrived = frames[int(np.searchsorted(ends, at, side="right"))].timestamp or math.nan
        delay = arrived - (played - session.statistics().seconds_sent)
    return _Measured(sound, received, delay, session.statistics().frames_dropped)


def _find(sound: Samples, heard: Samples) -> int:
    """Returns where in `heard` the sound begins: the peak of the cross-correlation."""
    if not len(heard):
        return 0
    size = len(sound) + len(heard)
    spectra = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sound, size))
    return int(np.fft.irfft(spectra, size)[: len(heard)].argmax())


def _blocks(sound: Samples) -> Floats:
    size = RATE // 25
    return sound[: len(sound) // size * size].reshape(-1, size).astype(np.float64)


def _levels(sound: Samples) -> Floats:
    """In dB, for each 40 ms."""
    power = np.mean(_blocks(sound) ** 2, axis=1)
    return np.asarray(10 * np.log10(power + 1.0))


def _is_loud(sound: Samples) -> NDArray[np.bool_]:
    levels = _levels(sound)
    return np.asarray(levels >= levels.max() - 30.0)


def _level(sound: Samples) -> float:
    return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2) + 1.0))


def _bands(sound: Samples) -> Floats:
    """Levels in dB, for each 40 ms and each of 20 bands from 100 Hz to 7 kHz."""
    blocks = _blocks(sound)
    power = np.abs(np.fft.rfft(blocks * np.hanning(blocks.shape[1]))) ** 2
    edges = np.geomspace(100, 7000, 21) * blocks.shape[1] / RATE
    at = np.unique(edges.astype(int))
    bands = np.add.reduceat(power[:, : at[-1]], at[:-1], axis=1)
    return np.asarray(10 * np.log10(np.maximum(bands, bands.max() * 1e-6) + 1.0))


def _speech(seconds: float = 5.0) -> Samples:
    """Babbles: voiced syllables of changing pitch and vowel, hisses, and pauses between words."""
    rng = np.random.default_rng(7)
    syllables: list[Floats] = []
    while sum(len(part) for part in syllables) < seconds * RATE:
        length = int(rng.uniform(0.12, 0.28) * RATE)
        at = np.arange(length) / RATE
        pitch = rng.uniform(95, 150) * (1 + rng.uniform(-0.2, 0.2) * at / at[-1])
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = rng.uniform((300, 900, 2200), (800, 2000, 3200))
        voice = np.zeros(length)
        for harmonic in range(1, 40):
            distance = (harmonic * pitch.mean() - formants) / (80, 120, 200)
            voice += np.sum((1.0, 0.5, 0.25) / (1 + distance**2)) * np.sin(harmonic * phase)
        hiss = np.diff(rng.normal(0, 0.15, length + 1)) * (at < 0.04)
        syllable = (voice + hiss) * np.sin(np.pi * at / at[-1]) ** 0.7
        pause = np.zeros(int(rng.choice([0.02, 0.25], p=[0.7, 0.3]) * RATE))
        syllables += [syllable, pause]
    sound = np.concatenate(syllables)[: int(seconds * RATE)]
    return AudioFrame.from_samples(0.5 * sound / np.abs(sound).max(), RATE).samples


def _read(path: Path) -> Samples:
    """Reads a sound file as mono at our rate."""
    with _one_line_errors():
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = AudioFrame.from_samples(data.mean(axis=1), rate).samples
        if not _levels(mono).size or not mono.any():
            raise ConfigError(f"{path} holds no sound")
        return Resampler(rate, RATE).push(mono)
