"""The tests of loopback/test_participants.py, with `room` of the server."""

from __future__ import annotations

import pytest
from loopback.test_participants import *  # noqa: F403 - a test added there runs here too

pytestmark = [pytest.mark.anyio]
