"""What our node answers to a foreign node's handshake that it does not take.

HandshakeError where the protocol has one; INVALID_ARGUMENT where a C# node throws.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import pytest

from aelf_p2p import Identity, NetworkOptions, Node
from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import ForeignNode
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.support import in_thread, open_foreign, open_ours, threaded

STALE_NS = 1_600_000_000
SIGNATURE = ForeignKey().sign(b"something else")

REFUSED: dict[str, tuple[dict[str, Any], types.HandshakeError]] = {
    "another chain": ({"chain_id": 1866392}, types.CHAIN_MISMATCH),
    "protocol version 2": ({"version": 2}, types.PROTOCOL_MISMATCH),
    "protocol version 0": ({"drop": ["version"]}, types.PROTOCOL_MISMATCH),
    "a stale time": ({"age_ns": STALE_NS}, types.SIGNATURE_TIMEOUT),
    "a future time": ({"age_ns": -60_000_000_000}, types.SIGNATURE_TIMEOUT),
    "a signature of another key": ({"signature": SIGNATURE}, types.WRONG_SIGNATURE),
    "no signature": ({"signature": b""}, types.WRONG_SIGNATURE),
    "recovery id 4": ({"signature": SIGNATURE[:64] + b"\x04"}, types.WRONG_SIGNATURE),
    "recovery id 255": ({"signature": SIGNATURE[:64] + b"\xff"}, types.WRONG_SIGNATURE),
    "no version": ({"node_version": ""}, types.INVALID_CONNECTION),
    "a version that is none": ({"node_version": "x"}, types.INVALID_CONNECTION),
    "a version without a stream": ({"node_version": "1.4"}, types.INVALID_CONNECTION),
    "the first fault counts": ({"chain_id": 1, "version": 2, "age_ns": STALE_NS}, 1),  # type: ignore[dict-item]
}
MALFORMED: dict[str, dict[str, Any]] = {
    "port -1": {"listening_port": -1},
    "port 0": {"listening_port": 0},
    "port 65536": {"listening_port": 65536},
    "no time": {"drop": ["time"]},
    "no key": {"drop": ["pubkey"]},
    "half a key": {"pubkey": b"\x04" + bytes(32)},
    "no session": {"session_id": b""},
    "a negative height": {"best_chain_height": -1},
}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with open_ours() as node:
        yield node


@pytest.fixture
async def foreign() -> AsyncIterator[ForeignNode]:
    async with open_foreign() as node:
        yield node


@pytest.fixture
async def dial(node: Node, foreign: ForeignNode) -> AsyncIterator[ForeignDial]:
    async with threaded(partial(foreign.dial, node.endpoint.port)) as dial:
        yield dial


async def refusal_of(dial: ForeignDial, **changes: Any) -> types.HandshakeError:
    """What both handshakes are refused with; the stream then ends."""
    by_call = await in_thread(dial.do_handshake, **changes)
    assert not by_call.HasField("handshake")
    stream = dial.open_stream()
    by_stream = await in_thread(stream.shake_hands, **changes)
    assert not by_stream.HasField("handshake")
    assert by_call.error == by_stream.error
    assert await in_thread(stream.ended.result, WAIT_S) is grpc.StatusCode.OK
    error: types.HandshakeError = by_call.error
    return error


@pytest.mark.fault(46)
@pytest.mark.parametrize("what", REFUSED)
async def test_a_wrong_handshake_is_refused_by_its_code(
    node: Node, foreign: ForeignNode, dial: ForeignDial, what: str
) -> None:
    changes, code = REFUSED[what]
    assert await refusal_of(dial, **changes) == code
    assert node.peer(foreign.key.public) is None


@pytest.mark.fault(38)
@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_handshake_ends_the_call(
    node: Node, foreign: ForeignNode, dial: ForeignDial, what: str
) -> None:
    changes = MALFORMED[what]
    with pytest.raises(grpc.RpcError) as caught:
        await in_thread(dial.do_handshake, **changes)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    stream = dial.open_stream()
    with pytest.raises(EOFError):
        await in_thread(stream.shake_hands, **changes)
    ended = await in_thread(stream.ended.result, WAIT_S)
    assert ended is grpc.StatusCode.INVALID_ARGUMENT
    assert node.peer(foreign.key.public) is None
    assert (await in_thread(dial.do_handshake)).error == types.HANDSHAKE_OK


@pytest.mark.parametrize("request_", [b"", b"\x0a\x00", b"\xff"])
async def test_a_request_that_holds_no_handshake_ends_the_call(
    dial: ForeignDial, request_: bytes
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await in_thread(dial.call, "DoHandshake", request_, metadata=dial.metadata())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.fault(52)
async def test_our_own_key_is_refused() -> None:
    own = Identity.generate()
    async with (
        open_ours(identity=own) as node,
        open_foreign(key=ForeignKey(own.private_key)) as double,
        threaded(partial(double.dial, node.endpoint.port)) as dial,
    ):
        assert await refusal_of(dial) == types.CONNECTION_REFUSED


async def test_a_key_that_is_not_authorized_is_refused(foreign: ForeignNode) -> None:
    async with (
        open_ours(authorized_keys=frozenset({ForeignKey().public})) as node,
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        assert await refusal_of(dial) == types.CONNECTION_REFUSED


async def test_a_future_time_is_fine_where_the_operator_says_so(foreign: ForeignNode) -> None:
    options = NetworkOptions(handshake_max_ahead_s=0)
    async with (
        open_ours(options=options) as node,
        threaded(partial(foreign.dial, node.endpoint.port)) as dial,
    ):
        reply = await in_thread(dial.do_handshake, age_ns=-60_000_000_000)
        assert reply.error == types.HANDSHAKE_OK


@pytest.mark.parametrize("claimed", ["another", "none"])
async def test_the_header_names_the_key_that_the_handshake_proves(
    node: Node, foreign: ForeignNode, dial: ForeignDial, claimed: str
) -> None:
    stream = dial.open_stream(key_hex=ForeignKey().hex if claimed == "another" else "none")
    with pytest.raises(EOFError):
        await in_thread(stream.shake_hands)
    assert await in_thread(stream.ended.result, WAIT_S) is grpc.StatusCode.CANCELLED
    assert node.peer(foreign.key.public) is None


async def test_a_second_connection_of_a_peer_that_is_alive_is_refused(
    node: Node, foreign: ForeignNode, dial: ForeignDial
) -> None:
    first = await in_thread(dial.connect)
    async with threaded(partial(foreign.dial, node.endpoint.port)) as again:
        assert (await in_thread(again.do_handshake)).error == types.HANDSHAKE_OK
        reply = await in_thread(again.open_stream().shake_hands)
    assert reply.error == types.REPEATED_CONNECTION
    assert not first.ended.done()
