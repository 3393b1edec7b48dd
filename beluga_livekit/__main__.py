"""`python -m beluga_livekit`."""

from .cli import main

main()
