"""Requests that wait for their replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import FullBufferError
from aelf_p2p.core.pending import PendingRequests

GET_NODES = 7
REQUEST_BLOCK = 5


def test_a_reply_takes_its_waiter_once() -> None:
    pending: PendingRequests[str] = PendingRequests(4)
    pending.add("1_a", REQUEST_BLOCK, "first")
    pending.add("1_b", GET_NODES, "second")
    assert len(pending) == 2
    assert pending.match("1_b", GET_NODES) == "second"
    assert pending.match("1_b", GET_NODES) is None
    assert pending.match("1_a", REQUEST_BLOCK) == "first"
    assert len(pending) == 0


def test_unknown_and_wrong_replies_take_nothing() -> None:
    pending: PendingRequests[str] = PendingRequests(4)
    pending.add("1_a", REQUEST_BLOCK, "waiter")
    assert pending.match("1_b", REQUEST_BLOCK) is None
    assert pending.match("", 0) is None
    assert pending.match("1_a", GET_NODES) is None
    assert pending.match("1_a", REQUEST_BLOCK) == "waiter"  # the right reply still came


def test_who_stops_waiting_gets_no_reply() -> None:
    pending: PendingRequests[str] = PendingRequests(1)
    pending.add("1_a", REQUEST_BLOCK, "waiter")
    pending.discard("1_a")
    pending.discard("1_a")  # it may have been answered meanwhile
    assert pending.match("1_a", REQUEST_BLOCK) is None
    pending.add("1_b", REQUEST_BLOCK, "next")


def test_there_is_room_for_so_many() -> None:
    pending: PendingRequests[int] = PendingRequests(3)
    for number in range(3):
        pending.add(str(number), REQUEST_BLOCK, number)
    with pytest.raises(FullBufferError, match="3 requests"):
        pending.add("3", REQUEST_BLOCK, 3)
    assert len(pending) == 3
    assert pending.match("3", REQUEST_BLOCK) is None
    pending.match("0", REQUEST_BLOCK)
    pending.add("3", REQUEST_BLOCK, 3)
    assert pending.clear() == [1, 2, 3]
    assert len(pending) == 0
    assert pending.clear() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "match", "discard"]), st.integers(0, 5), st.integers(5, 6)
        ),
        max_size=60,
    )
)
def test_against_a_list(steps: list[tuple[str, int, int]]) -> None:
    pending: PendingRequests[object] = PendingRequests(4)
    waiting: list[tuple[str, int, object]] = []
    for step, number, message_type in steps:
        request_id = f"1_{number}"
        held = [entry for entry in waiting if entry[0] == request_id]
        if step == "add" and not held:
            waiter = object()
            if len(waiting) == 4:
                with pytest.raises(FullBufferError):
                    pending.add(request_id, message_type, waiter)
            else:
                pending.add(request_id, message_type, waiter)
                waiting.append((request_id, message_type, waiter))
        elif step == "match":
            answered = [entry for entry in held if entry[1] == message_type]
            expected = answered[0][2] if answered else None
            assert pending.match(request_id, message_type) is expected
            waiting = [entry for entry in waiting if entry not in answered]
        elif step == "discard":
            pending.discard(request_id)
            waiting = [entry for entry in waiting if entry not in held]
        assert len(pending) == len(waiting)
    assert pending.clear() == [waiter for _, _, waiter in waiting]
