"""Echo: every participant of the room receives its own audio back.

LIVEKIT_URL=wss://... LIVEKIT_TOKEN=... python examples/echo.py
"""

import os

import anyio

from beluga_livekit import open_livekit


async def main() -> None:
    async with open_livekit(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"]) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)


if __name__ == "__main__":
    anyio.run(main)
