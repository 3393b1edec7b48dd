"""The keys of a telephone."""

from __future__ import annotations

from .._errors import ConfigError

__all__ = ["GAP", "codes_of"]

# By their code, as RFC 4733 has it.
KEYS = "0123456789*#ABCD"

# From one key to the next, in seconds: gateways play each as a tone, and one that comes at once is
# heard as the same key still held down.
GAP = 0.3


def codes_of(digits: object) -> list[tuple[int, str]]:
    """Returns each key with its code.

    Raises:
        ConfigError: There are none, or some that no telephone has.
    """
    if not isinstance(digits, str) or not digits or not set(digits.upper()) <= set(KEYS):
        raise ConfigError(f"digits must be some of {KEYS!r}, got {digits!r}")
    return [(KEYS.index(digit), digit) for digit in digits.upper()]
