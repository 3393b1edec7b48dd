"""The command line `beluga-livekit`: one file for each command, assembled in `app`."""
