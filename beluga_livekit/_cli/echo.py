"""`beluga-livekit echo`: send the audio of a room back to it."""

import signal

import anyio

from .._open import open_livekit
from .._session import LiveKitSession
from .common import Token, Url, Verbose, configure_logging, console, one_line_errors


def echo(url: Url, token: Token, verbose: Verbose = False) -> None:
    """Join a room and send back the audio that is received, until Ctrl-C."""
    configure_logging(verbose)
    with one_line_errors():
        anyio.run(_echo_until_stopped, url, token)


async def echo_session(session: LiveKitSession) -> None:
    """Send every received frame back, until the session ends."""
    rx, tx = session
    async for frame in rx:
        await tx.send(frame)


async def _echo_until_stopped(url: str, token: str) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def cancel_on_signal() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_on_signal)
            async with open_livekit(url, token) as session:
                console.print(f"Echoing room {session.room.name!r}. Press Ctrl-C to stop.")
                await echo_session(session)
            tasks.cancel_scope.cancel()
    console.print("Stopped.")
