"""The command line application."""

import sys

try:
    import typer

    from .demo import demo
    from .echo import echo
    from .token import token
except ImportError as error:
    sys.exit(f"beluga-livekit failed: {error}; pip install 'beluga-livekit[cli]'")

app = typer.Typer(
    help="Audio between a LiveKit room and your tasks.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, echo, token):
    app.command()(command)


def main() -> None:
    """Run the command that the arguments of the process name."""
    app()
