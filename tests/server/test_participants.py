"""Everyone in the room: who is heard, how they are told apart, and what is told of them."""

from __future__ import annotations

import asyncio
import io
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import av
import numpy as np
import pytest
from conftest import MakeToken, own_tasks
from numpy.typing import NDArray
from support import peers
from support.audio import (
    DEADLINE,
    LOUD,
    Recording,
    calm,
    cut,
    ended,
    is_loud,
    measure,
    recorded,
    samples_of,
    say,
    tone,
)
from support.livekit_server import Server
from support.rooms import Gathering, LoopbackGathering, ServerGathering, until

from beluga_livekit import (
    AudioFrame,
    ConfigError,
    DisconnectedError,
    DisconnectReason,
    LiveKitSession,
    Participant,
    ParticipantKind,
    ParticipantStream,
    TrackSource,
    open_livekit,
)
from beluga_livekit._receive.preconnect import TOPIC
from beluga_livekit.events import (
    Disconnected,
    DtmfReceived,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    RoomEvent,
    TrackMuted,
    TrackPublished,
    TrackUnmuted,
    TrackUnpublished,
)

# As in test_room.py: what is heard through a room is measured in real time.
pytestmark = [pytest.mark.anyio, pytest.mark.flaky(reruns=2)]

RATE = 16000


SOUND = pytest.mark.parametrize(
    "gathering", [pytest.param("server", marks=pytest.mark.once), "loopback"], indirect=True
)


@pytest.fixture(params=["server", "loopback"])
def gathering(request: pytest.FixtureRequest) -> Gathering:
    if request.param == "loopback":
        return LoopbackGathering()
    get = request.getfixturevalue
    return ServerGathering(get("server"), get("token"), get("admin"))


def levels(
    samples: NDArray[np.int16], frequency: float, seconds: float = 0.1
) -> NDArray[np.float64]:
    """The amplitude of a tone in each part of a sound, 1 being full scale."""
    block = round(seconds * RATE)
    blocks = samples[: len(samples) // block * block].reshape(-1, block) / 32768
    wave = np.exp(-2j * np.pi * frequency * np.arange(block) / RATE)
    amplitudes: NDArray[np.float64] = np.abs(blocks @ wave) * 2 / block
    return amplitudes


def level_of(samples: NDArray[np.int16], frequency: float) -> float:
    """The amplitude of a tone in the loudest half second."""
    return float(np.sort(levels(samples, frequency))[-5:].mean())


def of(recording: Recording, who: str | None) -> NDArray[np.int16]:
    frames = [frame for frame in recording.frames if frame.participant == who]
    return samples_of(frames) if frames else np.zeros(0, np.int16)


def loud_of(recording: Recording, who: str | None) -> float:
    """Seconds of sound that were heard of somebody."""
    return sum(f.duration for f in recording.frames if f.participant == who and is_loud(f))


async def speak(session: LiveKitSession, frequency: float, seconds: float = 1.0) -> None:
    await say(session.tx, cut(tone(frequency, seconds, RATE), RATE))


@SOUND
async def test_two_speakers_are_mixed_and_told_apart(gathering: Gathering) -> None:
    each: dict[str, Recording] = {}

    async def record(stream: ParticipantStream) -> None:
        assert stream.source is TrackSource.MICROPHONE
        recording = each[stream.participant.identity] = Recording()
        async for frame in stream:
            recording.frames.append(frame)

    async with (
        gathering.open("bot") as bot,
        gathering.open("ann") as ann,
        gathering.open("ben") as ben,
        bot.open_rx(mix=False) as apart,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, record)
        async with (
            recorded(bot.rx) as mixed,
            recorded(apart) as told,
            anyio.create_task_group() as speaking,
        ):
            await until(lambda: each.keys() == {"ann", "ben"})
            await calm()
            speaking.start_soon(speak, ann, 440, 2.0)
            speaking.start_soon(speak, ben, 700, 2.0)
            await until(lambda: loud_of(told, "ann") > 1.8 and loud_of(told, "ben") > 1.8)
        tasks.cancel_scope.cancel()
    together = of(mixed, None)
    assert level_of(together, 440) == pytest.approx(0.25, rel=0.08)
    assert level_of(together, 700) == pytest.approx(0.25, rel=0.08)
    for who, own, other in (("ann", 440, 700), ("ben", 700, 440)):
        for sound in (of(told, who), samples_of(each[who].frames)):
            assert level_of(sound, own) == pytest.approx(0.25, rel=0.08)
            assert level_of(sound, other) < 0.01


@SOUND
async def test_of_several_the_one_who_speaks_passes_through_as_who_it_is(
    gathering: Gathering,
) -> None:
    async with (
        gathering.open("bot") as bot,
        gathering.open("ann") as ann,
        gathering.open("ben") as ben,
        recorded(bot.rx) as heard,
    ):
        await calm()
        for speaker, who, frequency in ((ann, "ann", 440), (ben, "ben", 700)):
            await speak(speaker, frequency)
            await until(lambda who=who: loud_of(heard, who) > 0.9)
            await until(lambda: not any(map(is_loud, heard.frames[-15:])))
            assert level_of(of(heard, who), frequency) == pytest.approx(0.25, rel=0.08)
    # What is neither's alone is short: only where one codec's end overlaps the other's beginning.
    assert loud_of(heard, None) < 0.1
    first, last = heard.frames[0].timestamp, heard.frames[-1].timestamp
    assert first is not None
    assert last is not None
    assert sum(frame.duration for frame in heard.frames) == pytest.approx(last - first, abs=0.1)


@SOUND
async def test_agents_are_heard_only_where_they_are_asked_for(gathering: Gathering) -> None:
    async with (
        gathering.open("bot") as bot,
        gathering.open("agent", kind="agent") as agent,
        gathering.open("ann") as ann,
        bot.open_rx(participants="agent") as by_name,
        bot.open_rx(participants=lambda p: p.kind is ParticipantKind.AGENT) as by_kind,
        recorded(bot.rx) as default,
        recorded(by_name) as named,
        recorded(by_kind) as predicted,
    ):
        await calm()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak, agent, 440)
            tasks.start_soon(speak, ann, 700)
        await until(
            lambda: (
                loud_of(default, "ann") > 0.9
                and loud_of(named, "agent") > 0.9
                and loud_of(predicted, "agent") > 0.9
            )
        )
    assert level_of(samples_of(default.frames), 440) < 0.01
    assert level_of(samples_of(named.frames), 700) < 0.01


