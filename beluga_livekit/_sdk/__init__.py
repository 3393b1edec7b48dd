"""The only imports of `livekit.rtc`, but for `AudioFrame.to_rtc`."""
