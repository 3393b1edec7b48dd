"""Settings of the unit tests."""

from __future__ import annotations

from hypothesis import settings

# A deadline in real time fails on a busy machine.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
