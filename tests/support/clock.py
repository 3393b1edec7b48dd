"""A clock that only the test advances."""

from __future__ import annotations

from types import ModuleType

import pytest


class Clock:
    """Replaces the module `time`: waiting takes no time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def replace_time(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Clock:
    """Replace `time` in a module of the package."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
