"""`beluga-livekit demo`: send audio through a session and back, and compare."""

import math
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import anyio
import numpy as np
import soundfile
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .._errors import ConfigError, LiveKitError
from .._open import open_livekit, open_loopback
from .._session import LiveKitSession
from .._token import read_token
from ..audio.format import Samples
from ..audio.frame import AudioFrame
from .audio import RATE, Measurement, locate, read_audio, synthesize_speech
from .common import Key, Secret, Token, Url, Verbose, configure_logging, console, one_line_errors
from .echo import echo_session
from .token import mint

# Time after the last sample was played in which delayed audio can still be received (s).
TAIL = 1.0


def demo(
    wav: Annotated[
        Path | None,
        typer.Argument(
            help="File to send. Default: synthetic speech.", exists=True, dir_okay=False
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="WAV file for the received audio.")
    ] = Path("beluga-demo.wav"),
    url: Url = "",
    token: Token = "",
    api_key: Key = "",
    api_secret: Secret = "",
    verbose: Verbose = False,
) -> None:
    """Send audio through a session and back, and compare.

    Without a URL nothing else is needed: the audio takes the SDK's native audio path on this
    machine. With a URL it takes a real room, where another participant must echo it: run `echo` in
    another terminal. With an API key and secret the demo adds an echo participant itself.
    """
    configure_logging(verbose)
    if output.suffix != ".wav" or not output.parent.is_dir():
        raise typer.BadParameter(f"--output must be a .wav file in an existing folder: {output}")
    with one_line_errors():
        sent = synthesize_speech() if wav is None else read_audio(wav)
        measured = anyio.run(_run_demo, sent, url, token, api_key, api_secret)
        soundfile.write(output, measured.received, RATE, subtype="PCM_16")
    table = Table(title="Received audio", show_header=False)
    for name, value in measured.rows():
        table.add_row(name, value)
    console.print(table)
    console.print(f"Saved as {output}")
    if not measured.survived:
        console.print("[red]demo failed: the audio did not survive the round trip[/]")
        if url and not measured.received.any():
            console.print("No participant echoed it: run `beluga-livekit echo` in the same room.")
        raise typer.Exit(1)


async def _run_demo(
    sent: Samples, url: str, token: str, api_key: str, api_secret: str
) -> Measurement:
    measured: Measurement | None = None
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        if not url:
            opening = open_loopback(sample_rate=RATE)
        else:
            if not token:
                if not (api_key and api_secret):
                    raise ConfigError(
                        "livekit: Token is required; give --token, or --api-key and --api-secret"
                    )
                room = f"beluga-demo-{secrets.token_hex(4)}"
                token = mint(api_key, api_secret, room, "beluga-demo")
            if api_key and api_secret:
                room = read_token(token).room
                partner = open_livekit(url, mint(api_key, api_secret, room, "beluga-demo-echo"))
                tasks.start_soon(echo_session, await stack.enter_async_context(partner))
            opening = open_livekit(url, token, sample_rate=RATE, subscription_timeout=5.0)
        session = await stack.enter_async_context(opening)
        measured = await _measure(session, sent)
        tasks.cancel_scope.cancel()
    if measured is None:  # the session's block was left by a hang-up, which is no error there
        raise LiveKitError(f"livekit: disconnected: {session.disconnect_reason}")
    return measured


async def _measure(session: LiveKitSession, sent: Samples) -> Measurement:
    """Send audio, receive until `TAIL` after its end, and compare."""
    frames: list[AudioFrame] = []
    played_at = math.inf

    async def send() -> None:
        nonlocal played_at
        columns = (TextColumn("Sending"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            size = RATE // 50
            for at in progress.track(range(0, len(sent), size), description=""):
                await session.send(AudioFrame.from_samples(sent[at : at + size], RATE))
        await session.wait_for_playout()
        played_at = time.monotonic()
        await anyio.sleep(TAIL)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        async for frame in session.rx:
            frames.append(frame)
    statistics = session.statistics()
    received, arrived_at = _align(sent, frames)
    delay = arrived_at - (played_at - statistics.send.seconds)
    return Measurement(sent, received, delay, statistics.receive.frames_dropped)


def _align(sent: Samples, frames: list[AudioFrame]) -> tuple[Samples, float]:
    """Return the received audio, aligned with `sent`, and when its first frame arrived."""
    received = np.zeros_like(sent)
    if not frames:
        return received, math.nan
    everything = np.concatenate([frame.samples for frame in frames])
    at = locate(sent, everything)
    part = everything[at : at + len(sent)]
    received[: len(part)] = part
    ends = np.cumsum([frame.samples_per_channel for frame in frames])
    first = frames[int(np.searchsorted(ends, at, side="right"))]
    return received, first.timestamp or math.nan
