"""From tx to the room."""
