"""Options, output, logging and error reporting that the commands share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import soundfile
import typer
from rich.console import Console
from rich.logging import RichHandler

from .._errors import LiveKitError, first_of

console = Console(highlight=False)

Url = Annotated[str, typer.Option(envvar="LIVEKIT_URL", help="URL of the server: wss://...")]
Token = Annotated[str, typer.Option(envvar="LIVEKIT_TOKEN", help="Access token of a participant.")]
Key = Annotated[str, typer.Option(envvar="LIVEKIT_API_KEY", help="API key of the project.")]
Secret = Annotated[str, typer.Option(envvar="LIVEKIT_API_SECRET", help="API secret of the key.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log the events of the session to stderr.")
]

# Errors whose message is enough for the user to fix them.
_FIXABLE = (LiveKitError, OSError, soundfile.SoundFileError)


def configure_logging(verbose: bool) -> None:
    """Log to stderr: errors only, or also the events of the session and of the SDK."""
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("beluga_livekit").setLevel(logging.INFO if verbose else logging.ERROR)
    logging.getLogger("livekit").setLevel(logging.INFO if verbose else logging.CRITICAL)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error that the user can fix in one line, and exit with code 1."""
    try:
        yield
    except (*_FIXABLE, BaseExceptionGroup) as error:
        first = first_of(error)
        if not isinstance(first, _FIXABLE):
            raise
        console.print(f"[red]{first}[/]", soft_wrap=True)
        raise typer.Exit(1) from None
