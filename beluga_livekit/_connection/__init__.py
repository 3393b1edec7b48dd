"""Connections of a session: to a server, to an attached room, or without either."""
