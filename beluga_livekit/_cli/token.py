"""`beluga-livekit token`: mint an access token."""

import datetime as dt
import warnings
from typing import Annotated

import typer
from livekit import api

from .common import Key, Secret


def token(
    api_key: Key,
    api_secret: Secret,
    room: Annotated[str, typer.Option(help="Room that the token allows to join.")] = "voice-room",
    identity: Annotated[str, typer.Option(help="Identity of the participant.")] = "beluga",
    hours: Annotated[float, typer.Option(help="Lifetime in hours.", min=0.01, max=8760)] = 6.0,
    agent: Annotated[
        bool, typer.Option("--agent", help="Mint for an agent, which other agents do not receive.")
    ] = False,
) -> None:
    """Mint an access token from an API key and secret."""
    if not room or not identity:
        raise typer.BadParameter("--room and --identity must not be empty")
    minted = mint(api_key, api_secret, room, identity, hours=hours, agent=agent)
    print(minted)  # noqa: T201 - it is the output


def mint(
    key: str, secret: str, room: str, identity: str, *, hours: float = 1.0, agent: bool = False
) -> str:
    """Return an access token that allows to join a room."""
    grants = api.VideoGrants(room_join=True, room=room)
    access = api.AccessToken(key, secret).with_identity(identity).with_grants(grants)
    access = access.with_kind("agent" if agent else "standard")
    with warnings.catch_warnings():  # the secret of a development server is short
        warnings.simplefilter("ignore")
        return access.with_ttl(dt.timedelta(hours=hours)).to_jwt()
