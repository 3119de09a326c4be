"""Lists of nodes, and the requests for them and for blocks."""

from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.payloads import (
    MAX_PUBLIC_KEY_SIZE,
    NodeRecord,
    encode_block_request,
    encode_blocks_request,
    encode_node_list,
    encode_nodes_request,
    parse_block_request_untrusted,
    parse_blocks_request_untrusted,
    parse_node_list_untrusted,
    parse_nodes_request_untrusted,
)
from tests.fuzz.mutation import mutate_message

mutate = mutate_message


def seeds() -> Iterator[bytes]:
    texts = ("10.0.0.2:6800", "[2001:db8::1]:6800", "node.example.org:1")
    yield encode_node_list(NodeRecord(Endpoint.parse_untrusted(each), b"\4" * 65) for each in texts)
    yield encode_block_request(bytes(32))
    yield encode_blocks_request(bytes(32), 50)
    yield encode_nodes_request(10)
    yield b"\x0a\x03\x0a\x01\xff"


def target(data: bytes) -> bool:
    with suppress(MalformedError):
        block_hash = parse_block_request_untrusted(data)
        assert (
            block_hash is None
            or parse_block_request_untrusted(encode_block_request(block_hash)) == block_hash
        )
    with suppress(MalformedError):
        previous_hash, count = parse_blocks_request_untrusted(data)
        again = encode_blocks_request(previous_hash or b"", count)
        assert parse_blocks_request_untrusted(again) == (previous_hash, count)
    with suppress(MalformedError):
        most = parse_nodes_request_untrusted(data)
        assert parse_nodes_request_untrusted(encode_nodes_request(most)) == most
    try:
        nodes = parse_node_list_untrusted(data, 10)
    except MalformedError:
        return False
    assert len(nodes) <= 10
    assert all(len(node.public_key) <= MAX_PUBLIC_KEY_SIZE for node in nodes)
    assert parse_node_list_untrusted(encode_node_list(nodes), 10) == nodes
    assert parse_node_list_untrusted(data, -1) == []
    return bool(nodes)
