"""`MutedAudio`: which parts of the audio were played while the track was muted."""

from collections import deque

import attrs

from ..audio.format import WIRE_RATE


@attrs.define
class _Span:
    start: int
    end: int | None = None  # None: muted until now


class MutedAudio:
    """Spans of positions in which nothing was received, as the track was muted."""

    def __init__(self) -> None:
        self._spans: deque[_Span] = deque()

    def set_muted(self, muted: bool, position: int) -> None:
        """Begin a span, or end the last one, at the position that is being played."""
        last = self._spans[-1] if self._spans else None
        is_muted = last is not None and last.end is None
        if muted and not is_muted:
            self._spans.append(_Span(position))
        elif last is not None and is_muted and not muted:
            last.end = max(position, last.start)

    def rewind(self, position: int) -> None:
        """Forget what is behind this position: it is played again."""
        for span in self._spans:
            span.start = min(span.start, position)
            span.end = None if span.end is None else min(span.end, position)

    def forget(self, position: int) -> None:
        """Forget the spans that end before this position."""
        while self._spans and (end := self._spans[0].end) is not None and end <= position:
            self._spans.popleft()

    def seconds(self, start: int, end: int) -> float:
        """Return how much between two positions was muted (s)."""
        samples = 0
        for span in self._spans:
            last = end if span.end is None else min(span.end, end)
            samples += max(0, last - max(span.start, start))
        return samples / WIRE_RATE
