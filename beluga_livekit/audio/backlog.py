"""`StandingBacklog`: finds latency that never drains."""

import math


class StandingBacklog:
    """The minimum of a backlog over a window: excess latency, which only trimming removes.

    A backlog that drains within the window is jitter and costs nothing. A backlog that never falls
    below some amount delays all audio by that amount.

    Args:
        window: Duration over which the minimum is taken (s). A window begins with the first
            observation after a reset, or where the last window ended.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._start: float | None = None
        self._least = math.inf

    def observe(self, now: float, backlog: float) -> float | None:
        """Add an observation.

        Args:
            now: Time (s) of a clock that never goes back.
            backlog: In any unit.

        Returns:
            The minimum over the window, in the same unit, where the window ends; None otherwise.
        """
        if self._start is None:
            self._start = now
        self._least = min(self._least, backlog)
        if now - self._start < self._window:
            return None
        excess, self._start, self._least = self._least, now, math.inf
        return excess

    def reset(self) -> None:
        """Discard the window: the backlog is no latency, as the reader or producer is paused."""
        self._start, self._least = None, math.inf
