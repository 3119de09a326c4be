"""What is said of a peer, and which ends of a connection are losses."""

from dataclasses import replace

import pytest

from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatus

INFO = PeerInfo(
    public_key=bytes.fromhex("04eed00e" + "00" * 57 + "9fb21bbd"),
    endpoint=Endpoint("192.0.2.7", 6800),
    inbound=True,
    node_version="1.12.3.0",
    protocol_version=1,
    connected_at_ns=1_700_000_000_000_000_000,
    dial_times=DialTimes(1, 2),
    uses_stream=True,
    revision=0,
)


def test_how_a_peer_is_named() -> None:
    assert str(INFO) == "04eed00e..9fb21bbd at 192.0.2.7:6800"
    assert str(replace(INFO, endpoint=Endpoint("2001:db8::1", 1))).endswith(" at [2001:db8::1]:1")


def test_our_own_nodes_have_a_revision() -> None:
    assert INFO.is_csharp
    assert not replace(INFO, revision=1).is_csharp
    assert not replace(INFO, revision=7).is_csharp


@pytest.mark.parametrize("reason", CloseReason)
def test_who_was_lost_may_come_back(reason: CloseReason) -> None:
    assert reason.is_loss is (reason.name in {"LOST", "DROPPED_BY_PEER", "SILENT"})


def test_statuses_and_reasons_are_distinct() -> None:
    assert len(PeerStatus) == 3
    assert len(CloseReason) == 14
    assert PeerStatus.READY.value == "ready"