async def test_a_predicate_is_asked_again_when_attributes_change(gathering: Gathering) -> None:
    def is_vip(participant: Participant) -> bool:
        return participant.attributes["vip"] == "yes"  # raises, where there is none

    streams: list[str] = []

    async def handle(stream: ParticipantStream) -> None:
        streams.append(f"{stream.participant.identity} came")
        async for _ in stream:
            pass
        streams.append(f"{stream.participant.identity} is not wanted")

    async with (
        gathering.open("bot", participants=is_vip) as bot,
        gathering.open("ann", attributes={"vip": "no"}, subscription_timeout=0) as ann,
        gathering.open("ben", subscription_timeout=0) as ben,
        recorded(bot.rx) as heard,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, handle)
        tasks.start_soon(speak, ann, 440, 30.0)
        tasks.start_soon(speak, ben, 700, 30.0)
        await anyio.sleep(0.3)
        assert not heard.frames
        await gathering.change("ann", {"vip": "yes"})
        await until(lambda: loud_of(heard, "ann") > 0.2)
        await gathering.change("ann", {"vip": "no"})
        await until(lambda: len(heard.frames) > 10 and not any(map(is_loud, heard.frames[-10:])))
        await until(lambda: streams == ["ann came", "ann is not wanted"])
        tasks.cancel_scope.cancel()
    assert {frame.participant for frame in heard.frames} == {"ann", None}


