"""What a peer is answered (protocol §4, "Answering"; §6). Requests and replies by AElf's protos."""

import network_types_pb2 as foreign
import pytest
import trio
import trio.testing

from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services import answers
from aelf_p2p.testing.fakes import FakePeer
from aelf_p2p.wire import MessageType
from tests.services.support import Services, identity, make_chain, make_transaction, stored

GENESIS = bytes(32)
CHAIN = make_chain(60, transactions=(make_transaction(),))
FORK = make_chain(2, after=CHAIN[9], producer=identity(2000))


async def synced(options: NetworkOptions | None = None) -> Services:
    services = Services(store=await stored(CHAIN), options=options or NetworkOptions())
    for block in FORK:
        await services.store.put_block(block)
    return services


async def ask_block(services: Services, block_hash: bytes | None, peer: FakePeer) -> Block | None:
    request = foreign.BlockRequest()
    if block_hash is not None:
        request.hash.value = block_hash
    raw = request.SerializeToString()
    reply = await services.answers.answer(peer, MessageType.REQUEST_BLOCK, raw)
    message = foreign.BlockReply.FromString(reply)
    assert message.error == ""
    if not message.HasField("block"):
        assert reply == b""
        return None
    return Block.parse_untrusted(message.block.SerializeToString())


async def ask_blocks(services: Services, previous: bytes | None, count: int) -> list[Block]:
    request = foreign.BlocksRequest(count=count)
    if previous is not None:
        request.previous_block_hash.value = previous
    raw = request.SerializeToString()
    reply = await services.answers.answer(FakePeer(1), MessageType.REQUEST_BLOCKS, raw)
    blocks = foreign.BlockList.FromString(reply).blocks
    return [Block.parse_untrusted(block.SerializeToString()) for block in blocks]


async def test_a_block() -> None:
    services = await synced()
    assert await ask_block(services, CHAIN[4].hash, FakePeer(1)) == CHAIN[4]


