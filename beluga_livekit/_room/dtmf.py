"""DTMF: telephone keys and their codes."""

from .._errors import ConfigError

KEYS = "0123456789*#ABCD"  # ordered by their code (RFC 4733)
# Interval between two keys (s). Gateways play a tone for each key; without a gap, two equal keys
# would be one key held down.
KEY_INTERVAL = 0.3


def dtmf_codes(digits: object) -> list[tuple[int, str]]:
    """Return the code of each key, and the key; raise `ConfigError` if one is unknown or none."""
    if not isinstance(digits, str) or not digits or not set(digits.upper()) <= set(KEYS):
        raise ConfigError(f"digits must be some of {KEYS!r}, got {digits!r}")
    return [(KEYS.index(digit), digit) for digit in digits.upper()]