class Log:
    """What has happened so far."""

    def __init__(self) -> None:
        self.events: list[RoomEvent] = []

    async def read(self, session: LiveKitSession) -> None:
        async with session.events() as events:
            async for event in events:
                self.events.append(event)

    async def until(self, kind: type[Any], **fields: Any) -> Any:
        """Waits for an event, and forgets what was before it."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [
                at
                for at, event in enumerate(self.events)
                if isinstance(event, kind)
                and all(getattr(event, name) == value for name, value in fields.items())
            ]
            return bool(found)

        await until(is_there)
        event = self.events[found[0]]
        del self.events[: found[0] + 1]
        return event


async def test_events_tell_what_happens_in_order(gathering: Gathering) -> None:
    log, late = Log(), Log()
    async with anyio.create_task_group() as tasks:
        async with gathering.open("bot") as bot:
            tasks.start_soon(log.read, bot)
            async with gathering.open("ann", attributes={"mood": "good"}) as ann:
                joined = await log.until(ParticipantJoined)
                assert joined.participant.identity == "ann"
                assert joined.participant.kind is ParticipantKind.STANDARD
                assert joined.participant.attributes == {"mood": "good"}
                started = await log.until(TrackPublished)
                assert started.source is TrackSource.MICROPHONE
                ann.mute()
                assert (await log.until(TrackMuted)).sid == started.sid
                tasks.start_soon(late.read, bot)
                await until(lambda: len(late.events) == 3)
                there = [ParticipantJoined, TrackPublished, TrackMuted]
                assert [type(event) for event in late.events] == there
                ann.unmute()
                assert (await log.until(TrackUnmuted)).sid == started.sid
                await gathering.change("ann", {"mood": "bad"})
                changed = await log.until(ParticipantUpdated)
                assert changed.previous.attributes["mood"] == "good"
                assert changed.participant.attributes["mood"] == "bad"
                await ann.send_dtmf("1#")
                pressed = [await log.until(DtmfReceived), await log.until(DtmfReceived)]
                assert [each.digit for each in pressed] == ["1", "#"]
                assert {each.participant.identity for each in pressed} == {"ann"}
            await log.until(TrackUnpublished, sid=started.sid)
            await log.until(ParticipantLeft)
        await log.until(Disconnected, reason=DisconnectReason.CLIENT_INITIATED)
    assert not log.events


@SOUND
async def test_a_mute_of_ours_by_the_server_is_an_event(gathering: Gathering) -> None:
    log = Log()
    async with (
        gathering.open("bot") as bot,
        gathering.open("ann") as ann,
        recorded(ann.rx) as heard,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(log.read, bot)
        await speak(bot, 440, 0.5)
        await until(lambda: loud_of(heard, "bot") > 0.4)
        await gathering.mute("bot")
        muted = await log.until(TrackMuted)
        assert muted.participant.is_self
        assert muted.participant.identity == "bot"
        await anyio.sleep(0.3)
        before = loud_of(heard, "bot")
        await speak(bot, 440, 0.5)
        await bot.wait_for_playout()
        await anyio.sleep(0.3)
        assert loud_of(heard, "bot") == before
        bot.unmute()
        await speak(bot, 440, 0.5)
        await until(lambda: loud_of(heard, "bot") > before + 0.4)
        tasks.cancel_scope.cancel()


async def test_a_stream_for_each_ends_when_its_participant_has_left_for_good(
    gathering: Gathering,
) -> None:
    log: list[str] = []
    heard: dict[str, int] = {}

    async def handle(stream: ParticipantStream) -> None:
        who = stream.participant.identity
        log.append(f"{who} came")
        async for frame in stream:
            heard[who] = heard.get(who, 0) + is_loud(frame)
        log.append(f"{who} left")

    async with (
        gathering.open("bot") as bot,
        gathering.open("ann"),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: bot.for_each_participant(handle, rejoin_grace=1.0))
        await until(lambda: log == ["ann came"])
        async with gathering.open("ben") as ben:
            await until(lambda: log[1:] == ["ben came"])
            await speak(ben, 700, 0.5)
            await until(lambda: heard.get("ben", 0) > 15)
        async with gathering.open("ben") as ben:  # back in time: the same stream
            await speak(ben, 700, 0.5)
            await until(lambda: heard["ben"] > 35)
            await anyio.sleep(1.0)
            assert log == ["ann came", "ben came"]
        await until(lambda: log[2:] == ["ben left"])
        async with gathering.open("ben"):  # too late: another one
            await until(lambda: log[3:] == ["ben came"])
            await gathering.remove("bot")
            # At the session's end the streams end, and the handlers return.
            await until(lambda: len(log) == 6)
            assert set(log[4:]) == {"ann left", "ben left"}


async def test_a_handler_that_raises_ends_the_others_and_one_that_returns_is_done(
    gathering: Gathering,
) -> None:
    calls: list[str] = []

    async def handle(stream: ParticipantStream) -> None:
        calls.append(stream.participant.identity)
        if stream.participant.identity == "ben":
            raise ZeroDivisionError
        if stream.participant.identity == "ann":
            try:
                await anyio.sleep_forever()
            finally:
                calls.append("ann was cancelled")

    async with gathering.open("bot") as bot, gathering.open("cleo"), gathering.open("ann"):
        async with AsyncExitStack() as stack:
            with pytest.raises(ExceptionGroup) as caught:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(bot.for_each_participant, handle)
                    await until(lambda: {"ann", "cleo"} <= set(calls))
                    await stack.enter_async_context(gathering.open("ben"))
                    await anyio.sleep(DEADLINE)
        assert caught.group_contains(ZeroDivisionError)
        assert calls.count("cleo") == 1
        assert len(bot._runner.readers._listeners) == 1
        assert calls[-2:] == ["ben", "ann was cancelled"]
        # Nothing of it goes on; rx does.
        assert isinstance(await bot.receive(), AudioFrame)


async def test_leave_when_alone(gathering: Gathering) -> None:
    async with gathering.open("bot", departure_timeout=0.5) as bot:
        async with gathering.open("agent", kind="agent"):
            async with gathering.open("ann"):
                await bot.wait_for_participant()
            async with gathering.open("ben"):  # in time
                assert (await bot.wait_for_participant("ben")).identity == "ben"
                await anyio.sleep(1.0)
                assert bot.disconnect_reason is None
            await ended(bot)  # though an agent is still there
        assert bot.disconnect_reason is DisconnectReason.CLIENT_INITIATED
        with pytest.raises(DisconnectedError):
            await bot.send(AudioFrame(bytes(640), RATE))
        with pytest.raises(DisconnectedError):
            await bot.wait_for_participant("nobody")


async def test_a_phone_is_waited_for_until_it_has_answered(gathering: Gathering) -> None:
    answered: list[Participant] = []

    async with (
        gathering.open("bot") as bot,
        gathering.open("phone", kind="sip", attributes={"sip.callStatus": "ringing"}),
        anyio.create_task_group() as tasks,
    ):

        async def wait() -> None:
            answered.append(await bot.wait_for_participant())

        tasks.start_soon(wait)
        await anyio.sleep(0.3)
        assert not answered
        await gathering.change("phone", {"sip.callStatus": "active"})
        await until(lambda: answered)
    assert answered[0].kind is ParticipantKind.SIP
    assert answered[0].attributes["sip.callStatus"] == "active"


@SOUND
async def test_a_recorder_beside_a_transcriber(gathering: Gathering) -> None:
    """Another rate, another frame size, another fate: closing one leaves the other alone."""
    async with (
        gathering.open("bot") as bot,
        gathering.open("ann") as ann,
        bot.open_rx(sample_rate=48000, frame_size=4800, max_delay=None) as recorder,
        recorded(recorder) as heard,
    ):
        await calm()
        await bot.receive()
        await bot.rx.aclose()
        await speak(ann, 440)
        await until(lambda: loud_of(heard, "ann") > 0.9)
        frames = heard.frames
        assert {(f.sample_rate, f.samples_per_channel) for f in frames} == {(48000, 4800)}


async def test_what_is_asked_for_wrongly_is_told_at_once(gathering: Gathering) -> None:
    async def nothing(stream: ParticipantStream) -> None: ...

    async with gathering.open("bot", publish=False) as bot:
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("sources must be one", lambda: bot.open_rx(sources="camera")),  # type: ignore[arg-type]
            ("participants must be", lambda: bot.open_rx(participants=5)),  # type: ignore[arg-type]
            ("mix must be", lambda: bot.open_rx(mix="no")),  # type: ignore[arg-type]
            ("sample_rate must be", lambda: bot.open_rx(sample_rate=1)),
            ("digits must be some of", lambda: bot.send_dtmf("12x")),
            ("digits must be some of", lambda: bot.send_dtmf("")),
            ("rejoin_grace must be", lambda: bot.for_each_participant(nothing, rejoin_grace=-1)),
            (
                "rejoin_grace must be",
                lambda: bot.for_each_participant(nothing, rejoin_grace=math.nan),
            ),
        ]
        for message, call in calls:
            with pytest.raises(ConfigError, match=message):
                result = call()
                if isinstance(result, Awaitable):
                    await result
        with pytest.raises(TypeError, match="did you mean 'sample_rate'"):
            bot.open_rx(samplerate=8000)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword 'mix'"):
            await bot.for_each_participant(nothing, mix=True)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="handler must be callable"):
            await bot.for_each_participant(None)  # type: ignore[arg-type]
        with pytest.raises(anyio.ClosedResourceError, match="only receives"):
            bot.mute()
    for late in (bot.events, bot.open_rx):
        with pytest.raises(anyio.ClosedResourceError):
            late()
    with pytest.raises(anyio.ClosedResourceError):
        await bot.for_each_participant(nothing)
    with pytest.raises(anyio.ClosedResourceError):
        await bot.wait_for_participant()
    assert not own_tasks()


async def test_the_end_is_told_and_nothing_that_comes_of_it(gathering: Gathering) -> None:
    log = Log()
    async with (
        gathering.open("ann"),
        anyio.create_task_group() as tasks,
        gathering.open("bot") as bot,
    ):
        tasks.start_soon(log.read, bot)
        await until(lambda: len(log.events) == 2)
    assert [type(event) for event in log.events] == [
        ParticipantJoined,
        TrackPublished,
        Disconnected,
    ]


async def test_a_stream_that_is_closed_leaves_nothing_behind(gathering: Gathering) -> None:
    async with gathering.open("bot") as bot, gathering.open("ann"):
        await bot.receive()
        tasks = len(asyncio.all_tasks())
        for who in [None, "nobody"] * 10:
            async with bot.open_rx(participants=who):
                await anyio.lowlevel.checkpoint()
        async with bot.open_rx(participants="nobody"):
            pass
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 2)
        assert len(bot._runner.readers._listeners) <= 2


# What takes a real server, and participants of another make.


@pytest.mark.once
async def test_only_what_is_wanted_is_subscribed_to(server: Server, token: MakeToken) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        bot = await enter(
            open_livekit(server.url, token("bot"), participants="peer-3", publish=False)
        )
        sids = {}
        for number in range(20):
            joining = peers.join(server.url, token(f"peer-{number}"), auto_subscribe=False)
            peer = await enter(joining)
            sids[number] = await peer.publish("MICROPHONE")
        await bot.receive()
        assert peers.subscribed(bot.room) == {sids[3]}
        async with bot.open_rx(participants=["peer-3", "peer-5"]) as _:
            await until(lambda: peers.subscribed(bot.room) == {sids[3], sids[5]})
        await until(lambda: peers.subscribed(bot.room) == {sids[3]})
        await bot.rx.aclose()
        await until(lambda: not peers.subscribed(bot.room))


@pytest.mark.once
async def test_a_shared_screen_beside_a_microphone(server: Server, token: MakeToken) -> None:
    sources: dict[TrackSource, Recording] = {}

    async def record(stream: ParticipantStream) -> None:
        recording = sources[stream.source] = Recording()
        async for frame in stream:
            recording.frames.append(frame)

    async with (
        open_livekit(server.url, token("bot")) as bot,
        peers.join(server.url, token("peer")) as voice,
        anyio.create_task_group() as tasks,
    ):
        await voice.publish("MICROPHONE")
        screen = peers.Peer(voice.room, 1)
        screen_sid = await screen.publish("SCREENSHARE_AUDIO")
        await bot.receive()
        assert screen_sid not in peers.subscribed(bot.room)
        both = list(TrackSource)
        tasks.start_soon(partial(bot.for_each_participant, record, sources=both))
        async with (
            recorded(bot.rx) as heard,
            bot.open_rx(sources=both) as mixed,
            recorded(mixed) as everything,
        ):
            await until(lambda: len(sources) == 2)
            await calm()
            async with anyio.create_task_group() as speaking:
                speaking.start_soon(voice.say, tone(440, 1.5, 48000))
                speaking.start_soon(screen.say, tone(700, 1.5, 48000))
            await anyio.sleep(0.3)
        tasks.cancel_scope.cancel()
    assert {frame.participant for frame in everything.frames} <= {"peer", None}
    assert loud_of(everything, None) == 0  # of two tracks, but of one participant
    for recording, levels in (
        (heard, (0.25, 0.0)),
        (everything, (0.25, 0.25)),
        (sources[TrackSource.MICROPHONE], (0.25, 0.0)),
        (sources[TrackSource.SCREEN_SHARE_AUDIO], (0.0, 0.25)),
    ):
        sound = samples_of(recording.frames)
        got = (level_of(sound, 440), level_of(sound, 700))
        assert got == pytest.approx(levels, abs=0.03)


@pytest.mark.once
async def test_a_microphone_that_is_published_50_times_is_one_stream(
    server: Server, token: MakeToken
) -> None:
    streams: list[str] = []
    sids: set[str | None] = set()

    async def listen(stream: ParticipantStream) -> None:
        streams.append(stream.participant.identity)
        async for frame in stream:
            if is_loud(frame):
                sids.add(frame.track_sid)

    async with (
        open_livekit(server.url, token("bot")) as bot,
        peers.join(server.url, token("peer")) as peer,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(bot.for_each_participant, listen)
        async with recorded(bot.rx) as heard:
            for _ in range(50):
                sid = await peer.publish()
                await peer.say(tone(440, 0.06, 48000))
                await until(lambda sid=sid: sid in sids)
                await peer.unpublish()
        tasks.cancel_scope.cancel()
        assert streams == ["peer"]
        assert len(sids) == 50
        assert len(asyncio.all_tasks()) < 40
        await until(lambda: not bot._runner.readers._readers)
    first, last = heard.frames[0].timestamp, heard.frames[-1].timestamp
    assert first is not None
    assert last is not None
    assert sum(frame.duration for frame in heard.frames) == pytest.approx(last - first, abs=1.0)


@pytest.mark.once
async def test_stereo_is_heard_as_it_is_published(server: Server, token: MakeToken) -> None:
    """The SDK encodes it as mono (livekit/rust-sdks#1018): both sides are heard, each at half."""
    async with (
        open_livekit(server.url, token("bot"), num_channels=2) as bot,
        peers.join(server.url, token("peer"), channels=2) as peer,
        recorded(bot.rx) as heard,
    ):
        await peer.publish("MICROPHONE")
        await calm()
        await peer.say(tone(440, 1.0, 48000, channels=2))
        await anyio.sleep(0.3)
    sound = samples_of(heard.frames)
    assert sound.shape[1] == 2
    for side in (0, 1):
        assert level_of(sound[:, side], 440) == pytest.approx(0.125, rel=0.1)
        assert level_of(sound[:, side], 880) == pytest.approx(0.125, rel=0.1)


def in_webm(samples: NDArray[np.int16], rate: int) -> bytes:
    """Opus in WebM, as the `MediaRecorder` of browsers makes it."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        for frame in cut(samples, rate):
            part = av.AudioFrame.from_ndarray(frame.samples[None], format="s16", layout="mono")
            part.sample_rate = rate
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("how", ["at once", "slowly", "by a browser"])
async def test_what_was_said_before_comes_first(
    server: Server, token: MakeToken, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """For all who listen, nothing of it twice, and nothing of what is said meanwhile is lost."""
    before, now = tone(440, 1.0, 24000), tone(700, 1.0, 48000)
    data = in_webm(before, 24000) if how == "by a browser" else before.tobytes()
    mime_type = "audio/webm;codecs=opus" if how == "by a browser" else "audio/pcm"
    async with (
        open_livekit(server.url, token("bot", kind="agent"), pre_connect_audio=True) as bot,
        peers.join(server.url, token("peer")) as peer,
        peers.join(server.url, token("other")) as other,
        bot.open_rx(frame_size=160) as short,
        recorded(bot.rx) as heard,
        recorded(short) as heard_short,
    ):
        await other.publish("MICROPHONE")
        await bot.receive()
        sid = await peer.publish("MICROPHONE", preconnect_buffer=True)

        async def send() -> None:
            attributes = {"trackId": sid, "sampleRate": "24000", "channels": "1"}
            for _ in range(2):  # the second time is once too often
                writer = await peer.room.local_participant.stream_bytes(
                    name="preconnect",
                    topic=TOPIC,
                    attributes=attributes,
                    mime_type=mime_type,
                    destination_identities=["bot"],
                )
                for at in range(0, len(data), 9601):  # cut within a sample
                    await writer.write(data[at : at + 9601])
                    await anyio.sleep(0.2 if how == "slowly" else 0)
                await writer.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.say, now)
            tasks.start_soon(send)
        both = (heard, heard_short)
        await until(lambda: all(level_of(samples_of(h.frames), 700) > 0.2 for h in both))
        await anyio.sleep(0.5)
    assert "pre-connect" not in caplog.text  # it was not waited for in vain
    for recording in both:
        sound = samples_of(recording.frames)
        assert measure(sound, RATE, onset=0.0).duration == pytest.approx(2.0, abs=0.2)
        start = int(np.flatnonzero(np.abs(sound) > LOUD)[0])
        first, second = sound[start : start + RATE], sound[start + RATE : start + 2 * RATE]
        for part, levels in ((first, (0.25, 0.0)), (second, (0.0, 0.25))):
            got = (level_of(part, 440), level_of(part, 700))
            assert got == pytest.approx(levels, abs=0.03)


@pytest.mark.parametrize("wrong", ["nothing", "no webm", "half a sample", "of somebody else"])
async def test_a_recording_that_is_no_use_holds_nobody_up(
    server: Server, token: MakeToken, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_livekit(server.url, token("bot"), pre_connect_audio=True) as bot,
        peers.join(server.url, token("peer")) as peer,
        peers.join(server.url, token("other")) as other,
        recorded(bot.rx) as heard,
    ):
        await other.publish("MICROPHONE")
        await bot.receive()
        sid = await peer.publish("MICROPHONE", preconnect_buffer=True)
        pump = other if wrong == "of somebody else" else peer
        if wrong != "nothing":
            attributes = {"trackId": sid, "sampleRate": "24000", "channels": "1"}
            writer = await pump.room.local_participant.stream_bytes(
                name="preconnect", topic=TOPIC, attributes=attributes,
                mime_type="audio/webm;codecs=opus" if wrong == "no webm" else "audio/pcm",
            )  # fmt: skip
            await writer.write(tone(700, 0.5, 24000).tobytes()[wrong == "half a sample" :])
            await writer.aclose()
        await peer.say(tone(440, 1.0, 48000))
        await until(lambda: loud_of(heard, "peer") > 0.9)
    assert level_of(samples_of(heard.frames), 700) < 0.01
    assert "pre-connect audio" in caplog.text


@pytest.mark.parametrize(("gathering", "people", "seconds"), [
    pytest.param("loopback", 10, 8, marks=pytest.mark.once),
    pytest.param("server", 4, 8, marks=pytest.mark.once),
    pytest.param("server", 10, 60, marks=pytest.mark.soak),
], indirect=["gathering"])  # fmt: skip
async def test_people_who_come_and_go(gathering: Gathering, people: int, seconds: float) -> None:
    """Each at a tone of its own: nobody is lost, nobody is heard where another speaks."""
    tones = {f"p{number}": 400.0 + 100 * number for number in range(people)}
    said = dict.fromkeys(tones, 0)
    heard: dict[str, list[AudioFrame]] = {name: [] for name in tones}
    rng = random.Random(7)

    async def record(stream: ParticipantStream) -> None:
        async for frame in stream:
            heard[stream.participant.identity].append(frame)

    async def come_and_go(name: str) -> None:
        end = anyio.current_time() + seconds
        while anyio.current_time() < end:
            await anyio.sleep(rng.uniform(0.2, 3))
            async with gathering.visit(name) as speak_up:
                for _ in range(rng.randint(1, 2)):
                    await speak_up(tone(tones[name], 1.0, 48000, level=0.05))
                    said[name] += 1

    async with gathering.open("bot", publish=False, max_delay=None) as bot:
        tasks_before = len(asyncio.all_tasks())
        async with anyio.create_task_group() as serving, recorded(bot.rx) as mixed:
            serving.start_soon(partial(bot.for_each_participant, record, rejoin_grace=0.5))
            async with anyio.create_task_group() as tasks:
                for name in tones:
                    tasks.start_soon(come_and_go, name)
            await until(lambda: not bot._runner.room_state.participants)
            serving.cancel_scope.cancel()
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
        assert not bot._runner.readers._readers
        assert len(bot._runner.readers._listeners) == 1
    whole = samples_of(mixed.frames)
    for name, frequency in tones.items():
        sound = samples_of(heard[name])
        for each in (sound, whole):
            assert loud_seconds(each, frequency) == pytest.approx(said[name], rel=0.2, abs=0.5)
        for other in tones.keys() - {name}:
            assert level_of(sound, tones[other]) < 0.01
        there = levels(whole, frequency)
        # Of every four tenths of a second one: some are cut by an end, in some another begins.
        typical = float(np.percentile(there[there > 0.02], 75))
        assert typical == pytest.approx(0.05, rel=0.25)  # neither lost nor doubled


def loud_seconds(samples: NDArray[np.int16], frequency: float) -> float:
    """For how long a tone was there."""
    return float((levels(samples, frequency, 0.05) > 0.02).sum()) * 0.05
