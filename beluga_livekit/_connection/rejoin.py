"""`Backoff`: the wait before each attempt to rejoin."""

import random
import time

import anyio

# Exponential backoff with full jitter (s): after a restart of the server its clients must not all
# rejoin at once.
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 5.0
# A connection that held for this long (s) was stable: the next loss begins with the first backoff.
STABLE_AFTER = 30.0


class Backoff:
    """Doubles its limit with every wait, until a connection was stable."""

    def __init__(self) -> None:
        self._limit = FIRST_BACKOFF
        self._connected_at = 0.0  # time.monotonic()

    def connected(self) -> None:
        self._connected_at = time.monotonic()

    def lost(self) -> None:
        if time.monotonic() - self._connected_at > STABLE_AFTER:
            self._limit = FIRST_BACKOFF

    async def wait(self) -> None:
        """Wait for a random time within the limit."""
        await anyio.sleep(random.uniform(0.0, self._limit))  # noqa: S311 - no secret
        self._limit = min(2 * self._limit, LAST_BACKOFF)
