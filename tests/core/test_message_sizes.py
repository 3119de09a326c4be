"""What a message may weigh: faults 32-33, protocol §3.4, and the network's own limits by kind."""

import pytest

from aelf_p2p.core.message_sizes import (
    MAX_MESSAGE_BYTES,
    before_trust,
    max_reply_bytes,
    max_request_bytes,
    max_unasked_bytes,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.wire.methods import METHODS, Method

DEFAULTS = NetworkOptions()
UNASKED = 5 * 2**20 + 8192  # the largest transaction and its envelope
# method: of a request, of a reply, and of both on a stream of a stranger
SIZES: dict[str, tuple[int, int, int | None]] = {
    "Ping": (65536, 65536, None),
    "CheckHealth": (8192, 65536, None),
    "DoHandshake": (65536, 65536, None),
    "ConfirmHandshake": (8192, 65536, None),
    "RequestBlock": (8192, 104857600, None),
    "RequestBlocks": (8192, 104857600, None),
    "GetNodes": (8192, 65536, None),
    "Disconnect": (8192, 65536, None),
    "BlockBroadcastStream": (4194304, 65536, 65536),
    "TransactionBroadcastStream": (5242880, 65536, 65536),
    "AnnouncementBroadcastStream": (1024, 65536, 65536),
    "LibAnnouncementBroadcastStream": (1024, 65536, 65536),
    "RequestByStream": (UNASKED, UNASKED, 65536),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_limits_of_each_method(method: Method) -> None:
    request, reply, of_a_stranger = SIZES[method.name]
    assert max_request_bytes(method, DEFAULTS) == request
    assert max_reply_bytes(method, DEFAULTS) == reply
    for usual in request, reply, 1, 2**40:
        most = usual if of_a_stranger is None else min(usual, of_a_stranger)
        assert before_trust(method, usual, DEFAULTS) == most


def test_the_most_of_all() -> None:
    assert MAX_MESSAGE_BYTES == 104857600


@pytest.mark.parametrize(
    ("block", "transaction", "most"),
    [(4, 5, 5 + 8192), (7000, 5, 7000 + 8192), (50, 50, 50 + 8192)],
)
def test_what_comes_unasked_is_the_largest_broadcast_in_its_envelope(
    block: int, transaction: int, most: int
) -> None:
    options = NetworkOptions(max_pushed_block_bytes=block, max_transaction_bytes=transaction)
    assert max_unasked_bytes(options) == most


def test_the_limits_are_the_options() -> None:
    options = NetworkOptions(
        max_pushed_block_bytes=400,
        max_transaction_bytes=500,
        max_announcement_bytes=60,
        max_request_bytes=70,
        max_message_before_handshake_bytes=300,
    )
    assert {name: max_request_bytes(m, options) for m in METHODS.values() if (name := m.name)} == {
        "Ping": 300,
        "CheckHealth": 70,
        "DoHandshake": 300,
        "ConfirmHandshake": 70,
        "RequestBlock": 70,
        "RequestBlocks": 70,
        "GetNodes": 70,
        "Disconnect": 70,
        "BlockBroadcastStream": 400,
        "TransactionBroadcastStream": 500,
        "AnnouncementBroadcastStream": 60,
        "LibAnnouncementBroadcastStream": 60,
        "RequestByStream": 8692,
    }
    [stream] = [method for method in METHODS.values() if method.name == "RequestByStream"]
    assert max_reply_bytes(stream, options) == 8692
    assert before_trust(stream, 8692, options) == 300
