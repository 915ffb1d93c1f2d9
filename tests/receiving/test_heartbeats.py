"""Heartbeats: none to a sender that does not know them, and not too many."""

import pytest

from tests.support.channels import Ends
from xfer.receiving import heartbeats
from xfer.receiving.heartbeats import HeartbeatSender
from xfer.wire.keepalive import Progress
from xfer.wire.messages import Done, Message, Working


def sent(ends: Ends) -> list[Message]:
    """What has been sent so far."""
    sender, receiver = ends
    receiver.send(Done())
    receiver.flush()
    messages = []
    while not isinstance(message := sender.receive(), Done):
        messages.append(message)
    return messages


def test_a_sender_that_does_not_know_heartbeats_gets_none(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0)
    sender = HeartbeatSender(ends[1])
    sender.send()
    assert sent(ends) == []
    sender.enable()
    sender.send(Progress("f", 10, 5))
    assert sent(ends) == [Working("f", 5, 10)]


def test_heartbeats_in_quick_succession_are_one(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0)
    sender = HeartbeatSender(ends[1])
    sender.enable()
    sender.send()
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 3600)
    sender.send()
    assert len(sent(ends)) == 1
