"""From the room to rx."""
