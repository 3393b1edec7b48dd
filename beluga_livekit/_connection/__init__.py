"""What a session is connected through."""
