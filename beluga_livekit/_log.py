"""One line for each event that an operator wants to find, with the session that it is about."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

__all__ = ["SessionLog"]

# Whoever may mint tokens chooses names, of up to some kilobytes and of any characters.
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
        who, where = (repr(name[:MAX_NAME]).replace("%", "%%") for name in (identity, room))
        self._prefix = f"livekit: {who} in {where}: "

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        return f"{self._prefix}{msg}", kwargs
