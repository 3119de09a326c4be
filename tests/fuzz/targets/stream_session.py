"""What a peer says on its stream, once it has shaken hands. The input is a list of messages.

With the peer's layout learned the session does just what it does without.
"""

from collections.abc import Iterator
from random import Random

import trio

from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.block import Block
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import encode_block_request
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.peers.stream_session import StreamSession
from aelf_p2p.wire import MessageType, StreamMessage
from tests.fuzz.inputs import join_list, mutate_messages, split_list
from tests.fuzz.targets import block, handshake
from tests.peers.foreign_side import SESSIONS, THEIR_KEY, make_peer

mutate = mutate_messages
MAX_BYTES = 16_384
OPTIONS = NetworkOptions(max_serving_requests=3)
PREFIX = request_prefix(THEIR_KEY, SESSIONS.ours)


def _request(message_type: int, payload: bytes = b"", number: int = 1) -> bytes:
    return PREFIX + envelope_body(message_type, f"1700000000000_{number}", payload)


def seeds() -> Iterator[bytes]:
    kind = MessageType
    transaction = Transaction.build(
        from_address=bytes(32), to_address=b"\1" * 32, method_name="Transfer", params=b"some"
    )
    transactions = [_request(kind.TRANSACTION_BROADCAST, transaction.raw, n) for n in range(4)]
    yield join_list(*transactions)
    yield join_list(*transactions[:2], _request(kind.TRANSACTION_BROADCAST, b"none"), *transactions)
    announcement = Announcement(bytes(32), 7).encode()
    made_block = next(iter(block.seeds()))
    yield join_list(
        _request(kind.ANNOUNCEMENT_BROADCAST, announcement),
        _request(kind.LIB_ANNOUNCEMENT_BROADCAST, announcement),
        _request(kind.BLOCK_BROADCAST, made_block),
        _request(kind.BLOCK_BROADCAST, made_block[:-1]),
    )
    asked = [_request(kind.REQUEST_BLOCK, encode_block_request(bytes(32)), n) for n in range(5)]
    yield join_list(*asked, _request(kind.GET_NODES), _request(99), _request(kind.PING))
    yield join_list(_request(kind.CONFIRM_HAND_SHAKE), _request(kind.DISCONNECT), *transactions)
    yield join_list(_request(kind.HAND_SHAKE, next(iter(handshake.seeds()))), *transactions)
    wrong = request_prefix(THEIR_KEY, bytes(16)) + envelope_body(kind.GET_NODES, "1")
    yield join_list(*[wrong] * 4)
    yield join_list(request_prefix(bytes(65), None) + envelope_body(kind.PING, "1"))
    yield join_list(reply_prefix(bytes(5)) + envelope_body(kind.PING, "1"))
    # The layout of a C# node: type, id and message between two parts.
    meta = StreamMessage.FromString(PREFIX)
    meta.ClearField("stream_type")
    behind = meta.SerializeToString()
    yield join_list(*(b"\x08\x01" + each.removeprefix(PREFIX) + behind for each in transactions))


def target(data: bytes) -> bool:
    messages = split_list(data)
    told, is_open = trio.run(_taken, messages, True)
    assert (told, is_open) == trio.run(_taken, messages, False), "a layout changes what is done"
    return is_open and bool(messages)


async def _taken(messages: list[bytes], learns: bool) -> tuple[list[object], bool]:
    """All that came of them, and whether the peer is still open."""
    peer, _, handler = make_peer(options=OPTIONS)
    said: list[bytes] = []
    session = StreamSession(
        peer=peer,
        sessions=SESSIONS,
        handler=handler,
        options=OPTIONS,
        reply_prefix=b"",
        post_nowait=said.append,
        send_nowait=said.append,
        is_full=lambda: False,
        acknowledge_many=lambda messages, begin: 0,
        match_reply=lambda reply, message, data: False,
        confirm=peer.confirmed_by_peer,
    )
    if learns:
        for cut in _reads(messages):
            await session.take_untrusted(cut)
    else:
        for message in messages:
            session._layout = None
            await session.take_untrusted([message])
    with trio.move_on_after(1) as patience:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.work)
            for _ in range(2 * OPTIONS.max_serving_requests):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not patience.cancelled_caught
    hashes = [each.hash if isinstance(each, Block) else each for each in handler.contents]
    outcome = [said, hashes, handler.requests, session.ignored, peer.close_reason, peer.status]
    return outcome, peer.close_reason is None


def _reads(messages: list[bytes]) -> Iterator[list[bytes]]:
    rng = Random(len(messages))
    at = 0
    while at < len(messages):
        size = rng.randrange(1, 9)
        yield messages[at : at + size]
        at += size
