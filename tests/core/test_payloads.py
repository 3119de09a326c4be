"""Requests, replies and broadcasts, from and to bytes; protobuf itself is the oracle."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p import wire
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.encoders import encode_message_field
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import HandlerError, MalformedError
from aelf_p2p.core.payloads import (
    BROADCAST_TYPES,
    NodeRecord,
    encode_block_list,
    encode_block_reply,
    encode_block_request,
    encode_blocks_request,
    encode_node_list,
    encode_nodes_request,
    parse_block_reply_in_steps_untrusted,
    parse_block_request_untrusted,
    parse_blocks_request_untrusted,
    parse_broadcast_untrusted,
    parse_node_list_untrusted,
    parse_nodes_request_untrusted,
)
from aelf_p2p.core.steps import finish
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import load_vectors

VECTORS = load_vectors()
BLOCK_97 = next(block for block in VECTORS.blocks if block.block_with_transactions is not None)
assert BLOCK_97.block_with_transactions is not None
RAW_BLOCK: bytes = BLOCK_97.block_with_transactions


def parse_block_reply(reply: bytes) -> Block | None:
    return finish(parse_block_reply_in_steps_untrusted(reply))


HASH = BLOCK_97.block_hash

hashes = st.binary(min_size=32, max_size=32)
int32s = st.integers(-(2**31), 2**31 - 1)


def wire_block() -> wire.BlockWithTransactions:
    return wire.BlockWithTransactions.FromString(RAW_BLOCK)


def block_field(body: bytes) -> bytes:
    """Field 2 with this body. protobuf would lay the block's map out in another way than C#."""
    assert 128 <= len(body) < 128 * 128
    return bytes([0x12, len(body) % 128 + 128, len(body) // 128]) + body


# --- broadcasts -----------------------------------------------------------------------------------


def test_the_broadcast_types() -> None:
    assert {8, 9, 10, 11} == BROADCAST_TYPES


def test_a_real_block_is_broadcast() -> None:
    block = parse_broadcast_untrusted(8, RAW_BLOCK)
    assert isinstance(block, Block)
    assert (block.hash, block.height) == (HASH, 97)
    assert block.transaction_ids == BLOCK_97.transaction_ids
    assert block.encode() == RAW_BLOCK


@pytest.mark.parametrize("vector", VECTORS.transactions[:5], ids=lambda vector: vector.id.hex()[:8])
def test_a_real_transaction_is_broadcast(vector: object) -> None:
    expected = next(each for each in VECTORS.transactions if each is vector)
    transaction = parse_broadcast_untrusted(9, expected.raw)
    assert isinstance(transaction, Transaction)
    assert (transaction.id, transaction.raw) == (expected.id, expected.raw)


@given(hashes, st.integers(1, 2**63 - 1))
def test_announcements_are_broadcast(block_hash: bytes, height: int) -> None:
    announcement = wire.BlockAnnouncement(block_height=height)
    announcement.block_hash.value = block_hash
    lib = wire.LibAnnouncement(lib_height=height)
    lib.lib_hash.value = block_hash
    got = parse_broadcast_untrusted(10, announcement.SerializeToString())
    assert got == Announcement(block_hash, height)
    got = parse_broadcast_untrusted(11, lib.SerializeToString())
    assert got == LibAnnouncement(block_hash, height)


@given(st.sampled_from(sorted(BROADCAST_TYPES)), st.binary(max_size=200))
def test_random_broadcasts(message_type: int, payload: bytes) -> None:
    try:
        content = parse_broadcast_untrusted(message_type, payload)
    except MalformedError:
        return
    assert isinstance(content, Announcement | LibAnnouncement | Block | Transaction)


@pytest.mark.parametrize("message_type", sorted(BROADCAST_TYPES))
def test_an_empty_broadcast_is_malformed(message_type: int) -> None:
    with pytest.raises(MalformedError):
        parse_broadcast_untrusted(message_type, b"")


# --- requests -------------------------------------------------------------------------------------


@given(hashes)
def test_a_block_request(block_hash: bytes) -> None:
    data = encode_block_request(block_hash)
    assert wire.BlockRequest.FromString(data).hash.value == block_hash
    request = wire.BlockRequest(hash=wire.Hash(value=block_hash))
    assert parse_block_request_untrusted(request.SerializeToString()) == block_hash


@given(hashes, int32s)
def test_a_blocks_request(previous_hash: bytes, count: int) -> None:
    message = wire.BlocksRequest.FromString(encode_blocks_request(previous_hash, count))
    assert (message.previous_block_hash.value, message.count) == (previous_hash, count)
    request = wire.BlocksRequest(previous_block_hash=wire.Hash(value=previous_hash), count=count)
    parsed = parse_blocks_request_untrusted(request.SerializeToString())
    assert parsed == (previous_hash, count)


@given(int32s)
def test_a_nodes_request(max_count: int) -> None:
    assert wire.NodesRequest.FromString(encode_nodes_request(max_count)).max_count == max_count
    request = wire.NodesRequest(max_count=max_count)
    assert parse_nodes_request_untrusted(request.SerializeToString()) == max_count


@pytest.mark.parametrize("data", [b"", b"\x0a\x00"], ids=["no hash", "an empty hash"])
def test_a_request_that_names_no_hash(data: bytes) -> None:
    assert parse_block_request_untrusted(data) is None
    assert parse_blocks_request_untrusted(data + b"\x10\x32") == (None, 50)
    assert parse_nodes_request_untrusted(b"") == 0


Parser = Callable[[bytes], object]


@pytest.mark.parametrize(
    "parse",
    [
        parse_block_request_untrusted,
        parse_blocks_request_untrusted,
        parse_nodes_request_untrusted,
        parse_block_reply,
        lambda data: parse_node_list_untrusted(data, 10),
    ],
    ids=["BlockRequest", "BlocksRequest", "NodesRequest", "BlockReply", "NodeList"],
)
class TestDamagedMessages:
    @pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x08", b"\x00\x00", b"\x0b"])
    def test_known_damage(self, parse: Parser, data: bytes) -> None:
        with pytest.raises(MalformedError):
            parse(data)

    @given(data=st.binary(max_size=80))
    def test_random_bytes(self, parse: Parser, data: bytes) -> None:
        allowed: list[type[Exception]] = [MalformedError]
        if parse is parse_block_reply:
            allowed.append(HandlerError)
        with suppress(*allowed):
            parse(data)


# --- block replies --------------------------------------------------------------------------------


def test_a_reply_with_a_real_block() -> None:
    reply = block_field(RAW_BLOCK)
    assert wire.BlockReply.FromString(reply).block == wire_block()
    block = parse_block_reply(reply)
    assert block is not None
    assert (block.hash, block.transaction_ids) == (HASH, BLOCK_97.transaction_ids)
    # What we answer is that block too, in the bytes that were received.
    answered = encode_block_reply(RAW_BLOCK)
    assert wire.BlockReply.FromString(answered).block == wire_block()
    assert answered == reply


def test_a_reply_without_a_block() -> None:
    assert encode_block_reply(None) == b""
    assert parse_block_reply(b"") is None
    assert parse_block_reply(wire.BlockReply(error="").SerializeToString()) is None


def test_an_error_is_told_in_the_peers_words() -> None:
    reply = wire.BlockReply(error="no such\nblock").SerializeToString()
    with pytest.raises(HandlerError, match=r"'no such\\nblock'"):
        parse_block_reply(reply)


def test_a_long_error_is_cut() -> None:
    reply = wire.BlockReply(error="ab" * 50_000).SerializeToString()
    with pytest.raises(HandlerError) as caught:
        parse_block_reply(reply)
    assert "ab" * 100 in str(caught.value)
    assert len(str(caught.value)) < 240


def test_a_block_counts_more_than_an_error() -> None:
    reply = wire.BlockReply(error="but here it is").SerializeToString() + block_field(RAW_BLOCK)
    block = parse_block_reply(reply)
    assert block is not None
    assert block.hash == HASH


@pytest.mark.parametrize(
    "reply",
    [
        b"\x12\x00",  # a block without a header
        b"\x12\x02\x0a\x00",  # an empty header
        block_field(RAW_BLOCK) * 2,
        block_field(RAW_BLOCK)[:-1],
        b"\x0a\x01\xff",  # an error that is not UTF-8
    ],
    ids=["no header", "empty header", "two blocks", "cut short", "not UTF-8"],
)
def test_malformed_block_replies(reply: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_block_reply(reply)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_block_list(count: int) -> None:
    data = encode_block_list(iter([RAW_BLOCK] * count))
    assert list(wire.BlockList.FromString(data).blocks) == [wire_block()] * count
    assert data.count(RAW_BLOCK) == count


# --- node lists -----------------------------------------------------------------------------------

nodes = st.tuples(
    st.sampled_from(
        [
            ("192.0.2.1:6800", "192.0.2.1", 6800),
            ("192.0.2.1", "192.0.2.1", 6800),  # without a port: 6800 (protocol §3)
            ("[::1]:6801", "::1", 6801),
            ("2001:db8::7", "2001:db8::7", 6800),
            ("node.example:1", "node.example", 1),
            ("a:b:c", "", 0),
            ("host:99999", "", 0),
            ("host:0", "", 0),
            ("", "", 0),
            ("x" * 100_000, "", 0),
        ]
    ),
    st.binary(max_size=65),
)


@given(st.lists(nodes, max_size=15), st.integers(-3, 20))
def test_a_node_list(listed: list[tuple[tuple[str, str, int], bytes]], max_count: int) -> None:
    message = wire.NodeList(
        nodes=[wire.NodeInfo(endpoint=text, pubkey=key) for (text, _, _), key in listed]
    )
    records = parse_node_list_untrusted(message.SerializeToString(), max_count)
    told = [
        (host, port, key) for (_, host, port), key in listed[: max_count if max_count > 0 else 0]
    ]
    assert [(each.endpoint.host, each.endpoint.port, each.public_key) for each in records] == [
        node for node in told if node[1]
    ]


def test_ten_of_a_hundred_thousand_nodes() -> None:
    nodes = [wire.NodeInfo(endpoint=f"h{number}.example:7000") for number in range(100_000)]
    records = parse_node_list_untrusted(wire.NodeList(nodes=nodes).SerializeToString(), 10)
    assert [each.endpoint.host for each in records] == [f"h{n}.example" for n in range(10)]


@pytest.mark.fault(68)
def test_malformed_nodes_are_left_out() -> None:
    texts = ["a:b:c", "[::1]:6800", "host:99999", "192.0.2.5:6800", "host:-1"]
    message = wire.NodeList(nodes=[wire.NodeInfo(endpoint=text) for text in texts])
    records = parse_node_list_untrusted(message.SerializeToString(), 10)
    assert [str(each.endpoint) for each in records] == ["[::1]:6800", "192.0.2.5:6800"]


def test_a_node_list_of_ours() -> None:
    key = VECTORS.keys[0].public_key
    records = [
        NodeRecord(Endpoint("192.0.2.1", 6800), key),
        NodeRecord(Endpoint("2001:db8::7", 7), b""),
    ]
    data = encode_node_list(iter(records))
    message = wire.NodeList.FromString(data)
    assert [(node.endpoint, node.pubkey) for node in message.nodes] == [
        ("192.0.2.1:6800", key),
        ("[2001:db8::7]:7", b""),
    ]
    assert parse_node_list_untrusted(data, 10) == records
    assert parse_node_list_untrusted(encode_node_list([]), 10) == []


def test_of_a_node_list_no_more_is_looked_at_than_is_taken() -> None:
    """A hundred megabytes of empty nodes would take seconds, and gigabytes."""
    nodes = [NodeRecord(Endpoint("10.0.0.1", port), b"key") for port in (1, 2, 3)]
    large = encode_message_field(
        1, wire.NodeInfo(endpoint="host:1", pubkey=bytes(5000)).SerializeToString()
    )
    raw = encode_node_list(nodes)
    assert parse_node_list_untrusted(raw + b"\x0a\x00 no NodeList", 3) == nodes
    assert parse_node_list_untrusted(large + raw, 3) == nodes[:2]
    with pytest.raises(MalformedError):
        parse_node_list_untrusted(raw + b"\x0a", 4)


def test_a_block_reply_without_a_block_is_short() -> None:
    with pytest.raises(MalformedError, match="and no block"):
        parse_block_reply(encode_message_field(1, bytes(1_100_000)))
