"""`plan`: from the room state and the open pipelines to the tracks to subscribe to and to read."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._room.participants import ParticipantKind
from .._room.state import RoomState
from .pipeline import ReceivePipeline

# Limit for the tracks of one participant that a pipeline receives. A participant has one
# microphone; with a hundred tracks the SDK delivers no track in time.
MAX_TRACKS = 8


class ReaderKey(NamedTuple):
    """A track is read once for all pipelines that take frames of the same duration."""

    sid: str
    frame_ms: int


class ReceivePlan(NamedTuple):
    """The target of the coordinator."""

    subscribe: frozenset[str]  # SIDs
    read: Mapping[ReaderKey, Sequence[ReceivePipeline]]  # the tracks that can be read
    is_without_agents: bool  # the default excludes every track in the room, as an agent's


def plan(room_state: RoomState, pipelines: Sequence[ReceivePipeline]) -> ReceivePlan:
    """Return the plan for the pipelines that are open. Pure: changes nothing."""
    subscribe: set[str] = set()
    read: defaultdict[ReaderKey, list[ReceivePipeline]] = defaultdict(list)
    for pipeline in pipelines:
        selected: Counter[str] = Counter()
        for track in room_state.tracks.values():
            participant = room_state.participants[track.participant]
            is_selected = pipeline.options.selects(participant, track.source)
            if is_selected and selected[track.participant] < MAX_TRACKS:
                selected[track.participant] += 1
                subscribe.add(track.sid)
                if track.audio is not None:
                    read[ReaderKey(track.sid, pipeline.frame_ms)].append(pipeline)
    return ReceivePlan(frozenset(subscribe), read, _excludes_agents(room_state, pipelines))


def _excludes_agents(room_state: RoomState, pipelines: Sequence[ReceivePipeline]) -> bool:
    options = [pipeline.options for pipeline in pipelines]
    kinds = {room_state.participants[each.participant].kind for each in room_state.tracks.values()}
    is_default = all(each.participants is each.participant_kinds is None for each in options)
    return bool(options) and is_default and kinds == {ParticipantKind.AGENT}
