"""`StandingBacklog` reports what a backlog never falls below, once a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_livekit.audio.backlog import StandingBacklog


def test_backlog_reports_the_minimum_once_a_window() -> None:
    """Contract: excess latency is the minimum of a whole window."""
    backlog = StandingBacklog(1.0)
    values = [50, 70, 30, 90, 80] * 2
    reports = [backlog.observe(100 + 0.25 * at, value) for at, value in enumerate(values)]
    assert reports == [*[None] * 4, 30, *[None] * 3, 30, None]


def test_backlog_that_drains_within_the_window_has_no_excess() -> None:
    """Contract: a backlog that drains once in a window is no latency."""
    backlog = StandingBacklog(1.0)
    reports = [backlog.observe(0.1 * at, 0 if at == 7 else 500) for at in range(11)]
    assert reports[-1] == 0


def test_backlog_window_begins_with_the_first_observation() -> None:
    """Contract: the time before the first observation does not count."""
    backlog = StandingBacklog(1.0)
    assert backlog.observe(1000.0, 5.0) is None
    assert backlog.observe(1000.9, 4.0) is None
    assert backlog.observe(1001.0, 6.0) == 4.0


def test_backlog_reset_discards_the_window() -> None:
    """Contract: a paused reader's backlog is no latency: its window begins anew."""
    backlog = StandingBacklog(1.0)
    backlog.observe(0.0, 1)
    backlog.observe(0.9, 2)
    backlog.reset()
    assert backlog.observe(5.0, 3) is None
    assert backlog.observe(5.9, 9) is None
    assert backlog.observe(6.0, 9) == 3


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 99)), max_size=60))
def test_backlog_reports_every_minimum_and_nothing_between(steps: list[tuple[float, int]]) -> None:
    """Contract: one report a window, for any sequence of observations."""
    backlog = StandingBacklog(1.0)
    now, start, seen = 0.0, None, list[int]()
    for step, value in steps:
        now += step
        start = now if start is None else start
        seen.append(value)
        report = backlog.observe(now, value)
        assert report == (pytest.approx(min(seen)) if now - start >= 1.0 else None)
        if report is not None:
            start, seen = now, []
