"""The messages inside: what a peer asks, answers and broadcasts, from and to bytes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from google.protobuf.message import DecodeError

from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.encoders import encode_message_field
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import HandlerError, MalformedError
from aelf_p2p.core.fields import field_view_untrusted, repeated_untrusted
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.core.steps import Steps, finish
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.wire import (
    BlockReply,
    BlockRequest,
    BlocksRequest,
    MessageType,
    NodeInfo,
    NodeList,
    NodesRequest,
)

BroadcastContent = Announcement | LibAnnouncement | Block | Transaction


@dataclass(frozen=True)
class NodeRecord:
    """A node that a peer told us of. The key is hearsay until the node proves it."""

    endpoint: Endpoint
    public_key: bytes


_PARSERS: dict[int, Callable[[bytes], BroadcastContent]] = {
    MessageType.ANNOUNCEMENT_BROADCAST: Announcement.parse_untrusted,
    MessageType.LIB_ANNOUNCEMENT_BROADCAST: LibAnnouncement.parse_untrusted,
}
_PARSERS_IN_STEPS: dict[int, Callable[[bytes], Steps[Block] | Steps[Transaction]]] = {
    MessageType.BLOCK_BROADCAST: Block.parse_in_steps_untrusted,
    MessageType.TRANSACTION_BROADCAST: Transaction.parse_in_steps_untrusted,
}
MAX_PUBLIC_KEY_SIZE = 65
MAX_NODE_BYTES = 4 * KIB
"""Of a node in a NodeList: a name of 255 bytes, a port and a key are 330."""
MAX_ERROR_REPLY_BYTES = MIB
"""Of a BlockReply that holds no block, but an error's text maybe."""
_NODES = 1  # of NodeList

BROADCAST_TYPES: frozenset[int] = frozenset(_PARSERS | _PARSERS_IN_STEPS)


def parse_broadcast_untrusted(message_type: int, payload: bytes) -> BroadcastContent:
    """What a broadcast of one of ``BROADCAST_TYPES`` carries. Raises MalformedError."""
    return finish(parse_broadcast_in_steps_untrusted(message_type, payload))


def parse_broadcast_in_steps_untrusted(
    message_type: int, payload: bytes
) -> Steps[BroadcastContent]:
    """The same a bit at a time."""
    parse_in_steps = _PARSERS_IN_STEPS.get(message_type)
    if parse_in_steps is None:
        return _PARSERS[message_type](payload)
    return (yield from parse_in_steps(payload))


def encode_block_request(block_hash: bytes) -> bytes:
    """The bytes of a BlockRequest."""
    message = BlockRequest()
    message.hash.value = block_hash
    return message.SerializeToString()


def encode_blocks_request(previous_hash: bytes, count: int) -> bytes:
    """The bytes of a BlocksRequest."""
    message = BlocksRequest(count=count)
    message.previous_block_hash.value = previous_hash
    return message.SerializeToString()


def encode_nodes_request(max_count: int) -> bytes:
    """The bytes of a NodesRequest."""
    return NodesRequest(max_count=max_count).SerializeToString()


def parse_block_reply_in_steps_untrusted(reply: bytes | memoryview) -> Steps[Block | None]:
    """The block of a BlockReply, a bit at a time; None when it holds none.

    Raises MalformedError, and HandlerError with the peer's own words when it answers an error.
    """
    raw = field_view_untrusted(reply, 2)
    if raw is not None:
        return (yield from Block.parse_in_steps_untrusted(raw))
    if len(reply) > MAX_ERROR_REPLY_BYTES:
        raise MalformedError(f"a BlockReply of {len(reply)} bytes, and no block")
    try:
        error = BlockReply.FromString(bytes(reply)).error
    except DecodeError as exc:
        raise MalformedError(f"not a BlockReply: {exc}") from exc
    if error:
        raise HandlerError(f"the peer answered: {error[:200]!r}")
    return None


def parse_node_list_untrusted(reply: bytes | memoryview, max_count: int) -> list[NodeRecord]:
    """The well-formed ones among the first ``max_count`` nodes of a NodeList; what stands behind
    these, which may be megabytes, is not looked at.

    A node is left out when its endpoint is malformed or its key is longer than any.
    """
    first = islice(repeated_untrusted(reply, _NODES), max(max_count, 0))
    records = (_parse_node_untrusted(body) for _, body in first if len(body) <= MAX_NODE_BYTES)
    return [record for record in records if record is not None]


def _parse_node_untrusted(body: memoryview) -> NodeRecord | None:
    try:
        node = NodeInfo.FromString(bytes(body))
    except DecodeError as exc:
        raise MalformedError(f"not a NodeInfo: {exc}") from exc
    try:
        endpoint = Endpoint.parse_untrusted(node.endpoint)
    except MalformedError:
        return None
    return NodeRecord(endpoint, node.pubkey) if len(node.pubkey) <= MAX_PUBLIC_KEY_SIZE else None


def parse_block_request_untrusted(request: bytes) -> bytes | None:
    """The hash that a BlockRequest asks for, or None when it names none."""
    try:
        return BlockRequest.FromString(request).hash.value or None
    except DecodeError as exc:
        raise MalformedError(f"not a BlockRequest: {exc}") from exc


def parse_blocks_request_untrusted(request: bytes) -> tuple[bytes | None, int]:
    """The previous hash that a BlocksRequest names, if any, and the count it asks for."""
    try:
        message = BlocksRequest.FromString(request)
    except DecodeError as exc:
        raise MalformedError(f"not a BlocksRequest: {exc}") from exc
    return message.previous_block_hash.value or None, message.count


def parse_nodes_request_untrusted(request: bytes) -> int:
    """How many nodes a NodesRequest asks for; any int32."""
    try:
        return NodesRequest.FromString(request).max_count
    except DecodeError as exc:
        raise MalformedError(f"not a NodesRequest: {exc}") from exc


def encode_block_reply(raw_block: bytes | None) -> bytes:
    """The bytes of a BlockReply, of those of its block; without one an empty reply."""
    return b"" if raw_block is None else encode_message_field(2, raw_block)


def encode_block_list(raw_blocks: Iterable[bytes]) -> bytes:
    """The bytes of a BlockList, of those of its blocks."""
    return b"".join(encode_message_field(1, raw_block) for raw_block in raw_blocks)


def encode_node_list(records: Iterable[NodeRecord]) -> bytes:
    """The bytes of a NodeList."""
    nodes = [NodeInfo(endpoint=str(node.endpoint), pubkey=node.public_key) for node in records]
    return NodeList(nodes=nodes).SerializeToString()
