"""`SessionLog`: the package's logger, whose lines name the session."""

import logging
from typing import Any

# Limit of a name in a log line (characters). Tokens may have names of some kilobytes.
MAX_NAME = 80


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """The logger `beluga_livekit`. After `bind`, lines begin with the identity and the room."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("beluga_livekit"))
        self._prefix = "livekit: "

    def bind(self, identity: str, room: str) -> None:
        """Name the session in all further lines."""
        self._prefix = f"livekit: {identity[:MAX_NAME]!r} in {room[:MAX_NAME]!r}: "

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line; all other methods call this one."""
        kwargs.setdefault("stacklevel", 2)
        super().log(level, f"%s{msg}", self._prefix, *args, **kwargs)
