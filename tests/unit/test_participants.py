"""Participant and the `participants` filter."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from beluga_livekit import ConfigError, Participant
from beluga_livekit._options import ReceiveOptions

ANN = Participant("ann")


def test_participant_is_immutable_and_survives_copying() -> None:
    """Contract: participants can be pickled, copied and hashed, and never change."""
    ann = Participant("ann", "Ann", attributes={"a": "b"})
    for copied in (pickle.loads(pickle.dumps(ann)), copy.deepcopy(ann)):
        assert copied == ann
        assert hash(copied) == hash(ann)
    with pytest.raises(TypeError):
        ann.attributes["a"] = "c"  # type: ignore[index]


def test_failing_predicate_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Contract: a predicate that raises rejects the participant, with one log line."""
    options = ReceiveOptions(participants=lambda each: each.attributes["a"] == "b")
    assert not options.selects(ANN)
    assert not options.evolve(mix=False).selects(ANN)
    assert options.selects(Participant("ben", attributes={"a": "b"}))
    assert caplog.text.count("the predicate") == 1


async def refuse_all(participant: Participant) -> bool:
    return False


@pytest.mark.parametrize("wrong", [refuse_all, 5, ["ann", 5], b"ann"])
def test_participants_filter_rejects_wrong_type(wrong: Any) -> None:
    """Contract: a wrong `participants` is a ConfigError at the call."""
    with pytest.raises(ConfigError, match="participants must be an identity"):
        ReceiveOptions(participants=wrong)
