"""Our node and a foreign one shake hands where either is of the old kind: each dials the other."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import pytest
import trio

from aelf_p2p import (
    Endpoint,
    HandshakeRefusedError,
    NetworkError,
    NetworkOptions,
    Node,
    PeerConnected,
)
from tests.wire_foreign.foreign_chain import block_hash, make_chain
from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_handshake import judge
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import NEW_VERSION, OLD_VERSION, ForeignNode
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.old_support import (
    PAIR_IDS,
    PAIRS,
    methods_of,
    old_connection,
    open_ours_old,
)
from tests.wire_foreign.relay import Relay
from tests.wire_foreign.support import in_thread, open_foreign, open_ours, threaded, wait_event

BLOCKS = make_chain(ForeignKey(), 3)
REFUSALS = [error for error in types.HandshakeError.values() if error != types.HANDSHAKE_OK]


@pytest.fixture(params=PAIRS, ids=PAIR_IDS)
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Node, ForeignNode]]:
    ours, theirs = request.param
    async with (
        open_foreign(node_version=theirs) as foreign,
        open_ours_old(BLOCKS, node_version=ours) as node,
    ):
        yield node, foreign


@pytest.fixture
async def foreign() -> AsyncIterator[ForeignNode]:
    async with open_foreign(node_version=OLD_VERSION) as foreign:
        yield foreign


@pytest.fixture(params=[NEW_VERSION, OLD_VERSION])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    async with open_ours_old(node_version=request.param) as node:
        yield node


@pytest.fixture
async def dial(node: Node, foreign: ForeignNode) -> AsyncIterator[ForeignDial]:
    async with threaded(partial(foreign.dial, node.endpoint.port)) as dial:
        yield dial


# --- the foreign node dials -----------------------------------------------------------------------


async def test_a_dialer_is_dialed_back_and_pinged_once_before_it_is_answered(
    nodes: tuple[Node, ForeignNode],
) -> None:
    node, foreign = nodes
    with node.subscribe() as events:
        async with threaded(partial(foreign.dial, node.endpoint.port)) as dial:
            sent = foreign.new_handshake()
            reply = await in_thread(dial.send_handshake, sent)
            [ping] = foreign.server.calls.items
            assert reply.error == types.HANDSHAKE_OK
            assert judge(reply.handshake, foreign.key) == types.HANDSHAKE_OK
            data = reply.handshake.handshake_data
            assert data.pubkey == node.public_key
            assert data.listening_port == node.endpoint.port
            assert data.best_chain_hash.value == block_hash(BLOCKS[2])
            assert abs(time.time_ns() - data.time.ToNanoseconds()) < 1_500_000_000
            assert ping.method == "Ping"
            assert ping.metadata["public-key"] == node.public_key.hex()
            assert ping.time_left_s is not None
            assert 0 < ping.time_left_s <= 3

            peer = node.peer(foreign.key.public)
            assert peer is not None
            assert node.peers() == []
            session = dial.metadata(reply.handshake.session_id)
            assert await in_thread(dial.call, "ConfirmHandshake", metadata=session) == b""
            connected = await wait_event(events, PeerConnected)
            assert connected.peer.public_key == foreign.key.public
            assert connected.peer.inbound
            assert connected.peer.endpoint == Endpoint("127.0.0.1", foreign.port)
            assert connected.peer.node_version == foreign.node_version
            assert node.peers() == [peer]
            assert methods_of(foreign)[0] == "Ping"
            assert "Ping" not in methods_of(foreign)[1:]


async def test_a_relayed_dialer_is_dialed_back_at_the_port_that_it_announced(
    node: Node, foreign: ForeignNode
) -> None:
    async with (
        threaded(partial(Relay, foreign.port)) as relay,
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        reply = await in_thread(dial.do_handshake, listening_port=relay.port)
        assert reply.error == types.HANDSHAKE_OK
        assert methods_of(foreign) == ["Ping"]
        assert relay.bytes_to_dialer > 1000


@pytest.mark.parametrize("version", ["", "x", "1.4", "1.4.0", "0.0"])
async def test_what_is_no_version_of_the_new_kind_is_old(
    node: Node, foreign: ForeignNode, dial: ForeignDial, version: str
) -> None:
    reply = await in_thread(dial.do_handshake, node_version=version)
    assert reply.error == types.HANDSHAKE_OK
    assert methods_of(foreign) == ["Ping"]


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_a_port_that_is_none_ends_the_call(
    node: Node, foreign: ForeignNode, dial: ForeignDial, port: int
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await in_thread(dial.do_handshake, listening_port=port)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN)
    assert node.peer(foreign.key.public) is None
    assert (await in_thread(dial.do_handshake)).error == types.HANDSHAKE_OK


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chain_id": 1}, types.CHAIN_MISMATCH),
        ({"version": 2}, types.PROTOCOL_MISMATCH),
        ({"age_ns": 1_600_000_000}, types.SIGNATURE_TIMEOUT),
        ({"signature": bytes(65)}, types.WRONG_SIGNATURE),
    ],
)
async def test_nobody_is_dialed_back_for_a_handshake_that_is_wrong(
    node: Node,
    foreign: ForeignNode,
    dial: ForeignDial,
    changes: dict[str, Any],
    code: types.HandshakeError,
) -> None:
    assert (await in_thread(dial.do_handshake, **changes)).error == code
    assert foreign.server.calls.items == []
    assert node.peer(foreign.key.public) is None


async def test_a_port_where_nobody_listens_is_an_invalid_connection(
    node: Node, foreign: ForeignNode, dial: ForeignDial
) -> None:
    async with open_foreign() as gone:
        port = gone.port
    reply = await in_thread(dial.do_handshake, listening_port=port)
    assert reply.error == types.INVALID_CONNECTION
    assert not reply.HasField("handshake")
    assert node.peer(foreign.key.public) is None
    # The mark of a handshake under way is gone after a failure (protocol §6).
    assert (await in_thread(dial.do_handshake)).error == types.HANDSHAKE_OK


async def test_so_is_a_port_where_nobody_says_a_word(foreign: ForeignNode) -> None:
    options = NetworkOptions(dial_timeout_s=0.3)
    silent = trio.socket.socket()
    with silent:
        await silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with (
            open_ours_old(options=options) as node,
            threaded(partial(foreign.dial, node.endpoint.port)) as dial,
        ):
            began = trio.current_time()
            reply = await in_thread(dial.do_handshake, listening_port=silent.getsockname()[1])
            assert reply.error == types.INVALID_CONNECTION
            assert trio.current_time() - began < 3


async def test_so_is_one_that_answers_no_ping(
    node: Node, foreign: ForeignNode, dial: ForeignDial
) -> None:
    foreign.server.faults["Ping"] = [grpc.StatusCode.INTERNAL] * 2
    reply = await in_thread(dial.do_handshake)
    assert reply.error == types.INVALID_CONNECTION
    assert node.peer(foreign.key.public) is None


async def test_a_dialer_without_a_private_network_is_not_dialed_back(foreign: ForeignNode) -> None:
    """Loopback is private, and whoever asks could name any service of this machine."""
    async with (
        open_ours() as node,
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        reply = await in_thread(dial.do_handshake)
        assert reply.error in (types.INVALID_CONNECTION, types.CONNECTION_REFUSED)
        assert foreign.server.calls.items == []
        assert node.peer(foreign.key.public) is None


async def test_a_second_handshake_is_refused_while_the_first_is_under_way(
    node: Node, foreign: ForeignNode, dial: ForeignDial
) -> None:
    foreign.server.may_pong.clear()
    replies: list[types.HandshakeReply] = []

    async def shake_hands() -> None:
        replies.append(await in_thread(dial.do_handshake))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands)
        await in_thread(foreign.server.calls.wait_for, lambda call: call.method == "Ping")
        second = await in_thread(dial.do_handshake)
        foreign.server.may_pong.set()
    assert second.error == types.CONNECTION_REFUSED
    assert [reply.error for reply in replies] == [types.HANDSHAKE_OK]


async def test_a_key_that_is_connected_is_refused(node: Node, foreign: ForeignNode) -> None:
    async with old_connection(node, foreign, ours_dials=False) as connection:
        async with threaded(partial(foreign.dial, node.endpoint.port)) as again:
            assert (await in_thread(again.do_handshake)).error == types.REPEATED_CONNECTION
        assert node.peers() == [connection.peer]
        await connection.peer.check_health(timeout_s=WAIT_S)
        assert await in_thread(connection.back.call, "CheckHealth") == b""


async def test_a_full_node_refuses(foreign: ForeignNode) -> None:
    async with (
        open_foreign(node_version=OLD_VERSION) as other,
        open_ours_old(options=NetworkOptions(max_peers=1, max_guests=0)) as node,
        old_connection(node, other, ours_dials=False),
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        assert (await in_thread(dial.do_handshake)).error == types.CONNECTION_REFUSED
        assert foreign.server.calls.items == []


async def test_a_dialer_that_never_confirms_is_removed(foreign: ForeignNode) -> None:
    options = NetworkOptions(unconfirmed_timeout_s=0.3)
    async with (
        open_ours_old(options=options) as node,
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        await in_thread(dial.do_handshake)
        peer = node.peer(foreign.key.public)
        assert peer is not None
        with trio.fail_after(WAIT_S):
            await peer.wait_closed()
        assert node.peer(foreign.key.public) is None
        assert (await in_thread(dial.do_handshake)).error == types.HANDSHAKE_OK


# --- our node dials -------------------------------------------------------------------------------


async def test_what_the_acceptor_sees(nodes: tuple[Node, ForeignNode]) -> None:
    node, foreign = nodes
    async with old_connection(node, foreign, ours_dials=True) as connection:
        connected = await wait_event(connection.events, PeerConnected)
        assert connected.peer == connection.peer.info
        assert connected.peer.public_key == foreign.key.public
        assert connected.peer.endpoint == Endpoint("127.0.0.1", foreign.port)
        assert connected.peer.node_version == foreign.node_version
        assert not connected.peer.inbound
        do_handshake, confirm = foreign.server.calls.items
        key = node.public_key.hex()
        assert do_handshake.method == "DoHandshake"
        assert do_handshake.metadata["public-key"] == key
        assert do_handshake.time_left_s is not None
        assert 3 < do_handshake.time_left_s <= 6
        assert confirm.method == "ConfirmHandshake"
        assert confirm.metadata["public-key"] == key
        assert confirm.metadata["session-id-bin"] == connection.back.session_in
        assert confirm.time_left_s is not None
        assert 0 < confirm.time_left_s <= 3
        assert connection.back.confirmed.is_set()
        assert connection.back.inbound


@pytest.mark.parametrize("version", ["", "x", "1.4"])
async def test_an_acceptor_of_no_version_of_the_new_kind_is_old(node: Node, version: str) -> None:
    async with (
        open_foreign(node_version=version) as foreign,
        old_connection(node, foreign, ours_dials=True) as connection,
    ):
        await connection.peer.check_health(timeout_s=WAIT_S)
        assert await in_thread(connection.back.call, "CheckHealth") == b""


@pytest.mark.parametrize("code", REFUSALS, ids=types.HandshakeError.Name)
async def test_the_refusal_of_a_handshake_is_told_by_its_code(
    node: Node, foreign: ForeignNode, code: types.HandshakeError
) -> None:
    foreign.refuse_handshake = code
    with pytest.raises(HandshakeRefusedError) as caught:
        await node.connect(f"127.0.0.1:{foreign.port}")
    assert caught.value.code == code
    assert methods_of(foreign) == ["DoHandshake"]
    assert node.peer(foreign.key.public) is None


@pytest.mark.parametrize("version", [NEW_VERSION, OLD_VERSION])
async def test_a_node_that_announces_a_wrong_port_is_refused(
    foreign: ForeignNode, version: str
) -> None:
    async with open_foreign() as gone:
        port = gone.port
    async with open_ours_old(node_version=version, announce_port=port) as node:
        with pytest.raises(HandshakeRefusedError) as caught:
            await node.connect(f"127.0.0.1:{foreign.port}")
        assert caught.value.code == types.INVALID_CONNECTION
        assert node.peer(foreign.key.public) is None


async def test_a_confirmation_that_fails_empties_the_pool(node: Node, foreign: ForeignNode) -> None:
    foreign.server.faults["ConfirmHandshake"] = [grpc.StatusCode.INTERNAL] * 2
    with pytest.raises(NetworkError):
        await node.connect(f"127.0.0.1:{foreign.port}")
    assert node.peer(foreign.key.public) is None
    assert methods_of(foreign)[:3] == ["DoHandshake", "ConfirmHandshake", "ConfirmHandshake"]


async def test_a_confirmation_that_fails_once_is_sent_again(
    node: Node, foreign: ForeignNode
) -> None:
    foreign.server.faults["ConfirmHandshake"] = [grpc.StatusCode.UNAVAILABLE]
    async with old_connection(node, foreign, ours_dials=True) as connection:
        assert connection.back.confirmed.is_set()
        assert node.peers() == [connection.peer]


@pytest.mark.parametrize("ours_dials", [False, True], ids=["foreign dialed", "ours dialed"])
async def test_dialing_a_node_that_is_connected_changes_nothing(
    node: Node, foreign: ForeignNode, ours_dials: bool
) -> None:
    async with old_connection(node, foreign, ours_dials=ours_dials) as connection:
        assert await node.connect(f"127.0.0.1:{foreign.port}") is connection.peer
        assert foreign.pool.peers() == [connection.back]
        await connection.peer.check_health(timeout_s=WAIT_S)
        assert await in_thread(connection.back.call, "CheckHealth") == b""
