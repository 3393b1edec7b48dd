"""Participants and tracks of a room: no SDK, no audio."""
