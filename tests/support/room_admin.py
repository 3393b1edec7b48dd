"""The server's API for one room."""

from __future__ import annotations

from livekit import api


class RoomAdmin:
    """Lists, changes and removes the participants of one room."""

    def __init__(self, client: api.LiveKitAPI, room: str) -> None:
        self._client = client
        self._room = room

    async def identities(self, *, connected: bool = False) -> set[str]:
        """Return the identities in the room, or of participants with a complete connection."""
        listed = await self._participants()
        active = api.ParticipantInfo.State.ACTIVE
        return {each.identity for each in listed if each.state == active or not connected}

    async def is_empty(self) -> bool:
        return not await self.identities()

    async def remove(self, identity: str) -> None:
        request = api.RoomParticipantIdentity(room=self._room, identity=identity)
        await self._client.room.remove_participant(request)

    async def update_attributes(self, identity: str, attributes: dict[str, str]) -> None:
        await self._client.room.update_participant(
            api.UpdateParticipantRequest(room=self._room, identity=identity, attributes=attributes)
        )

    async def mute(self, identity: str) -> None:
        """Mute all tracks of a participant, once the server lists one."""
        sids: list[str] = []
        while not sids:
            listed = await self._participants()
            sids = [
                track.sid for each in listed if each.identity == identity for track in each.tracks
            ]
        for sid in sids:
            await self._client.room.mute_published_track(
                api.MuteRoomTrackRequest(
                    room=self._room, identity=identity, track_sid=sid, muted=True
                )
            )

    async def permit(self, identity: str, *, publish: bool, subscribe: bool = True) -> None:
        """Grant or revoke a participant's permissions."""
        permission = api.ParticipantPermission(
            can_publish=publish, can_subscribe=subscribe, can_publish_data=True
        )
        request = api.UpdateParticipantRequest(
            room=self._room, identity=identity, permission=permission
        )
        await self._client.room.update_participant(request)

    async def delete_room(self) -> None:
        await self._client.room.delete_room(api.DeleteRoomRequest(room=self._room))

    async def _participants(self) -> list[api.ParticipantInfo]:
        request = api.ListParticipantsRequest(room=self._room)
        return list((await self._client.room.list_participants(request)).participants)
