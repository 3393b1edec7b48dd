"""Run the command line: `python -m beluga_livekit`."""

from ._cli.app import main

main()