async def test_so_many_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    services = await synced(NetworkOptions(max_answers_at_once=3))
    looking = most = 0
    get_raw_block = services.store.get_raw_block

    async def counted(block_hash: bytes) -> bytes | None:
        nonlocal looking, most
        looking += 1
        most = max(most, looking)
        await trio.testing.wait_all_tasks_blocked()
        looking -= 1
        return await get_raw_block(block_hash)

    monkeypatch.setattr(services.store, "get_raw_block", counted)
    found: list[Block | None] = []

    async def ask(number: int) -> None:
        found.append(await ask_block(services, CHAIN[number].hash, FakePeer(number + 1)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
    assert most == 3
    assert {block.height for block in found if block} == set(range(1, 11))


async def test_a_block_of_a_fork_can_be_had_too() -> None:
    services = await synced()
    assert await ask_block(services, FORK[1].hash, FakePeer(1)) == FORK[1]


@pytest.mark.parametrize("block_hash", [None, b"", b"u" * 32, b"short", bytes(32), b"l" * 100])
async def test_no_block_for_no_hash_or_an_unknown_one(block_hash: bytes | None) -> None:
    services = await synced()
    assert await ask_block(services, block_hash, FakePeer(1)) is None


@pytest.mark.parametrize("state", [SyncState.NOT_STARTED, SyncState.SYNCING])
async def test_no_blocks_while_not_synced(state: SyncState) -> None:
    services = await synced()
    services.context.sync.state = state
    assert await ask_block(services, CHAIN[4].hash, FakePeer(1)) is None
    assert await ask_blocks(services, CHAIN[4].hash, 10) == []


async def test_what_a_peer_asked_for_is_known_to_it() -> None:
    services = await synced()
    asker, other = services.add_peers(2)
    assert await ask_block(services, CHAIN[59].hash, asker)
    assert services.network.announce_block(CHAIN[59]).known == 1
    assert asker.enqueued == []
    assert len(other.enqueued) == 1


async def test_a_block_that_a_peer_did_not_get_is_not_known_to_it() -> None:
    services = await synced()
    services.context.sync.state = SyncState.SYNCING
    [asker] = services.add_peers(1)
    await ask_block(services, CHAIN[59].hash, asker)
    services.context.sync.state = SyncState.FINISHED
    assert services.network.announce_block(CHAIN[59]).queued == 1


@pytest.mark.fault(65)
@pytest.mark.parametrize("count", [-1, 0, 51, 2**31 - 1, -(2**31)])
async def test_no_blocks_for_a_count_out_of_range(count: int) -> None:
    services = await synced()
    assert await ask_blocks(services, CHAIN[0].hash, count) == []


@pytest.mark.parametrize("count", [1, 10, 50])
async def test_as_many_blocks_as_asked_for_without_the_named_one(count: int) -> None:
    services = await synced()
    assert await ask_blocks(services, CHAIN[4].hash, count) == CHAIN[5 : 5 + count]


async def test_fewer_blocks_at_the_end_of_the_chain() -> None:
    services = await synced()
    assert await ask_blocks(services, CHAIN[56].hash, 50) == CHAIN[57:]
    assert await ask_blocks(services, CHAIN[59].hash, 50) == []


async def test_blocks_from_the_first_one() -> None:
    services = await synced()
    assert await ask_blocks(services, GENESIS, 3) == CHAIN[:3]


@pytest.mark.parametrize("previous", [None, b"", b"u" * 32, b"short"])
async def test_no_blocks_after_no_hash_or_an_unknown_one(previous: bytes | None) -> None:
    services = await synced()
    assert await ask_blocks(services, previous, 10) == []


async def test_no_blocks_after_one_off_the_best_chain() -> None:
    services = await synced()
    assert await ask_blocks(services, FORK[0].hash, 10) == []


async def test_a_reply_holds_no_more_blocks_than_a_message_may_weigh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = len(CHAIN[5].encode())
    assert {len(block.encode()) for block in CHAIN[5:10]} == {size}
    for room, count in ((3 * size, 3), (3 * size - 1, 2), (size, 1), (1, 1)):
        options = NetworkOptions(max_blocks_reply_bytes=room)
        services = await synced(options)
        assert await ask_blocks(services, CHAIN[4].hash, 50) == CHAIN[5 : 5 + count]
    # one block may be larger than that, up to what a message may weigh
    for most, given in ((size, CHAIN[5]), (size - 1, None)):
        monkeypatch.setattr(answers, "MAX_BLOCK_BYTES", most)
        assert await ask_block(services, CHAIN[5].hash, FakePeer(1)) == given
        assert await ask_blocks(services, CHAIN[4].hash, 50) == ([given] if given else [])


# --- nodes ----------------------------------------------------------------------------------------


async def ask_nodes(services: Services, max_count: int, asker: FakePeer) -> list[tuple[str, bytes]]:
    raw = foreign.NodesRequest(max_count=max_count).SerializeToString()
    reply = await services.answers.answer(asker, MessageType.GET_NODES, raw)
    return [(node.endpoint, node.pubkey) for node in foreign.NodeList.FromString(reply).nodes]


def told(peer: FakePeer) -> tuple[str, bytes]:
    return f"{peer.info.endpoint.host}:6800", peer.info.public_key


@pytest.mark.fault(66)
@pytest.mark.parametrize(
    ("max_count", "given"), [(-(2**31), 0), (-1, 0), (0, 0), (1, 1), (10, 10), (11, 10), (1000, 10)]
)
async def test_how_many_nodes(max_count: int, given: int) -> None:
    services = Services()
    asker, *others = services.add_peers(20)
    nodes = await ask_nodes(services, max_count, asker)
    assert len(nodes) == len(set(nodes)) == given
    assert set(nodes) <= {told(peer) for peer in others}


async def test_the_asker_and_peers_that_are_not_ready_are_left_out() -> None:
    services = Services()
    asker, other = services.add_peers(2)
    services.add_peers(1, confirmed=False)
    assert await ask_nodes(services, 10, asker) == [told(other)]


async def test_nodes_are_drawn_at_random() -> None:
    services = Services()
    asker, *others = services.add_peers(20)
    seen = {node for _ in range(20) for node in await ask_nodes(services, 5, asker)}
    assert seen == {told(peer) for peer in others}


async def test_nodes_are_told_while_not_synced_too() -> None:
    services = Services(state=SyncState.SYNCING)
    asker, other = services.add_peers(2)
    assert await ask_nodes(services, 10, asker) == [told(other)]


@pytest.mark.parametrize(
    "kind", [MessageType.REQUEST_BLOCK, MessageType.REQUEST_BLOCKS, MessageType.GET_NODES]
)
async def test_garbage_is_malformed(kind: int) -> None:
    with pytest.raises(MalformedError):
        await Services().answers.answer(FakePeer(1), kind, b"\xff\xff\xff")


async def test_other_types_are_misuse() -> None:
    with pytest.raises(MisuseError):
        await Services().answers.answer(FakePeer(1), MessageType.PING, b"")
