"""One line for each event that an operator wants to find, with the session that it is about."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["SessionLog"]

# Whoever mints tokens chooses names, of up to some kilobytes and of any characters.
MAX_NAME = 80


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """The logger `beluga_livekit`; each line begins with who and where the session is.

    Until it is told, by `concerns`, that is nothing.
    """

    def __init__(self) -> None:
        super().__init__(logging.getLogger("beluga_livekit"))
        self._prefix = "livekit: "

    def concerns(self, identity: str, room: str) -> None:
        """Says whose lines these are from now on."""
        self._prefix = f"livekit: {identity[:MAX_NAME]!r} in {room[:MAX_NAME]!r}: "

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a line; all other methods come here."""
        kwargs.setdefault("stacklevel", 2)
        super().log(level, f"%s{msg}", self._prefix, *args, **kwargs)
