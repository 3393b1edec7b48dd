"""The plan of the coordinator: from room state and pipelines to subscriptions and readers."""

from __future__ import annotations

from typing import Any

import pytest

from beluga_livekit import Participant, ParticipantKind, TrackSource
from beluga_livekit._logging import SessionLog
from beluga_livekit._options import ReceiveOptions
from beluga_livekit._receive.pipeline import ReceivePipeline
from beluga_livekit._receive.plan import MAX_TRACKS, ReaderKey, plan
from beluga_livekit._room.state import RoomState, Track

pytestmark = pytest.mark.anyio  # pipelines and the room state hold anyio's streams and events


def pipeline(**options: Any) -> ReceivePipeline:
    return ReceivePipeline(ReceiveOptions(**options), SessionLog())


def room_of(*tracks: Track) -> RoomState:
    state = RoomState()
    for track in tracks:
        state.update_participant(Participant(track.participant))
        state.add_track(track)
    return state


async def close(*pipelines: ReceivePipeline) -> None:
    for each in pipelines:
        each.buffer.rx.close()
        each.close()


async def test_plan_subscribes_to_selected_tracks_and_reads_those_with_audio() -> None:
    """Contract: only selected tracks are subscribed to; a track is read once it is subscribed."""
    rx = pipeline(participants=["ann", "ben"])
    room = room_of(Track("TR_a", "ann", audio=object()), Track("TR_b", "ben"), Track("TR_c", "cy"))
    target = plan(room, [rx])
    assert target.subscribe == {"TR_a", "TR_b"}
    assert target.read == {ReaderKey("TR_a", rx.frame_ms): [rx]}
    await close(rx)


async def test_plan_reads_a_track_once_for_pipelines_of_one_frame_duration() -> None:
    """Contract: pipelines share a reader; short frames are read in blocks of their own."""
    rx, recorder, detector = pipeline(), pipeline(sample_rate=48000), pipeline(frame_size=160)
    target = plan(room_of(Track("TR_a", "ann", audio=object())), [rx, recorder, detector])
    assert target.read == {
        ReaderKey("TR_a", rx.frame_ms): [rx, recorder],
        ReaderKey("TR_a", detector.frame_ms): [detector],
    }
    assert rx.frame_ms == 2 * detector.frame_ms
    await close(rx, recorder, detector)


async def test_plan_limits_the_tracks_of_one_participant() -> None:
    """SDK quirk: with a hundred tracks the SDK delivers no track in time."""
    rx = pipeline()
    tracks = [Track(f"TR_{number}", "ann") for number in range(MAX_TRACKS + 3)]
    target = plan(room_of(*tracks, Track("TR_ben", "ben")), [rx])
    assert target.subscribe == {track.sid for track in tracks[:MAX_TRACKS]} | {"TR_ben"}
    await close(rx)


async def test_plan_selects_by_track_source() -> None:
    """Contract: `sources` selects among the tracks of a participant."""
    rx, screen = pipeline(), pipeline(sources="screen_share_audio")
    room = room_of(Track("TR_m", "ann"), Track("TR_s", "ann", TrackSource.SCREEN_SHARE_AUDIO))
    assert plan(room, [rx]).subscribe == {"TR_m"}
    assert plan(room, [rx, screen]).subscribe == {"TR_m", "TR_s"}
    assert plan(room, []).subscribe == set()
    await close(rx, screen)


@pytest.mark.parametrize(
    ("options", "others", "excluded"),
    [
        ({}, {}, True),
        ({}, {"ann": "standard"}, False),
        ({"participants": "agent"}, {}, False),
        ({"participants": "ann"}, {}, False),
        ({"participant_kinds": ParticipantKind}, {}, False),
        ({"participant_kinds": "sip"}, {}, False),
    ],
)
async def test_plan_reports_room_whose_only_tracks_are_excluded_agents(
    options: dict[str, Any], others: dict[str, ParticipantKind], excluded: bool
) -> None:
    """Contract: the default excludes agents; a room of agents only is worth a hint."""
    rx, room = pipeline(**options), RoomState()
    assert not plan(room, [rx]).is_without_agents
    for identity, kind in {"agent": ParticipantKind.AGENT, **others}.items():
        room.update_participant(Participant(identity, kind=ParticipantKind(kind)))
        room.add_track(Track(f"TR_{identity}", identity))
    assert plan(room, [rx]).is_without_agents is excluded
    assert not plan(room, []).is_without_agents
    await close(rx)
