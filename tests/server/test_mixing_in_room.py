"""The tests of loopback/test_mixing.py, with `room` of the server and real codecs."""

from __future__ import annotations

import pytest
from loopback.test_mixing import *  # noqa: F403 - a test added there runs here too
from support.marks import measures_network_audio

pytestmark = [pytest.mark.anyio, pytest.mark.slow_audio, measures_network_audio]
