"""Marks that several test files share."""

from __future__ import annotations

import pytest

# For tests that measure audio after a real room's codec and jitter buffers, in real time. A shared
# machine that stalls for 50 ms makes the jitter buffers stretch or conceal audio, which is no
# fault of the session. Three stalls in a row are not expected.
measures_network_audio = pytest.mark.flaky(reruns=2)
