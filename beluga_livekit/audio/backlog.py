"""`StandingBacklog`: finds latency that never drains."""

import math


class StandingBacklog:
    """The minimum of a backlog over a window (s): excess latency, which only trimming removes.

    A backlog that drains within the window is jitter and costs nothing. A window begins with the
    first observation after a reset, or where the last window ended.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._start: float | None = None
        self._least = math.inf

    def observe(self, now: float, backlog: float) -> float | None:
        """Add an observation, in any unit; where the window ends, return the minimum over it."""
        if self._start is None:
            self._start = now
        self._least = min(self._least, backlog)
        if now - self._start < self._window:
            return None
        excess, self._start, self._least = self._least, now, math.inf
        return excess

    def reset(self) -> None:
        """Discard the window, as a paused reader's or producer's backlog is no latency."""
        self._start, self._least = None, math.inf
