"""The only imports of `livekit.rtc`."""
