"""`StandingBacklog`: finds latency that never drains."""

from __future__ import annotations

__all__ = ["StandingBacklog"]


class StandingBacklog:
    """The minimum of a backlog over a window: an excess that never drained.

    Args:
        window: Length of the window (s).
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._since: float | None = None
        self._minimum = 0.0

    def observe(self, now: float, backlog: float) -> float | None:
        """Return the minimum backlog once a window, which ends with this observation, else None.

        Args:
            now: Time of a monotonic clock (s).
            backlog: The backlog at that time, in any unit.
        """
        if self._since is None:
            self._since, self._minimum = now, backlog
        self._minimum = min(self._minimum, backlog)
        if now - self._since < self._window:
            return None
        self.reset()
        return self._minimum

    def reset(self) -> None:
        """Forget the window; the next observation begins another one."""
        self._since = None
