"""What a peer is answered, whichever way its request came (protocol §4, "Answering")."""

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import MIB
from aelf_p2p.core.payloads import (
    NodeRecord,
    encode_block_list,
    encode_block_reply,
    encode_node_list,
    parse_block_request_untrusted,
    parse_blocks_request_untrusted,
    parse_nodes_request_untrusted,
)
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.wire import MessageType

MAX_BLOCK_BYTES = 99 * MIB
"""A larger block is not given: the limit of a message is 100 MiB, its envelope included."""


class Answers:
    """Answers requests for blocks and nodes out of the store and the pool.

    So many at once, however many peers ask: each answer may weigh a hundred megabytes.
    """

    def __init__(self, context: NetworkContext) -> None:
        self._context = context
        self._room = trio.CapacityLimiter(context.options.max_answers_at_once)

    async def answer(self, peer: Peer, message_type: int, request: bytes) -> bytes:
        """The reply's bytes. Raises MalformedError when the request cannot be parsed."""
        if message_type == MessageType.REQUEST_BLOCK:
            async with self._room:
                return await self._block(peer, request)
        if message_type == MessageType.REQUEST_BLOCKS:
            async with self._room:
                return await self._blocks(request)
        if message_type == MessageType.GET_NODES:
            return self._nodes(peer, request)
        raise MisuseError(f"message type {message_type} is no request for blocks or nodes")

    async def _block(self, peer: Peer, request: bytes) -> bytes:
        block_hash = parse_block_request_untrusted(request)
        if block_hash is None or not self._context.sync.finished:
            return encode_block_reply(None)
        raw_block = await self._context.store.get_raw_block(block_hash)
        if raw_block is not None and len(raw_block) > MAX_BLOCK_BYTES:
            raw_block = None
        if raw_block is not None:
            known = self._context.known.blocks
            known.add(block_hash, peer.bit, trio.current_time())
        return encode_block_reply(raw_block)

    async def _blocks(self, request: bytes) -> bytes:
        previous_hash, count = parse_blocks_request_untrusted(request)
        options = self._context.options
        most = options.max_blocks_per_request
        if previous_hash is None or not 0 < count <= most or not self._context.sync.finished:
            return encode_block_list(())
        raw_blocks = await self._context.store.raw_blocks_after(
            previous_hash, count, max_bytes=options.max_blocks_reply_bytes
        )
        if len(raw_blocks) == 1 and len(raw_blocks[0]) > MAX_BLOCK_BYTES:
            raw_blocks = []
        return encode_block_list(raw_blocks)

    def _nodes(self, asker: Peer, request: bytes) -> bytes:
        context = self._context
        most = min(parse_nodes_request_untrusted(request), context.options.max_nodes_per_reply)
        others = [peer for peer in context.shuffled_ready_peers() if peer is not asker]
        return encode_node_list(
            NodeRecord(peer.info.endpoint, peer.info.public_key) for peer in others[: max(most, 0)]
        )
